"""COCO files, read strictly: the data come from strangers, and pycocotools crashes on some of what they contain.

Read `dataset` first. CryoTransformer's peculiarities end in this folder.
"""
