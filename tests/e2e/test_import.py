"""Import of what is exported in any format is the identity, and a run begins on what was imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from coordinate_files import cryosparc_records, write
from typed_commands import call

from cryossl.data.coco.dataset import read_dataset
from cryossl.data.images import read_picture
from cryossl.picking.coordinates import Coordinates
from cryossl.picking.formats import coco, cryolo, eman, relion, tables
from cryossl.picking.importing.readings import Labelled, Reading, measure


@pytest.fixture(scope="module")
def real(coco_public: Path) -> list[Coordinates]:
    """The labels of five micrographs of two proteins."""
    found = [
        one
        for part in ("train", "val")
        for one in coco.read(coco_public / "annotations" / f"instances_{part}.json")
    ]
    return [*found[:2], *found[-3:]]


@pytest.fixture(scope="module")
def pictures(
    coco_public: Path, real: list[Coordinates], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with their pictures, and three more."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [path for part in ("train", "val") for path in (coco_public / part).iterdir()]
    wanted = {one.micrograph for one in real}
    more = sorted(path.name for path in paths if path.name not in wanted)[:3]
    for path in paths:
        if path.name in wanted or path.name in more:
            (folder / path.name).symlink_to(path)
    return folder


def each(folder: Path, real: Iterable[Coordinates], writer: object, suffix: str) -> list[Path]:
    return [
        write(folder / f"{Path(one.micrograph).stem}{suffix}", writer(one))  # type: ignore[operator]
        for one in real
    ]


def exported(folder: Path, real: list[Coordinates], form: str) -> list[Path]:
    if form == "star":
        return each(folder, real, relion.micrograph_text, "_autopick.star")
    if form == "box":
        return each(folder, real, eman.text, ".box")
    if form == "cbox":
        return each(folder, real, cryolo.text, ".cbox")
    if form == "index":
        files = each(folder / "Pick/job1", real, relion.micrograph_text, "_autopick.star")
        rows = [
            (f"MotionCorr/job2/{one.micrograph}", path.relative_to(folder).as_posix())
            for one, path in zip(real, files, strict=True)
        ]
        return [write(folder / "Pick/job1/autopick.star", relion.index_text(rows))]
    if form == "cs":
        names = [f"J1/{10**20 + number}_{one.micrograph}" for number, one in enumerate(real)]
        every = [
            (name, one, row)
            for name, one in zip(names, real, strict=True)
            for row in range(one.count)
        ]
        records = cryosparc_records([name for name, _, _ in every], fractions=[(0, 0)] * len(every))
        records["location/micrograph_shape"] = [one.picture_px for _, one, _ in every]
        for column, (axis, index) in {"x": (1, "x_index"), "y": (0, "y_index")}.items():
            records[f"location/center_{column}_frac"] = [
                getattr(one, index)[row] / one.picture_px[axis]  # type: ignore[index]
                for _, one, row in every
            ]
        np.save(folder / "all.npy", records)
        return [(folder / "all.npy").rename(folder / "all.cs")]
    text = {
        "particles": (lambda: relion.particles_text(real, pixel_size_angstrom=1.77), "star"),
        "csv": (lambda: tables.csv_text(real), "csv"),
        "topaz": (lambda: tables.topaz_text(real), "txt"),
        "coco": (lambda: coco.text(real), "json"),
    }
    writer, suffix = text[form]
    return [write(folder / f"all.{suffix}", "".join(writer()))]


FORMS = ["star", "index", "particles", "box", "cbox", "cs", "csv", "topaz", "coco"]


def assert_identity(folder: Path, given: list[Coordinates], pictures: Path, form: str) -> None:
    """What is exported in a format and imported again has the same labels, and no others."""
    files = exported(folder, given, form)
    target = folder / "data"
    diameter_px = float(np.median(given[0].sides_px()))
    sized = [] if form in ("box", "cbox", "csv", "coco") else ["--diameter-px", str(diameter_px)]
    done = call(
        "data", "import", *map(str, files), "--micrographs", str(pictures), "--to", str(target), *sized
    )  # fmt: skip
    assert done.code == 0, done.err
    dataset = read_dataset(target, border=0, max_megapixels=20)
    found = {
        Path(name).name: particles.boxes
        for part in dataset.parts.values()
        for name, particles in part.particles.items()
    }
    assert set(found) == {one.micrograph for one in given}
    for one in given:
        boxes = found[one.micrograph]
        np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:] / 2, one.centres, atol=0.01)
        if not sized:
            np.testing.assert_allclose(boxes[:, 2], one.diameters_px, atol=0.01)
    everything = {path.name for path in pictures.rglob("*") if path.suffix in (".jpg", ".png")}
    parts = (dataset.train, dataset.validation)
    assert {Path(one.id).name for part in parts for one in part.micrographs} == everything


@pytest.mark.parametrize("form", FORMS)
def test_import_of_what_is_exported_is_the_identity_on_simulated_labels(
    tmp_path: Path, tiny_data: Path, form: str
) -> None:
    given = coco.read(tiny_data / "annotations" / "instances_train.json")
    assert sum(one.count for one in given) >= 16
    assert_identity(tmp_path, given, tiny_data / "train", form)


@pytest.mark.parametrize("form", FORMS)
def test_import_of_what_is_exported_is_the_identity_on_real_labels(
    tmp_path: Path, real: list[Coordinates], pictures: Path, form: str
) -> None:
    assert_identity(tmp_path, real, pictures, form)
    dataset = read_dataset(tmp_path / "data", border=0, max_megapixels=20)
    assert len(dataset.validation.particles) == 2
    assert {micrograph.source for micrograph in dataset.train.micrographs} == {"10017", "10028"}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_import_of_what_is_exported_is_the_identity_on_all_real_micrographs(
    tmp_path: Path, coco_public: Path, form: str
) -> None:
    given = [
        one
        for part in ("train", "val")
        for one in coco.read(coco_public / "annotations" / f"instances_{part}.json")
    ]
    assert_identity(tmp_path, given, coco_public, form)


def test_a_run_begins_with_the_command_that_the_import_prints(
    tmp_path: Path, real: list[Coordinates], pictures: Path
) -> None:
    files = exported(tmp_path, real, "box")
    target = tmp_path / "my data"
    done = call(
        "data", "import", *map(str, files), "--micrographs", str(pictures), "--to", str(target)
    )
    assert f"cryossl run --data '{target}' --labelled '{target}/labelled.txt'" in done.out
    begun = call(
        "run", "--dry-run", "--data", str(target), "--labelled", str(target / "labelled.txt"),
        "--work", str(tmp_path / "work"), "--image-px", "256", "--tile-px", "64",
        "--batch-size", "2", "--decoder-width", "4",
    )  # fmt: skip
    assert begun.code == 0, begun.err
    assert "6 training micrographs: 3 labelled (50%), 3 unlabelled" in begun.out


def test_real_labels_that_are_mirrored_stop_the_import(
    tmp_path: Path, real: list[Coordinates], pictures: Path
) -> None:
    files = exported(tmp_path, real, "csv")
    done = call(
        "data", "import", *map(str, files), "--micrographs", str(pictures),
        "--to", str(tmp_path / "data"), "--flip-x",
    )  # fmt: skip
    assert done.code == 2
    assert len(done.err.strip().split("cryossl: error: ")[1].splitlines()) == 1
    assert "import without --flip-y, --flip-x" in done.err
    assert not (tmp_path / "data").exists()
    assert (tmp_path / "data-readings.png").exists()


@pytest.mark.parametrize("name", ["10017_Falcon_2012_06_12-15_17_31_0.jpg", "10028_062.jpg"])
def test_each_mistake_planted_in_real_labels_is_found_and_named(
    coco_public: Path, name: str
) -> None:
    (one,) = (
        one
        for one in coco.read(coco_public / "annotations" / "instances_val.json")
        if one.micrograph == name
    )
    assert one.picture_px is not None
    picture = read_picture(coco_public / "val" / name, max_megapixels=20)

    def better(centres: np.ndarray) -> Reading | None:
        labelled = Labelled(name, picture, centres, 55.0, scales=False)
        return measure([labelled], Reading(), rng=np.random.default_rng(0)).better

    assert better(one.centres) is None
    for mistake in (
        Reading(flip_y=True),
        Reading(flip_x=True),
        Reading(swap_xy=True),
        Reading(scale=0.5),
    ):
        found = better(mistake.places(one.centres, size_px=one.picture_px, diameter_px=55.0))
        assert found == dataclasses.replace(mistake, scale=1 / mistake.scale)
