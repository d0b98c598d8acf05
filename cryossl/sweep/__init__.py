"""A grid of experiments over ratios and seeds. Read `sweep` first, then `grid` and `scheduler`."""
