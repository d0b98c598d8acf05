"""Coordinate files as other programs write them, and values that every format must keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryossl.picking.coordinates import Coordinates

MANUALPICK = """
# version 30001

data_

loop_ 
_rlnCoordinateX #1 
_rlnCoordinateY #2 
_rlnParticleSelectionType #3 
_rlnAnglePsi #4 
_rlnAutopickFigureOfMerit #5 
   40.000000    70.000000            2  -999.00000  -999.00000 
  100.500000    12.250000            2  -999.00000  -999.00000 
 
"""  # noqa: W291, W293 (RELION ends its lines with blanks)

PARTICLES_31 = """
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMtfFileName #3
_rlnMicrographOriginalPixelSize #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
_rlnImagePixelSize #8
_rlnImageSize #9
_rlnImageDimensionality #10
opticsGroup1            1 mtf_k2_300kV.star     0.885000   200.000000     1.400000     0.100000     3.540000           64            2
opticsGroup2            2 mtf_k2_300kV.star     1.060000   200.000000     1.400000     0.100000     3.540000           64            2


# version 30001

data_particles

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnAutopickFigureOfMerit #3
_rlnImageName #4
_rlnMicrographName #5
_rlnOpticsGroup #6
 1614.217657   176.091017     0.302 000001@Extract/job012/Movies/a.mrcs MotionCorr/job002/Movies/a.mrc            1
 2509.000000     0.000000     0.299 000002@Extract/job012/Movies/a.mrcs MotionCorr/job002/Movies/a.mrc            1
    7.000000     9.000000     0.151 000001@Extract/job012/Movies/b.mrcs MotionCorr/job002/Movies/b.mrc            2
"""

PARTICLES_30 = """
data_images

loop_
_rlnMicrographName #1
_rlnCoordinateX #2
_rlnCoordinateY #3
_rlnDetectorPixelSize #4
_rlnMagnification #5
Micrographs/a.mrc 10.0 20.0 5.000000 50000.000000
Micrographs/a.mrc 11.5 20.0 5.000000 50000.000000
"""

CBOX = """
data_global

_cbox_format_version 1.0

data_cryolo

loop_
_CoordinateX #1
_CoordinateY #2
_CoordinateZ #3
_Width #4
_Height #5
_Depth #6
_EstWidth #7
_EstHeight #8
_Confidence #9
_NumBoxes #10
_Angle #11
20.0 50.0 <NA> 40.0 40.0 1.0 38.2 37.9 0.84 1 <NA>
3345.7 -4.25 <NA> 40.0 40.0 1.0 36.1 39.0 0.31 1 <NA>

data_cryolo_include

loop_
_slice_index #1

"""

BOX = "20\t50\t40\t40\n-3\t8\t40\t40\n"

TOPAZ = """image_name\tx_coord\ty_coord\tscore
14sep05c_00024sq_00003hl_00002es_c\t40\t70\t4.3456
14sep05c_00024sq_00003hl_00002es_c\t100\t12\t-2.5
stack.02\t7\t9\t1.0
"""

CRYOPPP = """X-Coordinate,Y-Coordinate,Diameter,Class Number,Picking Score
40,70,180,3,0.61
3704.5,12.25,180,1,0.22
"""


def cryosparc_records(names: list[str], *, fractions: list[tuple[float, float]]) -> np.ndarray:
    """Records as cryoSPARC 4 exports particles: fractions (x, y) of micrographs of 100 x 200 px."""
    kind = [
        ("uid", "<u8"),
        ("location/micrograph_uid", "<u8"),
        ("location/exp_group_id", "<u4"),
        ("location/micrograph_path", f"S{max(map(len, names), default=1)}"),
        ("location/micrograph_shape", "<u4", (2,)),
        ("location/center_x_frac", "<f4"),
        ("location/center_y_frac", "<f4"),
        ("location/micrograph_psize_A", "<f4"),
        ("pick_stats/ncc_score", "<f4"),
    ]
    records = np.zeros(len(names), dtype=kind)
    records["location/micrograph_path"] = [name.encode() for name in names]
    records["location/micrograph_shape"] = (100, 200)
    for column, values in zip(("x", "y"), zip(*fractions, strict=True), strict=True):
        records[f"location/center_{column}_frac"] = values
    records["location/micrograph_psize_A"] = 1.1
    return records


def write(path: Path, content: str | bytes) -> Path:
    """Write a file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def of(name: str, *centres: tuple[float, float], diameter_px: float | None = None) -> Coordinates:
    """Coordinates of a micrograph at centres (y, x), with scores from 1 downwards."""
    return Coordinates(
        name,
        np.array(centres, dtype=np.float64).reshape(-1, 2),
        scores=1.0 - 0.1 * np.arange(len(centres)),
        diameters_px=None if diameter_px is None else np.full(len(centres), float(diameter_px)),
        picture_px=(4096, 4096),
    )
