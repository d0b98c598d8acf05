"""The embedded data set: simulated micrographs with exact truth, written as COCO.

Read `dataset` first, then `simulator`, which uses `phantoms` and `optics`.
"""
