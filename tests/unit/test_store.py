"""The store: what it holds, what its key depends on, and that it survives being killed."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cryossl.coco import DataSet, Micrograph, Part, Particles, rasterise
from cryossl.config import InputSettings
from cryossl.errors import DataError, StorageError
from cryossl.images import normalise, read_picture, resize
from cryossl.labels import IGNORE, PARTICLE
from cryossl.progress import Progress, silent
from cryossl.store import PixelFile, Store, build, open_store

BOX = (10.0, 20.0, 8.0, 8.0)
SETTINGS = InputSettings(image_px=48, tile_px=32)


def make_data(root: Path) -> DataSet:
    """Two sources in train (one micrograph unlabelled, one empty), one micrograph each in validation and test."""
    return DataSet(
        root=root,
        train=make_part(root, "train", {"a_1": [BOX, (50.0, 60.0, 8.0, 8.0)], "a_2": None, "b_1": [], "b_2": [BOX]}),
        validation=make_part(root, "val", {"a_3": [BOX]}), test=make_part(root, "test", {"b_3": [BOX]}),
        border_px={"a": 6, "b": 0}, diameter_px={"a": 8.0, "b": 16.0}, notes=())


def make_part(root: Path, name: str, boxes: dict[str, list[tuple[float, ...]] | None]) -> Part:
    (root / name).mkdir(parents=True, exist_ok=True)
    micrographs = []
    for seed, stem in enumerate(boxes):
        path = root / name / f"{stem}.png"
        rng = np.random.default_rng([seed, len(name)])
        Image.fromarray(rng.integers(0, 256, (72, 96), dtype=np.uint8)).save(path)
        micrographs.append(Micrograph(id=f"{name}/{stem}.png", path=path, height_px=72, width_px=96, source=stem[0],
                                      pixel_size_angstrom=None))
    particles = {f"{name}/{stem}.png": Particles(boxes=np.array(rows, dtype=np.float64).reshape(-1, 4), outlines=())
                 for stem, rows in boxes.items() if rows is not None}
    return Part(micrographs=tuple(micrographs), particles=particles)


def make_store(dataset: DataSet, folder: Path, *, network_multiple: int = 8,
               report: Callable[[Progress], None] = silent, **changes: object) -> Store:
    settings = SETTINGS.model_copy(update=changes)
    return build(dataset, folder, settings=settings, network_multiple=network_multiple, report=report)


@pytest.fixture
def dataset(tmp_path: Path) -> DataSet:
    return make_data(tmp_path / "data")


def replaced_box(dataset: DataSet, name: str, boxes: list[tuple[float, ...]]) -> DataSet:
    particles = {**dataset.train.particles, name: Particles(boxes=np.array(boxes), outlines=())}
    return dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, particles=particles))


# What it holds


def test_a_picture_is_decoded_reduced_and_normalised(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    decoded = read_picture(dataset.train.micrographs[0].path, max_megapixels=1)
    expected = normalise(resize(decoded, height_px=36, width_px=48))
    np.testing.assert_array_equal(store.picture("train/a_1.png"), expected)


def test_truth_is_the_particles_at_the_store_s_scale(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work", particle_radius_fraction=0.8)
    expected = rasterise(dataset.train.particles["train/a_1.png"], height_px=36, width_px=48, scale=0.5,
                         particle_radius_fraction=0.8)
    assert expected.any()
    np.testing.assert_array_equal(store.truth("train/a_1.png", border=False), expected)


def test_the_unlabelled_border_is_ignored_on_request(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    without, bordered = (store.truth("train/a_1.png", border=border) for border in (False, True))
    assert store.micrographs["train/a_1.png"].border_px == 3
    np.testing.assert_array_equal(bordered[3:-3, 3:-3], without[3:-3, 3:-3])
    assert np.count_nonzero(bordered == IGNORE) == 36 * 48 - 30 * 42
    assert not (without == IGNORE).any()


def test_a_source_without_a_border_has_no_pixel_ignored(dataset: DataSet, tmp_path: Path) -> None:
    assert not (make_store(dataset, tmp_path / "work").truth("train/b_2.png", border=True) == IGNORE).any()


def test_an_unlabelled_micrograph_has_no_truth(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    assert not store.micrographs["train/a_2.png"].annotated
    with pytest.raises(DataError, match="unlabelled"):
        store.truth("train/a_2.png", border=False)
    with pytest.raises(DataError, match="unlabelled"):
        store.particle_ratio(["train/a_2.png"])


def test_an_empty_micrograph_is_annotated_background(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    assert store.micrographs["train/b_1.png"].annotated
    assert store.micrographs["train/b_1.png"].particle_count == 0
    assert not store.truth("train/b_1.png", border=False).any()


def test_micrographs_are_ordered_by_part_and_id(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    assert [(name, stored.part) for name, stored in store.micrographs.items()] == [
        ("train/a_1.png", "train"), ("train/a_2.png", "train"), ("train/b_1.png", "train"), ("train/b_2.png", "train"),
        ("val/a_3.png", "validation"), ("test/b_3.png", "test")]
    assert store.micrographs["train/a_1.png"].particle_count == 2


def test_a_picture_cannot_be_written_to(dataset: DataSet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        make_store(dataset, tmp_path / "work").picture("train/a_1.png")[0, 0] = 1


def test_a_data_set_without_any_annotation_can_be_stored(dataset: DataSet, tmp_path: Path) -> None:
    bare = DataSet(root=dataset.root, train=Part(micrographs=dataset.train.micrographs, particles={}),
                   validation=Part(micrographs=(), particles={}), test=None, border_px={}, diameter_px={}, notes=())
    store = make_store(bare, tmp_path / "work")
    assert store.picture("train/b_2.png").shape == (36, 48)
    assert not any(stored.annotated for stored in store.micrographs.values())


# Scale and tile


@pytest.mark.parametrize(("changes", "scale"), [
    ({"image_px": 48}, 0.5),
    ({"image_px": 1000}, 1.0),
    ({"image_px": 0}, 1.0),
    ({"particle_diameter_px": 4.0}, 0.5),
    ({"particle_diameter_px": 12.0}, 1.5),
    ({"particle_diameter_px": 12.0, "tile_px": 0}, 0.5),
])
def test_the_scale_follows_the_settings(dataset: DataSet, tmp_path: Path, changes: dict[str, object],
                                        scale: float) -> None:
    stored = make_store(dataset, tmp_path / "work", **changes).micrographs["train/a_1.png"]
    assert (stored.scale, stored.height_px, stored.width_px) == (scale, 72 * scale, 96 * scale)


def test_a_source_without_particles_is_scaled_as_the_others_and_it_is_said(dataset: DataSet, tmp_path: Path) -> None:
    unmeasured = dataclasses.replace(dataset, diameter_px={"a": 8.0})
    store = make_store(unmeasured, tmp_path / "work", particle_diameter_px=4.0)
    assert store.micrographs["train/b_1.png"].scale == 0.5
    assert len(store.notes) == 1
    assert "source b" in store.notes[0]


def test_no_particle_at_all_leaves_nothing_to_scale_by(dataset: DataSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no labelled particle"):
        make_store(dataclasses.replace(dataset, diameter_px={}), tmp_path / "work", particle_diameter_px=4.0)


@pytest.mark.parametrize(("changes", "multiple", "tile_px"), [
    ({"tile_px": 32}, 8, 32),
    ({"tile_px": 30}, 8, 32),
    ({"tile_px": 500}, 8, 48),
    ({"tile_px": 500}, 32, 64),
    ({"tile_px": 0}, 8, 48),
    ({"tile_px": 0, "image_px": 0}, 8, 96),
])
def test_the_tile_fits_the_pictures_and_the_network(dataset: DataSet, tmp_path: Path, changes: dict[str, object],
                                                    multiple: int, tile_px: int) -> None:
    assert make_store(dataset, tmp_path / "work", network_multiple=multiple, **changes).tile_px == tile_px


def test_tiles_are_found_by_micrograph_and_by_name(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    tiles = store.tiles("train/a_1.png")
    assert [(tile.y, tile.x) for tile in tiles] == [(0, 0), (0, 16), (4, 0), (4, 16)]
    assert store.tiles(tiles[2].id) == (tiles[2],)
    with pytest.raises(KeyError):
        store.tiles("train/a_1.png@1,1")


def test_a_window_is_cut_at_the_tile_and_filled_beyond_the_edge(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work", tile_px=48)
    (tile,) = store.tiles("train/a_1.png")
    window = store.window(store.picture("train/a_1.png"), tile, fill=77)
    assert window.shape == (48, 48)
    np.testing.assert_array_equal(window[:36], store.picture("train/a_1.png"))
    assert (window[36:] == 77).all()


# Particle ratio


def test_the_particle_ratio_is_pooled_over_micrographs(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    maps = [store.truth(name, border=True) for name in ("train/a_1.png", "train/b_1.png")]
    expected = sum(int((one == PARTICLE).sum()) for one in maps) / sum(int((one != IGNORE).sum()) for one in maps)
    assert 0 < expected < 1
    assert store.particle_ratio(["train/a_1.png", "train/b_1.png"]) == expected


def test_the_particle_ratio_of_all_tiles_is_that_of_the_micrograph(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    tiles = [tile.id for tile in store.tiles("train/a_1.png")]
    for border in (True, False):
        assert store.particle_ratio(tiles, border=border) == store.particle_ratio(["train/a_1.png"], border=border)
    assert store.particle_ratio(tiles[:1]) != store.particle_ratio(tiles[1:])
    assert store.particle_ratio(tiles, border=True) != store.particle_ratio(tiles, border=False)


def test_the_particle_ratio_of_nothing_is_refused(dataset: DataSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no annotated pixel"):
        make_store(dataset, tmp_path / "work").particle_ratio([])


# Faults


@pytest.mark.parametrize(("changes", "message"), [
    ({"particle_diameter_px": 400.0}, "once rescaled"),
    ({"image_px": 8}, "leaves nothing"),
])
def test_a_micrograph_that_cannot_be_used_is_named(dataset: DataSet, tmp_path: Path, changes: dict[str, object],
                                                   message: str) -> None:
    wide = dataclasses.replace(dataset, border_px={"a": 40})
    with pytest.raises(DataError, match=f"train/a_1.png: .*{message}"):
        make_store(wide, tmp_path / "work", max_megapixels=1.0, **changes)


def test_a_data_set_without_micrographs_is_refused(dataset: DataSet, tmp_path: Path) -> None:
    empty = Part(micrographs=(), particles={})
    with pytest.raises(DataError, match="no micrograph"):
        make_store(dataclasses.replace(dataset, train=empty, validation=empty, test=None), tmp_path / "work")


def test_a_picture_in_two_parts_is_refused(dataset: DataSet, tmp_path: Path) -> None:
    shutil.copy(dataset.root / "train/a_1.png", dataset.root / "test/b_3.png")
    with pytest.raises(DataError, match="are the same picture, in train and in test"):
        make_store(dataset, tmp_path / "work")


def test_a_picture_of_another_size_than_announced_is_refused(dataset: DataSet, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((10, 10), dtype=np.uint8)).save(dataset.root / "val/a_3.png")
    with pytest.raises(DataError, match=r"a_3\.png: 10 x 10 px instead of 72 x 96"):
        make_store(dataset, tmp_path / "work")


def test_a_missing_picture_is_named(dataset: DataSet, tmp_path: Path) -> None:
    (dataset.root / "val/a_3.png").unlink()
    with pytest.raises(DataError, match=r"a_3\.png: No such file"):
        make_store(dataset, tmp_path / "work")


def test_a_picture_that_changes_between_hashing_and_decoding_is_refused(dataset: DataSet, tmp_path: Path) -> None:
    path = dataset.root / "train/b_2.png"

    def disturb(event: Progress) -> None:
        if event.phase == "hash":
            Image.fromarray(np.zeros((72, 96), dtype=np.uint8)).save(path)

    with pytest.raises(DataError, match=r"b_2\.png changed"):
        make_store(dataset, tmp_path / "work", report=disturb)


@pytest.mark.parametrize("damage", [
    lambda folder: os.truncate(folder / "pictures.u8", 100),
    lambda folder: (folder / "truth.u8").unlink(),
    lambda folder: (folder / "index.json").unlink(),
    lambda folder: (folder / "index.json").write_text("{"),
    lambda folder: (folder / "index.json").write_text("[]"),
    lambda folder: (folder / "index.json").write_text('{"micrographs": [{"id": 1}]}'),
], ids=["short pictures", "no truth", "no index", "torn index", "list index", "foreign index"])
def test_a_damaged_store_is_refused(dataset: DataSet, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    folder = make_store(dataset, tmp_path / "work").folder
    damage(folder)
    with pytest.raises(StorageError, match="remove"):
        open_store(folder, border_px={})


def test_a_store_that_does_not_fit_says_so_and_can_be_made_later(dataset: DataSet, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
    try:
        with pytest.raises(StorageError, match="cannot write the store"):
            make_store(dataset, tmp_path / "work")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert tree(make_store(dataset, tmp_path / "work").folder) == tree(make_store(dataset, tmp_path / "other").folder)


# The key


def test_a_second_start_decodes_nothing(dataset: DataSet, tmp_path: Path) -> None:
    first = make_store(dataset, tmp_path / "work")
    events: list[Progress] = []
    second = make_store(dataset, tmp_path / "work", report=events.append)
    assert [event.phase for event in events] == ["hash"]
    assert (second.key, second.micrographs, second.folder) == (first.key, first.micrographs, first.folder)


def test_opening_a_store_gives_what_building_it_gave(dataset: DataSet, tmp_path: Path) -> None:
    built = make_store(dataset, tmp_path / "work")
    opened = open_store(built.folder, border_px=dataset.border_px)
    assert (opened.key, opened.tile_px, opened.micrographs) == (built.key, built.tile_px, built.micrographs)
    np.testing.assert_array_equal(opened.picture("test/b_3.png"), built.picture("test/b_3.png"))


def flip_one_byte(dataset: DataSet) -> DataSet:
    path = dataset.root / "val/a_3.png"
    state = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    return dataset


@pytest.mark.parametrize("change", [
    flip_one_byte,
    lambda dataset: replaced_box(dataset, "train/b_2.png", [(10.0, 20.0, 8.0, 8.5)]),
    lambda dataset: replaced_box(dataset, "train/b_2.png", [BOX, BOX]),
    lambda dataset: replaced_box(dataset, "train/a_2.png", [BOX]),
    lambda dataset: dataclasses.replace(dataset, border_px={"a": 8, "b": 0}),
    lambda dataset: dataclasses.replace(dataset, test=None),
], ids=["a byte of a file", "a box", "another box", "a label", "the border", "a part"])
def test_the_key_changes_with_the_data(dataset: DataSet, tmp_path: Path, change: Callable[[DataSet], DataSet]) -> None:
    before = make_store(dataset, tmp_path / "work").key
    assert make_store(change(dataset), tmp_path / "work").key != before


@pytest.mark.parametrize("changes", [
    {"particle_radius_fraction": 0.5}, {"image_px": 40}, {"tile_px": 16}, {"particle_diameter_px": 6.0},
    {"network_multiple": 64},
], ids=str)
def test_the_key_changes_with_a_setting_that_matters(dataset: DataSet, tmp_path: Path,
                                                     changes: dict[str, object]) -> None:
    assert make_store(dataset, tmp_path / "work", **changes).key != make_store(dataset, tmp_path / "work").key


@pytest.mark.parametrize("changes", [{"max_megapixels": 99.0}, {"tile_px": 30}], ids=str)
def test_the_key_stays_with_a_setting_that_changes_nothing(dataset: DataSet, tmp_path: Path,
                                                           changes: dict[str, object]) -> None:
    assert make_store(dataset, tmp_path / "work", **changes).key == make_store(dataset, tmp_path / "work").key


def touch_all(dataset: DataSet) -> DataSet:
    for path in dataset.root.rglob("*.png"):
        os.utime(path, ns=(0, 0))
    return dataset


def reorder(dataset: DataSet) -> DataSet:
    boxes = {name: Particles(boxes=one.boxes[::-1], outlines=one.outlines[::-1])
             for name, one in sorted(dataset.train.particles.items(), reverse=True)}
    return dataclasses.replace(dataset, train=Part(micrographs=dataset.train.micrographs[::-1], particles=boxes))


def move(dataset: DataSet) -> DataSet:
    root = dataset.root.with_name("elsewhere")
    dataset.root.rename(root)

    def moved(part: Part) -> Part:
        return dataclasses.replace(part, micrographs=tuple(dataclasses.replace(one, path=root / one.id)
                                                           for one in part.micrographs))

    assert dataset.test is not None
    return dataclasses.replace(dataset, root=root, train=moved(dataset.train), validation=moved(dataset.validation),
                               test=moved(dataset.test))


@pytest.mark.parametrize("change", [touch_all, reorder, move])
def test_the_key_is_free_of_time_order_and_place(dataset: DataSet, tmp_path: Path,
                                                 change: Callable[[DataSet], DataSet]) -> None:
    before = make_store(dataset, tmp_path / "work")
    after = make_store(change(dataset), tmp_path / "other")
    assert after.key == before.key
    assert tree(after.folder) == tree(before.folder)


def test_another_border_is_another_key_but_decodes_nothing(dataset: DataSet, tmp_path: Path) -> None:
    first = make_store(dataset, tmp_path / "work")
    events: list[Progress] = []
    second = make_store(dataclasses.replace(dataset, border_px={"a": 8}), tmp_path / "work", report=events.append)
    assert [event.phase for event in events] == ["hash"]
    assert (second.folder, second.micrographs["val/a_3.png"].border_px) == (first.folder, 4)
    assert second.key != first.key


# Being killed


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


# Imports once, then forks a builder again and again and kills it. `mode` random: SIGKILL after a random while.
# `mode` writes: the builder dies at its n-th opening, renaming or removing of a file of the work folder, for every n.
DRIVER = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
here, root, work, mode = sys.argv[1:]
sys.path.insert(0, here)
import test_store as t

def builder(die_at):
    seen = 0
    def count(event, args):
        nonlocal seen
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate") and str(args[0]).startswith(work):
            seen += 1
            if seen == die_at:
                os._exit(137)
    if die_at:
        sys.addaudithook(count)
    t.make_store(t.many(Path(root)), Path(work))

def attempt(die_at=0, wait=None):
    child = os.fork()
    if child == 0:
        try:
            builder(die_at)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    if wait is not None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def result():
    return {p.name: t.tree(p) for p in Path(work).iterdir() if p.name.startswith("store-") and p.is_dir()}

builder(0)  # here, so that what is imported on first use is there before the forks
reference = result()
shutil.rmtree(work)
begin = time.monotonic()
assert attempt() == 0
whole = time.monotonic() - begin
kills = rounds = 0
rng = random.Random(0)
if mode == "random":
    while kills < 25:
        rounds += 1
        shutil.rmtree(work)
        while (code := attempt(wait=rng.uniform(0, 0.9 * whole))) != 0:
            assert code == -signal.SIGKILL, code
            kills += 1
        assert result() == reference
else:
    code = 137
    while code:
        shutil.rmtree(work)
        code = attempt(die_at=kills + 1)
        assert code in (0, 137), code
        kills += code == 137
        assert attempt() == 0
        assert result() == reference
print(json.dumps({"kills": kills, "rounds": rounds}))
"""


