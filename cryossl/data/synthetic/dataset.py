"""The embedded data set: simulated micrographs of three species, written as COCO.

The files have CryoTransformer's peculiarities on purpose (docs/synthetic.md lists them), so that
the default run uses the same code as real data. A data set appears complete or not at all. It is
the same, byte for byte, for the same seed and sizes with the same versions of numpy, scipy and
pillow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from cryossl.data.synthetic.phantoms import SPECIES, Species, species_of
from cryossl.data.synthetic.pictures import SUFFIXES, Order, make_all, write_new
from cryossl.data.synthetic.simulator import (
    CONDITION_DRAWS,
    PIXEL_SIZE_ANGSTROM,
    Conditions,
    conditions,
)
from cryossl.errors import DataError, StorageError
from cryossl.progress.events import OnProgress, Progress
from cryossl.system.file_lock import FileLock
from cryossl.system.files import file_sha256, filled_aside, sync_folder
from cryossl.system.user_files import read_json

SIMULATION_FILE = "simulation.json"
SUMS_FILE = "SHA256SUMS"
"""The SHA-256 of every other file, in the form that `sha256sum --check` reads."""
VERSION = 1
"""Increased whenever the same seed gives other files, so that older data sets are not reused."""

BORDER_FRACTION = 0.04
"""Width of the unlabelled band / side of the picture.

EMPIAR-10017 has 131 px of 4096. Here the band is wider, so that rounding does not remove it.
"""

_PARTS = ("train", "val", "test")
_SMALLEST_PX = 64
_MOST_SOURCES = 60


def synthesise(  # noqa: PLR0913 (each is a choice of the user)
    folder: Path,
    *,
    seed: int,
    train: int = 100,
    validation: int = 20,
    test: int = 40,
    size_px: int = 128,
    sources: int = len(SPECIES),
    form: str = "png",
    report: OnProgress,
) -> None:
    """Write a data set into `folder`, which is absent, empty, or holds the same data set already.

    In the last case nothing is written. `train` includes the one unlabelled micrograph. Each source
    has a species of its own, and MRC files have electron counts. Raises DataError for sizes that
    give no data set and for a folder with other content, StorageError if it cannot be written.
    """
    if form not in SUFFIXES:
        raise DataError(f"unknown format {form!r}", cure=f"choose one of {', '.join(SUFFIXES)}")
    _check_sizes(train=train, validation=validation, test=test, size_px=size_px, sources=sources)
    settings: dict[str, int | str] = {
        "version": VERSION,
        "seed": seed,
        "train": train,
        "val": validation,
        "test": test,
        "size_px": size_px,
    }
    # The usual ones are not written, as by versions that had no others.
    if sources != len(SPECIES):
        settings["sources"] = sources
    if form != "png":
        settings["format"] = form
    folder = folder.absolute()  # the current folder has no name of its own
    place = folder.with_name(f".{folder.name}.partial")
    try:
        if _is_written(folder, settings):
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if _is_written(folder, settings):
                return
            with filled_aside(folder, partial=place, resume=False) as partial:
                _write(partial, settings, report=report)
    except OSError as error:
        raise StorageError(
            f"cannot write the synthetic data set to {folder}: {error.strerror or error}",
            cure="choose another work folder, or free some space",
        ) from error


def _check_sizes(*, train: int, validation: int, test: int, size_px: int, sources: int) -> None:
    if not 1 <= sources <= _MOST_SOURCES:
        raise DataError(f"a synthetic data set has 1 to {_MOST_SOURCES} sources, got {sources}")
    if train < sources + 1 or validation < 1 or test < 1:
        raise DataError(
            f"a synthetic data set of {sources} sources needs at least {sources + 1} train, 1 "
            f"validation and 1 test micrograph, got {train}, {validation}, {test}",
            cure="raise the number, or lower --sources",
        )
    if size_px < _SMALLEST_PX:
        raise DataError(f"synthetic micrographs are at least {_SMALLEST_PX} px wide, got {size_px}")


def _is_written(folder: Path, settings: Mapping[str, int | str]) -> bool:
    """Whether the folder holds the data set of these settings; False if it is absent or empty.

    Raises DataError if it holds anything else.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is not a folder", cure="remove it, or choose another folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    try:
        found = read_json(folder / SIMULATION_FILE, max_bytes=2**20, inside=folder)["settings"]
    except (DataError, KeyError, TypeError):
        found = None
    if found != settings:
        raise DataError(
            f"{folder} is not empty and does not hold this synthetic data set",
            cure="remove it, or choose another folder",
        )
    _require_unchanged(folder)
    return True


