"""Coordinates in and out: labels of any picker become a data set, and a model's picks leave.

Read `coordinates` first, then `formats/known`. `importing/importer` is `data import`;
`importing/readings` finds labels that are mirrored or at another scale. `stream` is `pick`: it
keeps `results`, of which `choice` makes picks, `outputs` files and `contact_sheet` a page.
"""
