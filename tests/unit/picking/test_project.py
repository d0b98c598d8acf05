"""What a STAR file names is found from its project, and a folder's pictures are found in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coordinate_files import write
from picked_micrographs import write_mrc

from cryossl.errors import DataError
from cryossl.picking.formats import known
from cryossl.picking.formats.relion import index_text
from cryossl.picking.importing.collection import read_collection
from cryossl.picking.micrographs import micrographs_of
from cryossl.picking.project import named_file, pictures_in
from cryossl.progress.events import silent

NAME = "MotionCorr/job002/Movies/a.mrc"
LISTED = f"data_\n\nloop_\n_rlnMicrographName #1\n{NAME}\n"
GREY = np.zeros((8, 8), np.float32)


@pytest.mark.parametrize(
    "star", ["m.star", "Select/job009/m.star", "MotionCorr/job002/m.star"], ids=str
)
def test_a_name_starts_at_a_folder_above_the_star_file(tmp_path: Path, star: str) -> None:
    micrograph = write_mrc(tmp_path / NAME, GREY)
    listing = write(tmp_path / star, LISTED)
    assert named_file(NAME, listing, what="micrograph") == micrograph
    # The two readers of micrographs find the same file.
    (one,) = micrographs_of([listing])
    (picture,) = read_collection(listing, max_megapixels=1, report=silent)
    assert one.path == picture.path == micrograph
    assert one.name == picture.name == NAME


def test_the_project_of_the_star_file_comes_before_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = write_mrc(tmp_path / "mine" / NAME, GREY)
    other = write_mrc(tmp_path / "other" / NAME, GREY)
    monkeypatch.chdir(tmp_path / "other")
    inside = write(tmp_path / "mine" / "Select" / "m.star", LISTED)
    copied = write(tmp_path / "elsewhere" / "m.star", LISTED)
    assert named_file(NAME, inside, what="micrograph") == mine
    assert named_file(NAME, copied, what="micrograph") == other


@pytest.mark.parametrize(
    "name", ["b.mrc", "Movies", "../out.mrc", "x" * 5000, "a\0b"], ids=lambda name: name[:8]
)
def test_a_name_without_a_file_in_the_project_is_one_line(tmp_path: Path, name: str) -> None:
    write_mrc(tmp_path / "out.mrc", GREY)
    (tmp_path / "project" / "Movies").mkdir(parents=True)
    star = tmp_path / "project" / "m.star"
    with pytest.raises(DataError, match=r"m\.star: the micrograph '.*' is missing") as caught:
        named_file(name, star, what="micrograph")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300


def test_an_index_names_its_coordinate_files_from_the_project(tmp_path: Path) -> None:
    table = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n4 7\n"
    write(tmp_path / "Pick/job3/Movies/a_autopick.star", table)
    index = write(
        tmp_path / "Pick/job3/autopick.star", index_text([(NAME, "Pick/job3/Movies/a_autopick.star")])
    )  # fmt: skip
    (one,) = known.read(index)
    assert (one.micrograph, one.centres.tolist()) == (NAME, [[7.5, 4.5]])


def test_pictures_are_found_by_their_content_in_the_folders_of_a_folder(tmp_path: Path) -> None:
    kept = [write_mrc(tmp_path / name, GREY) for name in ("Movies/a.mrc", "Movies/b", "c.mrc")]
    for name in ("Movies/a_PS.mrc", "Movies/a_ctf.mrc", "c_thumbnail.png"):
        write_mrc(tmp_path / name, GREY)
    write(tmp_path / "Movies/log.mrc", "no picture")
    (tmp_path / "gone.mrc").symlink_to(tmp_path / "nowhere")
    assert pictures_in(tmp_path) == kept
    assert [one.name for one in micrographs_of([tmp_path])] == ["Movies/a.mrc", "Movies/b", "c.mrc"]
    collection = read_collection(tmp_path, max_megapixels=1, report=silent)
    assert [one.path for one in collection] == kept


def test_micrographs_are_named_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mrc(tmp_path / NAME, GREY)
    monkeypatch.chdir(tmp_path)
    assert [one.name for one in micrographs_of([Path("MotionCorr/job002")])] == [NAME]
    assert [one.name for one in micrographs_of([tmp_path / "MotionCorr"])] == [NAME]


def test_an_absolute_and_a_relative_name_that_would_be_written_to_one_place_are_refused(
    tmp_path: Path,
) -> None:
    outside = write_mrc(tmp_path / "a.mrc", GREY)
    relative = str(outside.relative_to("/"))
    write_mrc(tmp_path / "project" / relative, GREY)
    table = f"data_\n\nloop_\n_rlnMicrographName #1\n{outside}\n{relative}\n"
    listing = write(tmp_path / "project" / "m.star", table)
    with pytest.raises(DataError, match="have one name without suffix"):
        micrographs_of([listing])
