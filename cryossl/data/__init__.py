"""Micrographs and their labels: read, checked, stored, covered by tiles and split.

Read `coco/dataset` first, then `store/store`, `tiling` and `splits`. Coordinates are (y, x)
everywhere; `coco` converts the x, y of COCO.
"""
