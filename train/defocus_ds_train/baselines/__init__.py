"""Classical restoration of a known blur: the rows of MMSP 2024's Table II that need no training.

blur.py        the known blur as an operator: apply, invert with a regulariser
noise.py       noise level of a single image
defilter.py    Belyaev & Fayolle 2022: aL, mRL, mLM, which only ever call the operator
red.py         Romano, Elad & Milanfar 2017: fixed point and steepest descent
denoisers.py   what red.py plugs in: median, TV, NLM, BM3D
linear.py      Wiener, Richardson-Lucy
protocol.py    the rows by name, their settings, and the two ways to feed them
"""
