"""Coordinates of particles in and out: labels of any picker become a data set.

Read `coordinates` first, then `formats/known`; `importer` is `data import`, and `readings` finds
labels that are mirrored or at another scale.
"""