def many(root: Path) -> DataSet:
    """More micrographs than a batch; made once, read again by every builder."""
    names = [f"a_{index:03}" for index in range(130)]
    train = [Micrograph(id=f"train/{stem}.png", path=root / "train" / f"{stem}.png", height_px=32, width_px=32,
                        source="a", pixel_size_angstrom=1.5) for stem in names]
    if not root.exists():
        (root / "train").mkdir(parents=True)
        for seed, one in enumerate(train):
            picture = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(picture).save(one.path)
    boxes = Particles(boxes=np.array([(4.0, 4.0, 8.0, 8.0)]), outlines=())
    return DataSet(root=root, train=Part(micrographs=tuple(train), particles={one.id: boxes for one in train[::2]}),
                   validation=Part(micrographs=(), particles={}), test=None, border_px={}, diameter_px={}, notes=())


@pytest.mark.parametrize(("mode", "least"), [("random", 25), ("writes", 12)])
def test_a_builder_killed_and_started_again_gives_the_same_bytes(tmp_path: Path, mode: str, least: int) -> None:
    many(tmp_path / "data")
    arguments = [str(Path(__file__).parent), str(tmp_path / "data"), str(tmp_path / "work"), mode]
    finished = subprocess.run([sys.executable, "-c", DRIVER, *arguments], check=False, capture_output=True, text=True,
                              timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["kills"] >= least


def test_a_builder_goes_on_at_the_next_batch(tmp_path: Path) -> None:
    dataset = many(tmp_path / "data")

    def stop_after_the_first_batch(event: Progress) -> None:
        if event.phase == "decode":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_store(dataset, tmp_path / "work", report=stop_after_the_first_batch)
    events: list[Progress] = []
    make_store(dataset, tmp_path / "work", report=events.append)
    assert [event for event in events if event.phase == "decode"] == [
        Progress("decode", 2, 2, "batch")]


def test_two_processes_that_want_the_same_store_share_it(tmp_path: Path) -> None:
    many(tmp_path / "data")
    script = ("import sys; sys.path.insert(0, sys.argv[1]); import test_store as t; from pathlib import Path\n"
              "print(t.make_store(t.many(Path(sys.argv[2])), Path(sys.argv[3])).key)")
    arguments = [str(Path(__file__).parent), str(tmp_path / "data"), str(tmp_path / "work")]
    started = [subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)
               for _ in range(2)]
    keys = {process.communicate(timeout=120)[0] for process in started}
    assert [process.returncode for process in started] == [0, 0]
    assert len(keys) == 1
    assert len([path for path in (tmp_path / "work").glob("store-*") if path.is_dir()]) == 1


# Memory


def test_walking_through_a_large_file_keeps_memory_flat(tmp_path: Path) -> None:
    path = tmp_path / "pictures.u8"
    side, count = 1024, 400
    with path.open("wb") as stream:
        stream.truncate(count * side * side)
    pixels = PixelFile(path, count * side * side)
    before = resident_bytes()
    for index in range(count):
        assert not pixels.view(index * side * side, side, side).any()
    assert resident_bytes() - before < 100 * 2**20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
