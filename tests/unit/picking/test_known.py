"""What comes from outside: the format is told from the content, and what is no coordinate file is refused in one line."""

from __future__ import annotations

import os
import pickle
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from coordinate_files import (
    BOX,
    CBOX,
    CRYOPPP,
    MANUALPICK,
    TOPAZ,
    cryosparc_records,
    write,
)

from cryossl.errors import DataError
from cryossl.picking.formats import known

STAR = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n"
WIDE = "".join(f"_c{number} #{number}\n" for number in range(2000))


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        known.read(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "form"),
    [(MANUALPICK, "star"), (CBOX, "cbox"), (BOX, "box"), (TOPAZ, "table"), (CRYOPPP, "table")],
)
def test_the_content_tells_the_format_whatever_the_suffix(
    tmp_path: Path, content: str, form: str
) -> None:
    for suffix in (".star", ".box", ".csv", ".cs", ""):
        assert known.format_of(write(tmp_path / f"file{suffix}", content)) == form


@pytest.mark.parametrize(
    ("content", "centres"),
    [
        ("\ufeff" + STAR + "1 2\n", [[2.5, 1.5]]),
        ((STAR + "1 2\n3 4\n").replace("\n", "\r\n"), [[2.5, 1.5], [4.5, 3.5]]),
        ((STAR + "1 2\n3 4\n").replace("\n", "\r"), [[2.5, 1.5], [4.5, 3.5]]),
        (STAR.replace("_rlnCoordinateY", "# why\n\n_rlnCoordinateY") + "1 2\n\n3 4\n", None),
        ("# -*- coding: no-such-code -*-\n" + STAR + "1 2\n", [[2.5, 1.5]]),
        ("data_\n_rlnCoordinateX 1\n_rlnCoordinateY 2\n", [[2.5, 1.5]]),
        ("\ufeff# by hand\n\nX ; Y\r\n1;2\r\n# no\r\n3;4\r\n", [[2.5, 1.5], [4.5, 3.5]]),
        ('"x", "y"\n"1", "2"\n', [[2.5, 1.5]]),
    ],
)
def test_marks_line_ends_comments_and_quotes_of_other_programs_are_read(
    tmp_path: Path, content: str, centres: list[list[float]] | None
) -> None:
    (found,) = known.read(write(tmp_path / "a.star", content))
    np.testing.assert_array_equal(found.centres, centres or [[2.5, 1.5], [4.5, 3.5]])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.star", STAR + "nan 2\n", "rlnCoordinateX of row 1 is 'nan'"),
        ("a.star", STAR + "1 2\n1 inf\n", "rlnCoordinateY of row 2"),
        ("a.star", STAR + "1e308 2\n", "'1e+308'"),
        ("a.star", STAR + f"{'9' * 5000} 2\n", "not a number within"),
        ("a.star", STAR + "one two\n", "'one'"),
        ("a.star", STAR + "1 2\n3\n", "row 2"),
        ("a.star", STAR + "1 2\n3 4 5\n", "cannot be read"),
        ("a.star", STAR + "1 2\0\n", "zero bytes"),
        ("a.star", STAR.encode() + b"1 2 # \xe9\n", "not UTF-8"),
        ("a.star", "data_\nloop_\n_rlnFoo #1\n_rlnBar #2\n1 2\n", "columns rlnFoo, rlnBar; needed"),
        ("a.star", "data_\n", "a block is not complete"),
        ("a.star", f"data_\nloop_\n{WIDE}1 2\n", "more than 1000 columns"),
        ("a.star", STAR + "1 " * 500_000 + "\n", "line 6 has 1000000 characters"),
        ("a.star", STAR + "1 2\n" * 2_000_001, "more than 2,000,000 rows"),
        ("a.star", "", "the file is empty"),
        ("a.star", b"\x89PNG\r\n\x1a\n" + bytes(50), "a.star"),
        ("a.mrc", b"\x00" * 2048, "no coordinate file"),
        ("a.cbox", "data_cryolo\nloop_\n_CoordinateX #1\n1\n", "CoordinateX; needed are"),
        ("a.cbox", CBOX.replace(" 40.0", " -40.0"), "Width of row 1 is -40"),
        ("a.box", "1 2 3\n", "3 columns"),
        ("a.box", "1 2 0 0\n", "width of row 1 is 0"),
        ("a.box", "nan 2 3 3\n", "x of row 1 is 'nan'"),
        ("a.box", "1" * 60_000, "characters"),
        ("a.box", '1 2 "3 3\n', "no table of boxes"),
        ("a.csv", "1,2\n3,4\n", "columns 1, 2; needed are x, y"),
        ("a.csv", "x,y\n1,2,3\n", "cannot be read"),
        ("a.csv", 'x,y\n"1,2\n', "cannot be read"),
        ("a.csv", "x;y\n1,5;2,5\n", "'1,5'"),
        ("a.csv", "x,x_px,y\n1,2,3\n", "several columns may be x"),
        ("a.csv", "x,y,w,h\n1,2,3,4\n", "x may be a corner or a centre"),
        ("a.csv", "image_name,x,y\n,1,2\n", "row 1 names no micrograph"),
        ("a.csv", "x,y,diameter\n1,2,nan\n", "diameter of row 1 is 'nan'"),
        ("a.csv", b"\x80\x81" * 100, "not UTF-8"),
        ("a.json", "{", "broken JSON"),
        ("a.json", '{"images": [], "annotations": []}', "no coordinates in it"),
        ("a.cs", pickle.dumps(["a pickle"]), "no .cs file"),
        ("a.cs", b"\x95CSDAT" + bytes(40), "compressed .cs"),
        ("a.cs", b"\x93NUMPY" + bytes(40), "no array of records"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, words: str
) -> None:
    assert words in refusal(write(tmp_path / name, content))


class Opened:
    """A value whose pickle makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self._path), "w")


def test_a_column_of_python_objects_is_never_loaded(tmp_path: Path) -> None:
    records = np.zeros(1, dtype=[("location/micrograph_path", "O")])
    records["location/micrograph_path"] = Opened(tmp_path / "loaded")
    np.save(tmp_path / "a.npy", records, allow_pickle=True)
    (tmp_path / "a.npy").rename(tmp_path / "a.cs")
    assert "never loaded" in refusal(tmp_path / "a.cs")
    assert not (tmp_path / "loaded").exists()


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("location/center_x_frac", np.nan, "center_x_frac of row 1 is 'nan'"),
        ("location/center_y_frac", 1e30, "center_y_frac of row 1"),
        ("location/micrograph_shape", 0, "has no size"),
    ],
)
def test_a_cs_file_with_impossible_values_is_refused(
    tmp_path: Path, column: str, value: float, words: str
) -> None:
    records = cryosparc_records(["a.mrc", "a.mrc"], fractions=[(0.1, 0.2), (0.3, 0.4)])
    records[column] = value
    np.save(tmp_path / "a.npy", records)
    assert words in refusal((tmp_path / "a.npy").rename(tmp_path / "a.cs"))


def test_a_cs_file_that_promises_more_than_it_has_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", cryosparc_records(["a.mrc"], fractions=[(0.1, 0.2)]))
    content = (tmp_path / "a.npy").read_bytes()
    longer = content.replace(b"'shape': (1,), }        ", b"'shape': (99999999,), } ")
    assert longer != content
    assert "no array of records" in refusal(write(tmp_path / "a.cs", longer))
    assert "no array of records" in refusal(write(tmp_path / "b.cs", content[:-20]))


@pytest.mark.parametrize("suffix", ["star", "box", "cbox", "csv", "cs", "json"])
def test_a_sparse_file_of_3_gb_is_refused_at_once_and_in_little_memory(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    with path.open("wb") as file:
        file.write(MANUALPICK.encode() if suffix == "star" else b"")
        file.truncate(3 * 2**30)
    tracemalloc.start()
    begin = time.process_time()
    refusal(path)
    assert time.process_time() - begin < 10
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_pipes_devices_folders_and_broken_links_are_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.star")
    (tmp_path / "folder.star").mkdir()
    (tmp_path / "device.cs").symlink_to("/dev/zero")
    (tmp_path / "circle.star").symlink_to("circle.star")
    (tmp_path / "nowhere.box").symlink_to(tmp_path / "nothing")
    for path in sorted(tmp_path.iterdir()):
        assert "no regular file" in refusal(path)
    assert "does not exist" in refusal(tmp_path / "missing.star")


@pytest.mark.parametrize("listed", ["/dev/zero", "missing.star", "index.star", "pipe.star"])
def test_an_index_leads_to_coordinate_files_alone(tmp_path: Path, listed: str) -> None:
    os.mkfifo(tmp_path / "pipe.star")
    header = "data_coordinate_files\nloop_\n_rlnMicrographName #1\n_rlnMicrographCoordinates #2\n"
    message = refusal(write(tmp_path / "index.star", f"{header}a.mrc {listed}\n"))
    assert "is missing" in message or "no coordinates" in message
