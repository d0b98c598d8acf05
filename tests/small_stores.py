"""Data sets of a few small pictures, and the stores built from them; a builder in a process of its own imports this too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cryossl.config import InputSettings
from cryossl.data.coco.dataset import DataSet, Micrograph, Part, Particles
from cryossl.data.store.store import Store, build
from cryossl.progress.events import Progress, silent

BOX = (10.0, 20.0, 8.0, 8.0)
SETTINGS = InputSettings(image_px=48, tile_px=32)


def make_data(root: Path) -> DataSet:
    """Two sources in train (one micrograph unlabelled, one empty), one micrograph each in validation and test."""
    return DataSet(
        root=root,
        train=make_part(
            root,
            "train",
            {"a_1": [BOX, (50.0, 60.0, 8.0, 8.0)], "a_2": None, "b_1": [], "b_2": [BOX]},
        ),
        validation=make_part(root, "val", {"a_3": [BOX]}),
        test=make_part(root, "test", {"b_3": [BOX]}),
        border_px={"a": 6, "b": 0},
        diameter_px={"a": 8.0, "b": 16.0},
        notes=(),
    )


def make_part(root: Path, name: str, boxes: dict[str, list[tuple[float, ...]] | None]) -> Part:
    (root / name).mkdir(parents=True, exist_ok=True)
    micrographs = []
    for seed, stem in enumerate(boxes):
        path = root / name / f"{stem}.png"
        rng = np.random.default_rng([seed, len(name)])
        Image.fromarray(rng.integers(0, 256, (72, 96), dtype=np.uint8)).save(path)
        micrographs.append(
            Micrograph(
                id=f"{name}/{stem}.png",
                path=path,
                height_px=72,
                width_px=96,
                source=stem[0],
                pixel_size_angstrom=None,
            )
        )
    particles = {
        f"{name}/{stem}.png": Particles(
            boxes=np.array(rows, dtype=np.float64).reshape(-1, 4), outlines=()
        )
        for stem, rows in boxes.items()
        if rows is not None
    }
    return Part(micrographs=tuple(micrographs), particles=particles)


def make_store(
    dataset: DataSet,
    folder: Path,
    *,
    network_multiple: int = 8,
    code: str = "code",
    report: Callable[[Progress], None] = silent,
    **changes: object,
) -> Store:
    settings = SETTINGS.model_copy(update=changes)
    return build(
        dataset,
        folder,
        settings=settings,
        network_multiple=network_multiple,
        code=code,
        report=report,
    )


@pytest.fixture
def dataset(tmp_path: Path) -> DataSet:
    return make_data(tmp_path / "data")


def many(root: Path) -> DataSet:
    """More micrographs than a batch; made once, read again by every builder."""
    names = [f"a_{index:03}" for index in range(130)]
    train = [
        Micrograph(
            id=f"train/{stem}.png",
            path=root / "train" / f"{stem}.png",
            height_px=32,
            width_px=32,
            source="a",
            pixel_size_angstrom=1.5,
        )
        for stem in names
    ]
    if not root.exists():
        (root / "train").mkdir(parents=True)
        for seed, one in enumerate(train):
            picture = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(picture).save(one.path)
    boxes = Particles(boxes=np.array([(4.0, 4.0, 8.0, 8.0)]), outlines=())
    return DataSet(
        root=root,
        train=Part(micrographs=tuple(train), particles={one.id: boxes for one in train[::2]}),
        validation=Part(micrographs=(), particles={}),
        test=None,
        border_px={},
        diameter_px={},
        notes=(),
    )


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
