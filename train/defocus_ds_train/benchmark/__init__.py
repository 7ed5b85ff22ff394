"""The paper's tables, ours beside theirs: any methods over any set of crops.

sets.py        what is restored: released splits, datasets, pairs of folders
methods.py     what restores: classical rows, networks, folders of results
run.py         every method over every set, resumable
timing.py      restoration against the clock
results.py     what was found, as rows, means and files
published.py   Tables I, II and III of MMSP 2024
table.py       the table as text
expect.py      stored results, and drift from them
sheet.py       the crops side by side
scatter.py     sharpness against similarity, as in Fig. 5
page.py        all of it on one page
"""
