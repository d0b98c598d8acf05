"""Each coordinate format: what other programs write is read, and what is written is read back."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from coordinate_files import (
    BOX,
    CBOX,
    CRYOPPP,
    MANUALPICK,
    PARTICLES_30,
    PARTICLES_31,
    TOPAZ,
    cryosparc_records,
    of,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from cryossl.picking.coordinates import Coordinates
from cryossl.picking.formats import coco, cryolo, eman, known, relion, tables


def read_one(path: Path, content: str | bytes) -> Coordinates:
    found = known.read(write(path, content))
    assert len(found) == 1
    return found[0]


# --- as other programs write them


def test_relions_x_40_y_70_is_the_middle_of_the_pixel_70_40(tmp_path: Path) -> None:
    found = read_one(tmp_path / "mic_manualpick.star", MANUALPICK)
    assert found.micrograph == "mic_manualpick"
    np.testing.assert_array_equal(found.centres, [[70.5, 40.5], [12.75, 101.0]])


def test_particles_of_relion_3_1_have_the_pixel_size_of_their_optics_group(tmp_path: Path) -> None:
    first, second = known.read(write(tmp_path / "particles.star", PARTICLES_31))
    assert (first.micrograph, second.micrograph) == (
        "MotionCorr/job002/Movies/a.mrc",
        "MotionCorr/job002/Movies/b.mrc",
    )
    np.testing.assert_allclose(first.centres, [[176.591017, 1614.717657], [0.5, 2509.5]])
    np.testing.assert_allclose(first.scores, [0.302, 0.299])
    assert (first.pixel_size_angstrom, second.pixel_size_angstrom) == (0.885, 1.06)


def test_particles_of_relion_3_0_have_the_pixel_size_of_detector_and_magnification(
    tmp_path: Path,
) -> None:
    found = read_one(tmp_path / "particles.star", PARTICLES_30)
    np.testing.assert_array_equal(found.centres, [[20.5, 10.5], [20.5, 12.0]])
    assert found.pixel_size_angstrom == pytest.approx(1.0)


def test_an_index_is_followed_from_the_folder_of_its_project(tmp_path: Path) -> None:
    write(tmp_path / "ManualPick/job003/Movies/a_manualpick.star", MANUALPICK)
    listed = relion.index_text(
        [("MotionCorr/job002/Movies/a.mrc", "ManualPick/job003/Movies/a_manualpick.star")]
    )
    found = read_one(tmp_path / "ManualPick/job003/manualpick.star", listed)
    assert (found.micrograph, found.count) == ("MotionCorr/job002/Movies/a.mrc", 2)


def test_micrographs_of_a_star_have_the_pixel_size_of_their_group(tmp_path: Path) -> None:
    text = PARTICLES_31.replace("data_particles", "data_micrographs")
    assert relion.read_micrographs(write(tmp_path / "m.star", text)) == [
        ("MotionCorr/job002/Movies/a.mrc", 0.885),
        ("MotionCorr/job002/Movies/b.mrc", 1.06),
    ]


def test_the_centre_of_a_box_of_cryolo_is_corner_and_half_its_size(tmp_path: Path) -> None:
    found = read_one(tmp_path / "mic.cbox", CBOX)
    np.testing.assert_allclose(found.centres, [[70.5, 40.5], [16.25, 3366.2]])
    np.testing.assert_array_equal(found.diameters_px, [40, 40])
    np.testing.assert_array_equal(found.scores, [0.84, 0.31])


@pytest.mark.parametrize("fifth", ["", "\t-3"])
def test_the_centre_of_a_box_of_eman_is_corner_and_half_its_size(
    tmp_path: Path, fifth: str
) -> None:
    found = read_one(tmp_path / "mic.box", BOX.replace("\n", f"{fifth}\n"))
    np.testing.assert_array_equal(found.centres, [[70.5, 40.5], [28.5, 17.5]])
    np.testing.assert_array_equal(found.diameters_px, [40, 40])


def test_topazs_table_holds_several_micrographs(tmp_path: Path) -> None:
    first, second = known.read(write(tmp_path / "picks.txt", TOPAZ))
    assert second.micrograph == "stack.02"
    np.testing.assert_array_equal(first.centres, [[70.5, 40.5], [12.5, 100.5]])
    np.testing.assert_array_equal(first.scores, [4.3456, -2.5])


def test_cryoppps_table_is_of_the_micrograph_it_is_named_after(tmp_path: Path) -> None:
    found = read_one(tmp_path / "14sep05c.csv", CRYOPPP)
    assert found.micrograph == "14sep05c"
    np.testing.assert_array_equal(found.centres, [[70.5, 40.5], [12.75, 3705.0]])
    np.testing.assert_array_equal(found.diameters_px, [180, 180])


def test_cryosparcs_centres_are_fractions_of_the_micrographs_sides(tmp_path: Path) -> None:
    stream = io.BytesIO()
    names = ["J1/motioncorrected/000123456789012345678_a.mrc", "b.mrc"]
    np.save(stream, cryosparc_records(names, fractions=[(0.25, 0.5), (0.75, 0.1)]))
    first, second = known.read(write(tmp_path / "particles.cs", stream.getvalue()))
    assert [first.micrograph, second.micrograph] == names
    np.testing.assert_allclose([*first.centres, *second.centres], [[50.5, 50.5], [10.5, 150.5]])
    assert first.picture_px == (100, 200)
    assert first.pixel_size_angstrom == pytest.approx(1.1)


# --- there and back


def pieces(found: list[Coordinates], *, form: str) -> dict[str, str]:
    """File name -> content of coordinates in a format."""
    if form == "particles":
        return {"all.star": "".join(relion.particles_text(found, pixel_size_angstrom=1.5))}
    if form == "csv":
        return {"all.csv": "".join(tables.csv_text(found))}
    if form == "topaz":
        return {"all.txt": "".join(tables.topaz_text(found))}
    if form == "coco":
        return {"all.json": "".join(coco.text(found))}
    write_text, suffix = {
        "star": (relion.micrograph_text, "star"),
        "cbox": (cryolo.text, "cbox"),
        "box": (eman.text, "box"),
    }[form]
    return {f"{one.micrograph}.{suffix}": write_text(one) for one in found}


places = st.floats(0, 4096, allow_nan=False).map(lambda value: round(value, 3))


@pytest.mark.parametrize("form", ["star", "particles", "cbox", "box", "csv", "topaz", "coco"])
@settings(max_examples=15)
@given(
    centres=st.lists(st.tuples(places, places), min_size=1, max_size=5, unique=True),
    others=st.lists(st.tuples(places, places), min_size=1, max_size=3, unique=True),
)
def test_what_is_written_is_read_back(
    form: str, centres: list[tuple[float, float]], others: list[tuple[float, float]]
) -> None:
    given_ones = [of("a b", *centres, diameter_px=41.5), of("10.c", *others, diameter_px=41.5)]
    with tempfile.TemporaryDirectory() as name:
        for file, content in pieces(given_ones, form=form).items():
            write(Path(name) / file, content)
        found = [one for path in sorted(Path(name).iterdir()) for one in known.read(path)]
    back = {one.micrograph: one for one in found}
    assert set(back) == {"a b", "10.c"}
    for one in given_ones:
        np.testing.assert_allclose(back[one.micrograph].centres, one.centres, atol=0.01)
        if form not in ("box", "coco"):
            np.testing.assert_allclose(back[one.micrograph].scores, one.scores, atol=1e-6)
        if form in ("cbox", "box", "csv", "coco"):
            np.testing.assert_allclose(
                back[one.micrograph].diameters_px, one.diameters_px, atol=0.01
            )


def test_starfile_and_pandas_read_what_is_written(tmp_path: Path) -> None:
    given_ones = [of("a.mrc", (70.5, 40.5), (1, 2)), of("b.mrc", (3, 4))]
    text = "".join(relion.particles_text(given_ones, pixel_size_angstrom=0.885))
    blocks = starfile.read(write(tmp_path / "p.star", text))
    assert list(blocks["particles"]["rlnMicrographName"]) == ["a.mrc", "a.mrc", "b.mrc"]
    assert blocks["particles"].iloc[0][["rlnCoordinateX", "rlnCoordinateY"]].tolist() == [40, 70]
    assert float(blocks["optics"]["rlnMicrographPixelSize"].iloc[0]) == 0.885
    table = pd.read_csv(io.StringIO("".join(tables.csv_text(given_ones))))
    assert table.loc[0, ["x_px", "y_px"]].tolist() == [40, 70]


def test_the_first_block_without_optics_is_that_of_the_particles(tmp_path: Path) -> None:
    pieces_of_it = relion.particles_text([of("a", (1, 2))], pixel_size_angstrom=1.0, optics=False)
    blocks = starfile.read(write(tmp_path / "p.star", "".join(pieces_of_it)), always_dict=True)
    assert list(blocks) == ["particles"]
    assert list(blocks["particles"].columns) == [
        "rlnMicrographName",
        "rlnCoordinateX",
        "rlnCoordinateY",
        "rlnAutopickFigureOfMerit",
    ]


def test_the_same_coordinates_give_the_same_bytes() -> None:
    given_one = of("a.mrc", (70.5, 40.5))
    assert "Created" not in relion.micrograph_text(given_one)
    assert relion.micrograph_text(given_one).startswith("data_\n")


def test_a_loop_has_no_blank_line_where_relion_would_stop_reading() -> None:
    text = "".join(relion.particles_text([of("a", (1, 1)), of("b", (2, 2))], pixel_size_angstrom=1))
    loop = text[text.index("data_particles") :].split("loop_\n")[1].rstrip("\n")
    assert "" not in loop.split("\n")


def test_whole_boxes_are_written_as_whole_numbers() -> None:
    assert eman.text(of("a", (70.5, 40.5), diameter_px=40)) == "20\t50\t40\t40\n"


def test_a_micrograph_without_particles_stays_one_without(tmp_path: Path) -> None:
    nothing = of("a", diameter_px=40)
    assert read_one(tmp_path / "a.star", relion.micrograph_text(nothing)).count == 0
    assert read_one(tmp_path / "a.box", eman.text(nothing)).count == 0
    assert read_one(tmp_path / "a.cbox", cryolo.text(nothing)).count == 0
    assert read_one(tmp_path / "a.json", "".join(coco.text([nothing]))).count == 0


def test_an_unlabelled_image_is_not_one_without_particles(tmp_path: Path) -> None:
    text = "".join(coco.text([of("a", (5, 5), diameter_px=4)], unlabelled=[of("b")]))
    assert len(json.loads(text)["images"]) == 2
    assert [one.micrograph for one in known.read(write(tmp_path / "c.json", text))] == ["a"]


@pytest.mark.parametrize("writer", [eman.text, cryolo.text])
def test_a_box_needs_a_size(writer: object) -> None:
    with pytest.raises(ValueError, match="have no size"):
        writer(of("a", (1, 1)))  # type: ignore[operator]
