"""Everything that touches torch below the experiment: the network, its training, its predictions.

Read `training` first: `fit` is the only optimiser loop. Then read `step` (one update),
`objectives` (what it minimises) and `batches` (which tiles it sees). This file imports nothing, so
that commands without torch start fast.
"""
