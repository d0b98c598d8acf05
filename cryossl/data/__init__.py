"""Micrographs and their labels: what is read, checked, stored, cut into tiles and split.

Read `coco/dataset` first, then `store/store`, `tiling` and `splits`. (y, x) everywhere; COCO's x, y
turns in `coco`.
"""
