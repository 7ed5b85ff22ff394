"""Measures: how sharp, how faithful, how well aligned.

sharpness.py   Q in its three definitions
fidelity.py    PSNR and SSIM
colour.py      mean CIEDE2000
truth.py       what is known of a simulated shoot
alignment.py   a build scored against that truth
"""
