"""Measures: how sharp, how faithful, how well aligned.

sharpness.py   Q in its three definitions
fidelity.py    PSNR and SSIM
perceptual.py  LPIPS, which needs torch and weights
weights.py     where those weights come from, and how they are read safely
metrics.py     all of these by name, with full names
luma.py        the channel they are measured on, from a file
colour.py      mean CIEDE2000
truth.py       what is known of a simulated shoot
alignment.py   a build scored against that truth
"""
