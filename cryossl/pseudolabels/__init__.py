"""From a teacher's probabilities to pseudo-labels. Nothing here imports torch.

Read in this order:

1. `strategies`: each strategy is a value, a `Recipe` of selection, teaching and learning.
2. `selection`: the pseudo-label of an image, its quality, and the choice of images.
3. `keep_rules` and `pixel_rules`: the rules of images and of pixels that a selection is made of.
4. `pool`: the selection carried out on the unlabelled pool, with its files.

`recipe` holds the values for teaching and learning, `priors` the particle ratios of the labelled
part, `summary` the numbers that are tracked of a selection.
"""
