"""The synthetic data set that is written against its promises."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cryossl.data.coco.dataset import read_dataset
from cryossl.data.synthetic.dataset import (
    SIMULATION_FILE,
    SUMS_FILE,
    VERSION,
    border_px,
    synthesise,
)
from cryossl.errors import DataError, StorageError
from cryossl.progress.events import Progress, silent

SMALL = {"train": 7, "validation": 2, "test": 3, "size_px": 64}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of the default run."""
    folder = tmp_path_factory.mktemp("synthetic") / "data"
    synthesise(folder, seed=0, report=silent)
    return folder


def test_the_pictures_of_the_default_run_are_those_of_version_one(full: Path) -> None:
    """Work folders hold results of these pictures; others need another VERSION."""
    assert VERSION == 1
    pixels = hashlib.sha256()
    for path in sorted(full.rglob("*.png")):
        pixels.update(path.relative_to(full).as_posix().encode())
        pixels.update(np.asarray(Image.open(path)).tobytes())
    assert pixels.hexdigest() == (
        "a94bb6290f30051e99ce739bf21b51fddaca10c9ef920091a3ff5ca11d8a9c50"
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def document(folder: Path, part: str) -> Any:
    return json.loads((folder / "annotations" / f"instances_{part}.json").read_text())


def boxes(folder: Path, part: str) -> dict[str, list[list[int]]]:
    """File name -> the boxes of its particles."""
    whole = document(folder, part)
    names = {image["id"]: image["file_name"] for image in whole["images"]}
    found: dict[str, list[list[int]]] = {name: [] for name in names.values()}
    for annotation in whole["annotations"]:
        if annotation["iscrowd"] == 1:
            found[names[annotation["image_id"]]].append(annotation["bbox"])
    return found


def discs(found: list[list[int]], size_px: int) -> np.ndarray:
    y, x = np.mgrid[:size_px, :size_px] + 0.5
    mask = np.zeros((size_px, size_px), dtype=bool)
    for left, top, width, height in found:
        mask |= np.hypot(y - top - height / 2, x - left - width / 2) <= width / 2
    return mask


def test_particles_are_darker_than_what_is_around_them(full: Path) -> None:
    darker = total = 0
    for part in ("train", "val", "test"):
        for name, found in boxes(full, part).items():
            picture = np.asarray(Image.open(full / part / name), dtype=float)
            for left, top, width, height in found:
                inner = discs(
                    [[left + width // 4, top + height // 4, width // 2, height // 2]], 128
                )
                ring = discs([[left - 3, top - 3, width + 6, height + 6]], 128)
                ring &= ~discs([[left, top, width, height]], 128)
                darker += bool(picture[inner].mean() < picture[ring].mean())
                total += 1
    assert total > 500
    assert 0.75 < darker / total < 1


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        synthesise(tmp_path / name, seed=seed, report=silent, **SMALL)
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again
    assert first.keys() != other.keys() or all(
        first[name] != other[name] for name in first if name.endswith(".png")
    )


def test_no_picture_is_there_twice(full: Path) -> None:
    pictures = [content for name, content in contents(full).items() if name.endswith(".png")]
    assert len(set(pictures)) == len(pictures) == 160


def test_the_overall_particle_ratio_is_about_four_percent(full: Path) -> None:
    found = [
        found for part in ("train", "val", "test") for found in boxes(full, part).values() if found
    ]
    ratio = np.mean([discs(one, 128)[5:-5, 5:-5].mean() for one in found])
    assert 0.035 < ratio < 0.045


def test_micrographs_run_from_nearly_empty_to_crowded(full: Path) -> None:
    counts = [len(found) for found in boxes(full, "train").values() if found]
    assert min(counts) == 1
    assert max(counts) > 5 * np.median(counts)


def test_conditions_cover_their_range_in_every_part(full: Path) -> None:
    facts = json.loads((full / SIMULATION_FILE).read_text())["micrographs"]
    for part in ("train", "val", "test"):
        rows = [row for name, row in facts.items() if name.startswith(f"{part}/")]
        thick = np.mean([row["ice_angstrom"] >= 900 for row in rows])
        assert thick == pytest.approx(0.125, abs=0.05)
        defocus = [row["defocus_angstrom"] for row in rows]
        assert max(defocus) / min(defocus) > 2.5
        assert any(row["carbon"] for row in rows)
        assert any(row["crystals"] >= 5 for row in rows)


def test_the_files_have_cryotransformers_quirks(full: Path) -> None:
    train = document(full, "train")
    assert isinstance(train["info"], list)
    assert [image["id"] for image in train["images"]] == list(range(100))
    assert [annotation["id"] for annotation in train["annotations"]] == list(
        range(1, len(train["annotations"]) + 1)
    )
    dummies = [annotation for annotation in train["annotations"] if annotation["iscrowd"] == 0]
    assert [(dummy["bbox"], dummy["area"]) for dummy in dummies] == [([0, 0, 0, 0], 0)]
    particles = [annotation for annotation in train["annotations"] if annotation["iscrowd"] == 1]
    assert all(annotation["segmentation"] == [] for annotation in particles)
    assert all(type(number) is int for annotation in particles for number in annotation["bbox"])
    assert any(min(annotation["bbox"][:2]) < 0 for annotation in particles)


def test_the_border_band_has_particles_without_labels(full: Path) -> None:
    facts = json.loads((full / SIMULATION_FILE).read_text())["micrographs"]
    found = boxes(full, "train")
    visible = sum(facts[f"train/{name}"]["particles"] for name, one in found.items() if one)
    centres = np.array(
        [[left + d / 2, top + d / 2] for one in found.values() for left, top, d, _ in one]
    )
    assert len(centres) < 0.95 * visible
    assert centres.min() >= border_px(128)
    assert centres.max() <= 128 - border_px(128)


def test_the_reader_finds_the_parts_sources_diameters_and_the_band(full: Path) -> None:
    dataset = read_dataset(full, border="auto", max_megapixels=1.0)
    assert dataset.test is not None
    assert [
        len(part.micrographs) for part in (dataset.train, dataset.validation, dataset.test)
    ] == [100, 20, 40]
    assert [len(part.particles) for part in (dataset.train, dataset.validation, dataset.test)] == [
        99,
        20,
        40,
    ]
    assert dict(dataset.diameter_px) == {"tetramer": 9.0, "dumbbell": 12.0, "barrel": 16.0}
    assert all(abs(band - border_px(128)) <= 1 for band in dataset.border_px.values())


def test_a_second_call_writes_nothing(tmp_path: Path) -> None:
    events: list[Progress] = []
    synthesise(tmp_path / "data", seed=0, report=events.append, **SMALL)
    assert [event.done for event in events] == list(range(1, 13))
    assert {event.total for event in events} == {12}
    synthesise(tmp_path / "data", seed=0, report=events.append, **SMALL)
    assert len(events) == 12


def test_an_interrupted_call_leaves_no_data_set_and_the_next_one_starts_afresh(
    tmp_path: Path,
) -> None:
    def interrupt(event: Progress) -> None:
        if event.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesise(tmp_path / "data", seed=0, report=interrupt, **SMALL)
    assert not (tmp_path / "data").exists()
    synthesise(tmp_path / "data", seed=0, report=silent, **SMALL)
    synthesise(tmp_path / "undisturbed", seed=0, report=silent, **SMALL)
    assert contents(tmp_path / "data") == contents(tmp_path / "undisturbed")
    assert [path for path in tmp_path.iterdir() if path.name.endswith(".partial")] == []


def test_a_folder_with_other_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="does not hold this synthetic data set"):
        synthesise(tmp_path, seed=0, report=silent, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["annotations/instances_val.json", "train", "sources.csv"])
def test_a_data_set_with_one_changed_bit_is_refused_by_the_name_of_the_file(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "data"
    synthesise(folder, seed=0, **SMALL, report=silent)
    path = folder / name
    path = min(path.iterdir()) if path.is_dir() else path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path.name} is not as it was simulated"):
        synthesise(folder, seed=0, **SMALL, report=silent)


def _without_a_line(sums: Path) -> None:
    sums.write_text("".join(sums.read_text().splitlines(keepends=True)[1:]))


def _another_picture(sums: Path) -> None:
    train = sums.parent / "train"
    (train / "another.png").write_bytes(min(train.iterdir()).read_bytes())


def _linked_folder(sums: Path) -> None:
    (sums.parent / "train" / "more").symlink_to(sums.parent / "val")


def _no_file(sums: Path) -> None:
    sums.unlink()
    sums.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        lambda sums: sums.write_bytes(b""),
        lambda sums: sums.write_bytes(b"\xff\xfe\xff"),
        lambda sums: sums.write_text("no sums\n"),
        lambda sums: min((sums.parent / "train").iterdir()).unlink(),
        _without_a_line,
        _another_picture,
        _linked_folder,
        _no_file,
    ],
)
def test_a_data_set_whose_files_and_sums_do_not_agree_is_refused(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    folder = tmp_path / "data"
    synthesise(folder, seed=0, **SMALL, report=silent)
    damage(folder / SUMS_FILE)
    with pytest.raises(DataError, match=f"is not as it was simulated; remove {folder}, it is"):
        synthesise(folder, seed=0, **SMALL, report=silent)


def test_a_data_set_of_an_earlier_version_without_sums_is_believed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    synthesise(folder, seed=0, **SMALL, report=silent)
    (folder / SUMS_FILE).unlink()
    synthesise(folder, seed=0, **SMALL, report=silent)


def test_a_hidden_file_beside_the_data_does_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    synthesise(folder, seed=0, **SMALL, report=silent)
    (folder / "train" / ".DS_Store").write_bytes(b"")
    synthesise(folder, seed=0, **SMALL, report=silent)


def test_a_data_set_of_another_seed_is_left_alone(tmp_path: Path) -> None:
    synthesise(tmp_path / "data", seed=0, report=silent, **SMALL)
    with pytest.raises(DataError, match="does not hold this synthetic data set"):
        synthesise(tmp_path / "data", seed=1, report=silent, **SMALL)


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write the synthetic data set") as caught:
        synthesise(tmp_path / "file" / "data", seed=0, report=silent, **SMALL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sources", [1, 2, 5])
def test_each_source_has_its_own_particle_and_the_reader_finds_it(
    tmp_path: Path, sources: int
) -> None:
    synthesise(
        tmp_path / "data",
        seed=1,
        train=3 * sources + 2,
        validation=sources,
        test=sources,
        size_px=96,
        sources=sources,
        form="jpg",
        report=silent,
    )
    dataset = read_dataset(tmp_path / "data", border="auto", max_megapixels=1.0)
    assert dict(dataset.diameter_px) == dict(
        list(
            {"tetramer": 9, "dumbbell": 12, "barrel": 16, "tetramer2": 10, "dumbbell2": 13}.items()
        )[:sources]
    )
    assert {path.suffix for path in (tmp_path / "data" / "train").iterdir()} == {".jpg"}


def test_another_number_of_sources_or_format_is_another_data_set(tmp_path: Path) -> None:
    synthesise(tmp_path / "data", seed=0, report=silent, **SMALL)
    for options in ({"sources": 2}, {"form": "mrc"}):
        with pytest.raises(DataError, match="does not hold this synthetic data set"):
            synthesise(tmp_path / "data", seed=0, report=silent, **SMALL, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"train": 3},
        {"validation": 0},
        {"test": 0},
        {"size_px": 32},
        {"sources": 0},
        {"sources": 7},
        {"sources": 61},
        {"form": "bmp"},
    ],
)
def test_sizes_that_make_no_data_set_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        synthesise(tmp_path / "data", seed=0, report=silent, **{**SMALL, **wrong})
    assert not (tmp_path / "data").exists()


