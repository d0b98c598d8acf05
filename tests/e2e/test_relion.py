"""The coordinates that are written, as RELION's own extraction reads them; skips where RELION is not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryossl.picking.coordinates import Coordinates
from cryossl.picking.outputs import write_all

pytestmark = pytest.mark.skipif(
    shutil.which("relion_preprocess") is None, reason="RELION is not installed"
)
BOX_PX = 32
HEIGHT, WIDTH = 200, 300
SPOTS = np.array([[70, 40], [33, 251], [150, 120]])  # (row, column) of bright pixels


def extracted(project: Path) -> np.ndarray:
    """The boxes that RELION cuts out at the coordinates below `picks`, in their order."""
    (project / "micrographs.star").write_text(
        "\ndata_optics\n\nloop_\n_rlnOpticsGroupName #1\n_rlnOpticsGroup #2\n"
        "_rlnMicrographPixelSize #3\n_rlnVoltage #4\n_rlnSphericalAberration #5\n"
        "_rlnAmplitudeContrast #6\nopticsGroup1 1 1.0 300 2.7 0.1\n\n"
        "data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n"
        "Micrographs/m.mrc 1\n"
    )
    words = (
        "relion_preprocess --i micrographs.star --coord_dir picks/ --coord_suffix _autopick.star "
        f"--part_star particles.star --part_dir Extract/ --extract --extract_size {BOX_PX}"
    )
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(
        words.split(),
        cwd=project,
        env=os.environ | root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with mrcfile.open(project / "Extract" / "Micrographs" / "m.mrcs", permissive=True) as stack:
        return np.array(stack.data)


@pytest.mark.parametrize(
    "flipped", [False, True], ids=["rows as in the file", "rows from the last"]
)
def test_relion_puts_each_particle_into_the_middle_of_its_box(tmp_path, monkeypatch, flipped):
    monkeypatch.chdir(tmp_path)
    picture = np.zeros((HEIGHT, WIDTH), np.float32)
    picture[tuple(SPOTS.T)] = 1000
    (tmp_path / "Micrographs").mkdir()
    with mrcfile.new(tmp_path / "Micrographs" / "m.mrc") as file:
        # What motion correction of another program writes: the last row first.
        file.set_data(picture[::-1].copy() if flipped else picture)
    centres = SPOTS + 0.5
    if flipped:
        centres[:, 0] = HEIGHT - centres[:, 0]
    picks = Coordinates("Micrographs/m.mrc", centres, scores=np.array([0.9, 0.8, 0.7]))
    write_all(Path("picks"), ["star"], lambda: iter([picks]), pixel_size_angstrom=None)
    boxes = extracted(tmp_path)
    assert boxes.shape == (3, BOX_PX, BOX_PX)
    for box in boxes:
        assert np.unravel_index(np.argmax(box), box.shape) == (BOX_PX // 2, BOX_PX // 2)
