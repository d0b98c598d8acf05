"""A grid of experiments over ratios and seeds.

Read `sweep` first: it prepares once, runs what has not finished, and compares. Then read `grid`
(the cells and their keys), `scheduler` (so many cells at a time), `executors` and `slurm` (where a
cell runs) and `state` (which cells have finished).
"""