def test_a_file_in_the_way_is_refused_before_anything_is_simulated(tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.write_text("mine")
    heard: list[Progress] = []
    with pytest.raises(DataError, match="data is not a folder; remove it"):
        synthesise(place, seed=0, **SMALL, report=heard.append)
    assert heard == []
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.skipif(
    not Path("/proc").is_dir(), reason="no file system in which nobody can make a file"
)
def test_a_place_where_no_file_can_be_made_is_refused_at_once(tmp_path: Path) -> None:
    # In a process of its own: a lock that is tried for ever would hang the whole suite.
    code = (
        "from pathlib import Path; from cryossl.data.synthetic.dataset import synthesise\n"
        "from cryossl.progress.events import silent\n"
        "synthesise(Path('/proc/x'), seed=0, train=7, validation=2, test=3, size_px=64, "
        "report=silent)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (
        "StorageError: cannot write the synthetic data set to /proc/x: "
        in done.stderr.splitlines()[-1]
    )


def test_the_current_folder_is_refused_or_filled_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(DataError):
        synthesise(Path(), seed=0, report=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_annotation_files_are_laid_out_as_json_does_it(full: Path) -> None:
    for path in (full / "annotations").iterdir():
        text = path.read_text()
        assert text == f"{json.dumps(json.loads(text), indent=1)}\n"
