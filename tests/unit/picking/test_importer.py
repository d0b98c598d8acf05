"""`data import`: labels and micrographs become a data set that a run reads, or a refusal in one line."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from coordinate_files import of, write
from picked_micrographs import DIAMETER_PX, collection, write_mrc
from PIL import Image

from cryossl.data.coco.dataset import read_dataset
from cryossl.errors import DataError, StorageError
from cryossl.picking.coordinates import Coordinates
from cryossl.picking.formats import coco, eman, relion, tables
from cryossl.picking.importing.importer import Request, import_labels
from cryossl.picking.importing.labelling import Sizes
from cryossl.picking.importing.readings import Reading
from cryossl.progress.events import Progress, silent

SIZE = (200, 256)


@pytest.fixture
def mics(tmp_path: Path) -> dict[str, np.ndarray]:
    return collection(tmp_path / "mics")


def stars(folder: Path, centres: dict[str, np.ndarray], *, suffix: str = "_autopick") -> list[Path]:
    return [
        write(folder / f"{name}{suffix}.star", relion.micrograph_text(Coordinates(name, places)))
        for name, places in centres.items()
    ]


def request(tmp_path: Path, labels: list[Path], **changes: object) -> Request:
    plain = Request(
        labels=tuple(labels),
        micrographs=tmp_path / "mics",
        folder=tmp_path / "data",
        sizes=Sizes(diameter_px=DIAMETER_PX),
        reading=Reading(),
        keep_reading=False,
        validation_fraction=0.2,
        link=True,
        source=None,
        max_megapixels=10.0,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def refusal(made: Request) -> str:
    before = sorted(made.folder.parent.rglob("*"))
    with pytest.raises(DataError) as caught:
        import_labels(made, report=silent)
    assert "\n" not in str(caught.value)
    after = sorted(made.folder.parent.rglob("*"))
    written = [path.name for path in after if path not in before]
    assert [name for name in written if not name.endswith(("-readings.png", ".lock"))] == []
    return str(caught.value)


def labels_of(folder: Path) -> dict[str, np.ndarray]:
    """Name without suffix -> centres (y, x) of the labelled micrographs of a data set."""
    dataset = read_dataset(folder, border=0, max_megapixels=10)
    return {
        Path(name).stem: particles.boxes[:, :2] + particles.boxes[:, 2:] / 2
        for part in dataset.parts.values()
        for name, particles in part.particles.items()
    }


def test_labelled_and_unlabelled_micrographs_become_a_data_set(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    labels = stars(tmp_path / "picks", {name: mics[name] for name in "abc"})
    done = import_labels(request(tmp_path, labels), report=silent)
    assert (done.labelled, done.validation, done.pool, done.particles) == (2, 1, 1, 120)
    assert done.notes == ()
    found = labels_of(tmp_path / "data")
    assert sorted(found) == ["a", "b", "c"]
    for name, centres in found.items():
        np.testing.assert_allclose(centres, mics[name], atol=1e-3)
    dataset = read_dataset(tmp_path / "data", border=0, max_megapixels=10)
    listed = (tmp_path / "data" / "labelled.txt").read_text().split()
    assert listed == list(dataset.train.particles)
    assert {one.pixel_size_angstrom for one in dataset.train.micrographs} == {2.0}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "data" / "sources.csv").read_text())))
    assert {row["source"] for row in rows} == {"256x200"}
    assert len(rows) == 4


def test_micrographs_are_linked_where_it_is_possible_and_copied_on_request(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    labels = stars(tmp_path / "picks", mics)
    (tmp_path / "mics" / "d.mrc").rename(tmp_path / "elsewhere.mrc")
    (tmp_path / "mics" / "d.mrc").symlink_to(tmp_path / "elsewhere.mrc")
    for link, folder in ((True, tmp_path / "linked"), (False, tmp_path / "copied")):
        done = import_labels(request(tmp_path, labels, folder=folder, link=link), report=silent)
        assert done.copied == (0 if link else 4)
        for path in folder.rglob("*.mrc"):
            assert not path.is_symlink()
            assert path.samefile(tmp_path / "mics" / path.name) == link


def test_the_same_names_give_the_same_validation(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    labels = stars(tmp_path / "picks", mics)
    for folder, order in (("one", labels), ("two", labels[::-1])):
        import_labels(request(tmp_path, order, folder=tmp_path / folder), report=silent)
    one, two = (
        sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*"))
        for name in ("one", "two")
    )
    assert one == two


def test_mirrored_labels_stop_the_import_and_the_named_option_imports_them(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    mirrored = {name: places * [-1, 1] + [SIZE[0], 0] for name, places in mics.items()}
    labels = stars(tmp_path / "picks", mirrored)
    message = refusal(request(tmp_path, labels))
    assert "mirrored in y" in message
    assert "import with --flip-y" in message
    with Image.open(tmp_path / "data-readings.png") as shown:
        assert shown.width > 2 * SIZE[1]
    import_labels(request(tmp_path, labels, reading=Reading(flip_y=True)), report=silent)
    np.testing.assert_allclose(labels_of(tmp_path / "data")["a"], mics["a"], atol=1e-3)
    facts = json.loads((tmp_path / "data" / "import.json").read_text())
    assert facts["reading"] == {
        "flip_y": True,
        "flip_x": False,
        "swap_xy": False,
        "scale": 1.0,
        "corner": False,
    }


def test_the_user_may_keep_a_reading_that_the_pictures_contradict(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    swapped = {name: places[:, ::-1] for name, places in mics.items()}
    done = import_labels(
        request(tmp_path, stars(tmp_path / "picks", swapped), keep_reading=True), report=silent
    )
    assert "they would fit better" in done.notes[-1]


def test_labels_of_binned_pictures_name_their_scale(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    labels = [
        write(tmp_path / f"{name}.box", eman.text(of(name, *(places * 4), diameter_px=48)))
        for name, places in mics.items()
    ]
    made = request(tmp_path, labels, sizes=Sizes())
    assert "import with --scale 0.25" in refusal(made)
    import_labels(dataclasses.replace(made, reading=Reading(scale=0.25)), report=silent)
    dataset = read_dataset(tmp_path / "data", border=0, max_megapixels=10)
    assert list(dataset.diameter_px.values()) == [12.0]


def test_particles_outside_their_pictures_are_refused_with_what_would_fit(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    rng = np.random.default_rng(0)
    far = {name: rng.uniform(0, 1.9, places.shape) * SIZE for name, places in mics.items()}
    message = refusal(request(tmp_path, stars(tmp_path / "picks", far)))
    assert "particles lie outside their pictures (--scale 0.5 would" in message


def test_coordinates_count_px_of_the_picture_that_their_file_gives(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    twice = [
        dataclasses.replace(of(name, *(places * 2), diameter_px=24), picture_px=(400, 512))
        for name, places in mics.items()
    ]
    labels = [write(tmp_path / "labels.json", "".join(coco.text(twice)))]
    done = import_labels(request(tmp_path, labels, sizes=Sizes()), report=silent)
    assert "scaled by 0.5" in done.notes[0]
    np.testing.assert_allclose(labels_of(tmp_path / "data")["a"], mics["a"], atol=1e-3)


def test_the_diameter_in_angstrom_takes_the_pixel_size_of_the_header(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    labels = stars(tmp_path / "picks", mics)
    made = request(tmp_path, labels, sizes=Sizes(diameter_angstrom=24))
    import_labels(made, report=silent)
    dataset = read_dataset(tmp_path / "data", border=0, max_megapixels=10)
    assert list(dataset.diameter_px.values()) == [12.0]


def test_two_pixel_sizes_that_differ_are_refused_where_one_decides_the_diameter(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    found = [Coordinates(name, places) for name, places in mics.items()]
    text = "".join(relion.particles_text(found, pixel_size_angstrom=1.5))
    labels = [write(tmp_path / "p.star", text)]
    made = request(tmp_path, labels, sizes=Sizes(diameter_angstrom=24))
    assert "says 1.5 angstrom per px, a.mrc says 2; give --pixel-size" in refusal(made)
    sizes = Sizes(diameter_angstrom=24, pixel_size_angstrom=2.0)
    import_labels(dataclasses.replace(made, sizes=sizes), report=silent)


def test_labels_that_fit_no_reading_are_imported_with_a_warning(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    rng = np.random.default_rng(0)
    nowhere = {name: rng.uniform(12, 188, places.shape) for name, places in mics.items()}
    done = import_labels(request(tmp_path, stars(tmp_path / "picks", nowhere)), report=silent)
    assert "do not show that the labels sit on particles" in done.notes[-1]


def test_a_micrograph_whose_file_has_no_particles_is_empty_and_not_unlabelled(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    labels = stars(tmp_path / "picks", {**mics, "d": np.zeros((0, 2))})
    done = import_labels(request(tmp_path, labels), report=silent)
    assert done.pool == 0
    assert len(labels_of(tmp_path / "data")["d"]) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": Sizes()}, "gives no size of the particles; give --diameter-px"),
        ({"sizes": Sizes(diameter_px=float("nan"))}, "--diameter-px is nan"),
        ({"sizes": Sizes(diameter_px=1e308)}, "--diameter-px is 1e+308"),
        ({"sizes": Sizes(diameter_px=150.0)}, "particles of 150 px in a picture of 200 x 256 px"),
        ({"sizes": Sizes(diameter_px=9.0, diameter_angstrom=9.0)}, "are both given"),
        ({"reading": Reading(scale=0.0)}, "--scale is 0"),
        ({"source": "a/b"}, "--source 'a/b' is no plain name"),
        ({"micrographs": Path("/nowhere")}, "no such folder"),
    ],
)
def test_what_cannot_be_imported_is_refused_and_nothing_is_written(
    tmp_path: Path, mics: dict[str, np.ndarray], changes: dict[str, object], words: str
) -> None:
    assert words in refusal(request(tmp_path, stars(tmp_path / "picks", mics), **changes))


def test_one_labelled_micrograph_is_not_enough(tmp_path: Path, mics: dict[str, np.ndarray]) -> None:
    labels = stars(tmp_path / "picks", {"a": mics["a"]})
    assert "1 labelled micrograph with particles; label at least two" in refusal(
        request(tmp_path, labels)
    )


def test_labels_of_other_micrographs_are_refused_by_name(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    labels = stars(tmp_path / "picks", {"z": mics["a"]})
    message = refusal(request(tmp_path, labels))
    assert "no coordinates fit a micrograph" in message
    assert "z_autopick.star" in message
    assert "'a.mrc'" in message


def test_two_files_for_one_micrograph_are_refused_by_name(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    labels = stars(tmp_path / "p", mics) + stars(tmp_path / "p", mics, suffix="_manualpick")
    message = refusal(request(tmp_path, labels))
    assert "'a.mrc' has two sets of coordinates" in message
    assert "a_manualpick.star" in message


def test_names_that_fit_no_micrograph_are_reported(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    found = [Coordinates(name, places) for name, places in {**mics, "z": mics["a"]}.items()]
    labels = [write(tmp_path / "all.txt", "".join(tables.topaz_text(found)))]
    done = import_labels(request(tmp_path, labels), report=silent)
    assert done.notes[0].startswith("1 of 5 names in the coordinates fit no micrograph")


def test_a_folder_with_content_is_left_as_it_is(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    write(tmp_path / "data" / "mine.txt", "mine")
    labels = stars(tmp_path / "picks", mics)
    assert "exists already" in refusal(request(tmp_path, labels))
    inside = request(tmp_path, labels, folder=tmp_path / "mics" / "data")
    assert "inside the folder of the micrographs" in refusal(inside)


def test_an_import_that_is_interrupted_leaves_nothing(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    def interrupt(event: Progress) -> None:
        if event.phase == "import" and event.done == 2:
            assert (tmp_path / ".data.partial" / "train").exists()
            raise KeyboardInterrupt

    made = request(tmp_path, stars(tmp_path / "picks", mics))
    with pytest.raises(KeyboardInterrupt):
        import_labels(made, report=interrupt)
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / ".data.partial").exists()
    write(tmp_path / ".data.partial" / "train" / "of_a_killed_import.mrc", "")
    import_labels(made, report=silent)
    assert not (tmp_path / "data" / "train" / "of_a_killed_import.mrc").exists()


def test_a_damaged_micrograph_is_refused_by_name(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    labels = stars(tmp_path / "picks", mics)
    content = (tmp_path / "mics" / "c.mrc").read_bytes()
    (tmp_path / "mics" / "c.mrc").write_bytes(content[:5000])
    assert "c.mrc: 5000 bytes where the MRC header promises" in refusal(request(tmp_path, labels))


def test_power_spectra_beside_micrographs_are_no_micrographs(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    write_mrc(tmp_path / "mics" / "a_PS.mrc", np.ones((64, 64), np.float32))
    done = import_labels(request(tmp_path, stars(tmp_path / "picks", mics)), report=silent)
    assert done.pool == 0


def test_a_micrographs_star_names_the_micrographs_from_its_project(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    header = "data_micrographs\nloop_\n_rlnMicrographName #1\n"
    listed = write(
        tmp_path / "job/micrographs.star", header + "mics/a.mrc\nmics/b.mrc\nmics/c.mrc\n"
    )
    labels = stars(tmp_path / "picks", {name: mics[name] for name in "ab"})
    done = import_labels(request(tmp_path, labels, micrographs=listed), report=silent)
    assert (done.labelled, done.validation, done.pool) == (1, 1, 1)


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, mics: dict[str, np.ndarray]
) -> None:
    made = request(tmp_path, stars(tmp_path / "picks", mics), folder=Path("/proc/none/data"))
    with pytest.raises(StorageError, match="cannot write /proc/none/data"):
        import_labels(made, report=silent)
