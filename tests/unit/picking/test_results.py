"""Results and masks are whole or absent, also where two processes write the same one."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from untrained_models import model

from cryossl.data.store.file_hashes import FileState
from cryossl.evaluation.picking import Picks
from cryossl.network.picking_model import mask_of
from cryossl.picking.results import Result, Results

PROJECT = Path(__file__).resolve().parents[3]
SHA = hashlib.sha256(b"a").hexdigest()
WRITER = """
import sys
from pathlib import Path
from tests.unit.picking.test_results import result, Results
for turn in range(150):
    Results(Path(sys.argv[1]), key="k").write(result(int(sys.argv[2])))
"""


def result(count: int) -> Result:
    picks = Picks(np.zeros((count, 2), np.float32), np.full(count, 9, np.uint16))
    return Result(Path("/m.mrc"), 30, 40, FileState(1, 2, 3, 4), SHA, picks, 5.0, None)


def test_writers_of_one_result_do_not_disturb_each_other(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(count)],
            cwd=PROJECT,
            env=os.environ | {"PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}"},
        )
        for count in (3, 3000)
    ]
    results, seen = Results(tmp_path, key="k"), set()
    while any(writer.poll() is None for writer in writers):
        found = results.read(Path("/m.mrc"))
        seen.add(None if found is None else len(found.picks.scores))
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen - {None} <= {3, 3000}
    assert results.read(Path("/m.mrc")) is not None
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_mask_is_that_of_the_content_that_it_was_made_of(tmp_path):
    results = Results(tmp_path, key="k")
    assert results.mask(Path("/m.mrc"), sha256=SHA) is None
    results.write_mask(Path("/m.mrc"), b"png", sha256=SHA)
    assert results.mask(Path("/m.mrc"), sha256=SHA) == b"png"
    assert results.mask(Path("/m.mrc"), sha256=SHA[::-1]) is None
    (kept,) = tmp_path.rglob("*.mask")
    kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    assert results.mask(Path("/m.mrc"), sha256=SHA) is None


def test_what_a_killed_writer_left_is_removed(tmp_path):
    results = Results(tmp_path, key="k")
    results.write(result(2))
    (tmp_path / "k" / ".x.npz.host-1.tmp").write_bytes(b"half")
    results.remove_leftovers()
    assert not list(tmp_path.rglob("*.tmp"))
    assert results.read(Path("/m.mrc")) is not None


@pytest.mark.parametrize("size", [(40, 60), (83, 127), (20, 30)])
def test_a_mask_has_the_size_of_the_file_and_the_particle_pixels(size):
    described = model().description
    p8 = np.zeros((40, 60), np.uint8)
    p8[10:20, 30:50] = 255
    png = mask_of(p8, described, height_px=size[0], width_px=size[1])
    with Image.open(io.BytesIO(png)) as picture:
        mask = np.asarray(picture)
    assert (picture.mode, mask.shape, mask.dtype) == ("L", size, np.uint8)
    assert set(np.unique(mask)) == {0, 255}
    rows, columns = np.nonzero(mask)
    for found, (low, high), factor in (
        (rows, (10, 20), size[0] / 40),
        (columns, (30, 50), size[1] / 60),
    ):
        assert abs(found.min() - low * factor) <= factor
        assert abs(found.max() + 1 - high * factor) <= factor
    if size == (40, 60):
        np.testing.assert_array_equal(mask > 0, p8 > 0)
