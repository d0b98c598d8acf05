"""Everything that touches torch below the experiment: the network, its training, its predictions.

Read `training` first, then `objectives` and `batches`. This file imports nothing, so that commands
without torch stay fast.
"""
