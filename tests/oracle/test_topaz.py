"""What is written for Topaz, as Topaz's own converter reads it.

Topaz is no dependency: the environment variable TOPAZ names its executable, or it is in PATH; else
these tests skip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coordinate_files import of, write

from cryossl.picking.coordinates import Coordinates
from cryossl.picking.formats import known, relion
from cryossl.picking.outputs import write_all

TOPAZ = os.environ.get("TOPAZ") or shutil.which("topaz")
pytestmark = pytest.mark.skipif(TOPAZ is None, reason="Topaz is not installed")
GIVEN = (of("a", (70.5, 40.5), (12.5, 101.5)), of("10.c", (9.5, 7.5)))


def converted(file: Path, target: Path) -> dict[str, Coordinates]:
    """The coordinates of a file after Topaz has read it and written it in another format."""
    done = subprocess.run(
        [str(TOPAZ), "convert", str(file), "-o", str(target)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-500:]
    return {one.micrograph.removesuffix(".mrc"): one for one in known.read(target)}


def assert_same(found: dict[str, Coordinates]) -> None:
    assert set(found) == {one.micrograph for one in GIVEN}
    for one in GIVEN:
        np.testing.assert_allclose(found[one.micrograph].centres, one.centres, atol=0.01)
        np.testing.assert_allclose(found[one.micrograph].scores, one.scores, atol=1e-5)


def test_topaz_reads_the_table_of_pick_by_its_name(tmp_path: Path) -> None:
    (table,) = write_all(tmp_path, ["topaz"], lambda: iter(GIVEN), pixel_size_angstrom=None)
    assert_same(converted(table, tmp_path / "converted.star"))


def test_topaz_reads_particles_of_one_block(tmp_path: Path) -> None:
    named = [replace(one, micrograph=f"{one.micrograph}.mrc") for one in GIVEN]
    text = relion.particles_text(named, pixel_size_angstrom=None, optics=False)
    assert_same(converted(write(tmp_path / "p.star", "".join(text)), tmp_path / "converted.txt"))
