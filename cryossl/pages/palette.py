"""The colours of every figure and picture.

They are from Okabe and Ito's palette (jfly.uni-koeln.de/color): they stay apart for every common
kind of colour blindness.
"""

from __future__ import annotations

BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#7F7F7F"
LINES = (BLACK, VERMILLION, BLUE, GREEN, ORANGE, SKY, PURPLE)
"""In the order in which lines get them; the baseline is the first line."""

Rgb = tuple[int, int, int]


def rgb(colour: str) -> Rgb:
    """Red, green and blue of `#RRGGBB`, each 0..255."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue
