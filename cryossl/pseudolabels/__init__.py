"""From a teacher's probabilities to pseudo-labels: what is believed. Nothing here imports torch.

Read `strategies` first, then `selection` and `pixel_rules`. A strategy is a value, a `Recipe`.
"""