def _require_unchanged(folder: Path) -> None:
    """Raise DataError if the files are not those that were written, by name and content.

    A data set without the file of sums, as earlier versions wrote them, is believed; one with a
    file of sums that is damaged is not. Hidden files, which are no data, do not count.
    """
    sums = folder / SUMS_FILE
    try:
        lines = sums.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        if not sums.is_symlink():
            return
        lines = []
    except (OSError, ValueError):
        lines = []
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if not expected:
        raise _changed(sums, folder)
    names = (path.relative_to(folder).as_posix() for path in _files(folder))
    found = {name for name in names if not name.rpartition("/")[2].startswith(".")} - {SUMS_FILE}
    for name in sorted(found | expected.keys()):
        try:
            same = name in found and file_sha256(folder / name) == expected.get(name)
        except OSError:
            same = False
        if not same:
            raise _changed(folder / name, folder)


def _changed(path: Path, folder: Path) -> DataError:
    return DataError(
        f"{path} is not as it was simulated",
        cure=f"remove {folder}, it is written again; or copy it and give the copy as data",
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def _sums(folder: Path) -> str:
    return "".join(
        f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in _files(folder)
    )


def _write(folder: Path, settings: Mapping[str, Any], *, report: OnProgress) -> None:
    for name in ("annotations", *_PARTS):
        (folder / name).mkdir(parents=True)
    species = species_of(settings.get("sources", len(SPECIES)))
    orders = {
        part: _orders(folder, settings, number=number, species=species)
        for number, part in enumerate(_PARTS)
    }
    with closing(make_all([order for part in _PARTS for order in orders[part]])) as pictures:
        facts = _write_labels(folder, settings, orders, pictures, report=report)
    _write_tables(folder, settings, facts, species=species)


def _write_labels(
    folder: Path,
    settings: Mapping[str, Any],
    orders: Mapping[str, Sequence[Order]],
    pictures: Iterator[Float64[np.ndarray, "n 2"]],
    *,
    report: OnProgress,
) -> dict[str, Any]:
    """Write the annotations as the pictures are made; return the facts of each micrograph."""
    total = sum(settings[part] for part in _PARTS)
    facts: dict[str, Any] = {}
    for part in _PARTS:
        records = _Records(settings["size_px"])
        # One train micrograph is not annotated; the seed decides which one.
        unlabelled = settings["seed"] % settings[part] if part == "train" else None
        for index, order in enumerate(orders[part]):
            centres = next(pictures)
            name, labelled = order.path.name, index != unlabelled
            records.add(name, centres, order.species, labelled=labelled)
            facts[f"{part}/{name}"] = {
                "source": order.species.name,
                "labelled": labelled,
                "particles": len(centres),
                **asdict(order.given),
            }
            report(Progress("synthesise", len(facts), total, "micrograph"))
        write_new(folder / "annotations" / f"instances_{part}.json", records.pieces())
    return facts


def _write_tables(
    folder: Path,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    species: Sequence[Species],
) -> None:
    """Write what belongs to all parts, and make everything durable."""
    sources = "".join(f"{kind.name}_*,{kind.name}\n" for kind in species)
    write_new(folder / "sources.csv", [f"file,source\n{sources}".encode()])
    _dump(
        folder / SIMULATION_FILE,
        {
            "settings": dict(settings),
            "pixel_size_angstrom": PIXEL_SIZE_ANGSTROM,
            "micrographs": facts,
        },
    )
    write_new(folder / SUMS_FILE, [_sums(folder).encode()])
    for inner in (*(folder / name for name in ("annotations", *_PARTS)), folder):
        sync_folder(inner)


def _orders(
    folder: Path, settings: Mapping[str, Any], *, number: int, species: Sequence[Species]
) -> list[Order]:
    """The pictures of one part."""
    part, size_px = _PARTS[number], settings["size_px"]
    rng = np.random.default_rng([settings["seed"], number])
    suffix = SUFFIXES[settings.get("format", "png")]
    return [
        Order(
            path=folder / part / f"{kind.name}_{part}_{index:04d}{suffix}",
            species=kind,
            given=given,
            size_px=size_px,
            border_px=border_px(size_px),
            seed=(settings["seed"], number, index),
        )
        for index, (kind, given) in enumerate(_plan(settings[part], species=species, rng=rng))
    ]


def border_px(size_px: int) -> int:
    """Width in px of the band at each edge; particles with a centre in it have no label."""
    return max(2, round(BORDER_FRACTION * size_px))


def _plan(
    count: int, *, species: Sequence[Species], rng: np.random.Generator
) -> list[tuple[Species, Conditions]]:
    """Species and conditions of each micrograph of a part.

    A Latin hypercube (McKay et al., Technometrics 21 (1979) 239): each condition takes each of
    `count` equal parts of its range once, in an order of its own. So two seeds differ in the
    combinations of conditions, not in how often each occurs.
    """
    columns = [(rng.permutation(count) + rng.random(count)) / count for _ in range(CONDITION_DRAWS)]
    uniform: Float64[np.ndarray, "count draws"] = np.stack(columns, axis=1)
    kinds = rng.permutation(np.arange(count) % len(species))
    return [(species[kind], conditions(row)) for kind, row in zip(kinds, uniform, strict=True)]


class _Records:
    """The images and annotations of one part, with the field names of CryoTransformer's files.

    The annotations are kept as numbers, because as Python's objects they take much more memory.
    """

    def __init__(self, size_px: int) -> None:
        self._size_px = size_px
        self._images: list[dict[str, Any]] = []
        self._boxes: list[Int64[np.ndarray, "n 4"]] = []
        self._labelled: list[bool] = []

    def add(
        self,
        name: str,
        centres: Float64[np.ndarray, "n 2"],
        species: Species,
        *,
        labelled: bool,
    ) -> None:
        height = width = self._size_px
        image = len(self._images)
        self._images.append({"id": image, "file_name": name, "width": width, "height": height})
        band, side = border_px(height), species.diameter_px
        boxes = [
            [int(x - side / 2), int(y - side / 2), side, side]
            for y, x in centres
            if min(y, x, height - y, width - x) >= band
        ]
        rows = boxes if labelled else [[0, 0, 0, 0]]
        self._boxes.append(np.array(rows, np.int64).reshape(-1, 4))
        self._labelled.append(labelled)

    def pieces(self) -> Iterator[bytes]:
        """The COCO document as `json.dumps` writes it with an indent of 1."""
        document = {
            "info": [
                {
                    "description": "simulated cryo-EM micrographs with exact particle centres",
                    "contributor": "cryossl",
                    "year": "2026",
                }
            ],
            "categories": [{"id": 1, "name": "particle", "supercategory": ""}],
            "images": self._images,
            "annotations": [],
        }
        text = json.dumps(document, indent=1)
        yield text.removesuffix("]\n}").encode()
        end = ""
        for annotation in self._annotations():
            entry = json.dumps(annotation, indent=1).replace("\n", "\n  ")
            yield f"{end}\n  {entry}".encode()
            end = ","
        yield b"\n ]\n}\n" if end else b"]\n}\n"

    def _annotations(self) -> Iterator[dict[str, Any]]:
        number = 0
        for image, (boxes, labelled) in enumerate(zip(self._boxes, self._labelled, strict=True)):
            for box in boxes.tolist():
                number += 1
                yield {
                    "id": number,
                    "category_id": 1,
                    "iscrowd": int(labelled),
                    "area": box[2] * box[3],
                    "image_id": image,
                    "bbox": box,
                    "segmentation": [],
                }


def _dump(path: Path, document: Mapping[str, Any]) -> None:
    write_new(path, [f"{json.dumps(document, indent=1)}\n".encode()])
