"""COCO files, read strictly, because pycocotools crashes on some malformed files.

Read `dataset` first. CryoTransformer's peculiarities are handled in this folder and nowhere else.
"""
