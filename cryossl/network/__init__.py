"""Everything that touches torch below the experiment: the network, its training, its predictions.

Read `training` first: `fit` is the only optimiser loop. Then read `objectives` (what a step
minimises) and `batches` (which tiles a step sees). This file imports nothing, so that commands
without torch start fast.
"""
