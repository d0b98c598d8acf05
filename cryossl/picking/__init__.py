"""Coordinates of particles in and out: any picker's labels to a data set, and picks to other programs.

Read `coordinates` first, then `formats/known`; `importer` is `data import`, and `readings` finds
labels that are mirrored or at another scale.
"""
