"""The values of a label map: BACKGROUND, PARTICLE and IGNORE."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

BACKGROUND = 0
PARTICLE = 1
IGNORE = 255

LabelMap = UInt8[np.ndarray, "height width"]


def particle_ratio(label_map: LabelMap) -> float:
    """PARTICLE pixels / valid pixels, in [0, 1]; IGNORE pixels are not valid.

    Raises ValueError if no pixel is valid.
    """
    valid = int(np.count_nonzero(label_map != IGNORE))
    if valid == 0:
        raise ValueError("the particle ratio of a label map without a valid pixel is undefined")
    return int(np.count_nonzero(label_map == PARTICLE)) / valid
