"""A memory-mapped store of pictures and label maps, decoded and rasterised once for one key."""

from __future__ import annotations

import json
import mmap
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from cryossl.config import InputSettings
from cryossl.data.coco.dataset import DataSet
from cryossl.data.labels import IGNORE, PARTICLE, LabelMap
from cryossl.data.store.decoding import (
    PICTURES,
    PROGRESS,
    TRUTH,
    decode_into,
    particle_centres,
)
from cryossl.data.store.file_hashes import HashedFile, hash_files, remembered_hashes
from cryossl.data.store.plan import (
    StoredMicrograph,
    StorePlan,
    diameters_px,
    members,
    plan_store,
)
from cryossl.data.tiling import Tile, micrograph_of, tile_grid
from cryossl.errors import DataError, StorageError
from cryossl.progress.events import OnProgress
from cryossl.system.digest import digest
from cryossl.system.file_lock import FileLock
from cryossl.system.files import file_sha256, filled_aside, write_durably

CENTRES, INDEX = "centres.f8", "index.json"
_CENTRE_BYTES = 16

# Mapped bytes after which pages are given back to the system; they stay in its page cache.
_RESIDENT_BYTES = 16 * 2**20


class PixelFile:
    """A flat file of uint8 maps, memory-mapped and read-only."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._handed_out_bytes = 0
        try:
            with path.open("rb") as stream:
                found = path.stat().st_size
                if found != size_bytes:
                    raise StorageError(
                        f"{path} has {found} bytes instead of {size_bytes}",
                        cure="remove its folder; it is made again",
                    )
                self._map = (
                    mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size_bytes else None
                )
        except OSError as error:
            raise StorageError(
                f"{path}: {error.strerror}", cure="remove its folder; it is made again"
            ) from None

    def view(self, offset: int, height_px: int, width_px: int) -> UInt8[np.ndarray, "height width"]:
        """The map that begins at byte `offset`, as a read-only view."""
        if self._map is None:
            raise ValueError("an empty file holds no map")
        self._handed_out_bytes += height_px * width_px
        if self._handed_out_bytes > _RESIDENT_BYTES:
            # Views stay valid: a page that is read again comes back from the page cache.
            self._map.madvise(mmap.MADV_DONTNEED)
            self._handed_out_bytes = height_px * width_px
        return np.frombuffer(self._map, np.uint8, height_px * width_px, offset).reshape(
            height_px, width_px
        )


@dataclass(frozen=True)
class Store:
    """All micrographs of a data set, reduced and normalised, with their truth.

    Opening a store reads no pixel. `key` identifies all that the content depends on, except the
    diameters of particles, which no training uses. `tile_px` is the side of the network's window.
    `micrographs` is ordered by part and id. `notes` are remarks on how scales were chosen, and on a
    damaged store that was made again. `data_digest` identifies the data set: pictures, labels,
    parts and sources, whatever the settings.
    """

    key: str
    data_digest: str
    tile_px: int
    micrographs: Mapping[str, StoredMicrograph]
    notes: tuple[str, ...]
    folder: Path
    _pictures: PixelFile = field(repr=False)
    _truth: PixelFile = field(repr=False)
    _centres: PixelFile = field(repr=False)
    _first_centre: Mapping[str, int] = field(repr=False)
    _diameters_px: Mapping[str, float] = field(repr=False)

    def picture(self, micrograph: str) -> UInt8[np.ndarray, "height width"]:
        """The normalised picture, a read-only view of the file."""
        stored = self.micrographs[micrograph]
        return self._pictures.view(stored.picture_offset, stored.height_px, stored.width_px)

    def truth(self, micrograph: str, *, border: bool) -> LabelMap:
        """The annotated label map, a copy; with `border` the band without annotations is IGNORE.

        Raises DataError for an unlabelled micrograph, which has no truth.
        """
        stored = self.micrographs[micrograph]
        if stored.truth_offset is None:
            raise DataError(f"{micrograph} is unlabelled and has no truth", cure="annotate it")
        label_map = self._truth.view(stored.truth_offset, stored.height_px, stored.width_px).copy()
        band = stored.border_px
        if border and band:
            label_map[:band] = label_map[-band:] = IGNORE
            label_map[:, :band] = label_map[:, -band:] = IGNORE
        return label_map

    def centres(self, micrograph: str) -> Float64[np.ndarray, "particles 2"]:
        """Centres (y, x) of the annotated particles in store px, a copy.

        They may lie in the border band or outside the picture. Raises DataError for an unlabelled
        micrograph, which has no truth.
        """
        stored = self.micrographs[micrograph]
        if not stored.annotated:
            raise DataError(f"{micrograph} is unlabelled and has no truth", cure="annotate it")
        if not stored.particle_count:
            return np.zeros((0, 2))
        rows = self._centres.view(
            _CENTRE_BYTES * self._first_centre[micrograph], stored.particle_count, _CENTRE_BYTES
        )
        return np.array(rows.view("<f8"), dtype=np.float64)

    def diameter_px(self, micrograph: str) -> float:
        """Diameter of the particles of the micrograph's source, in store px.

        Raises DataError if none was measured.
        """
        stored = self.micrographs[micrograph]
        if stored.source not in self._diameters_px:
            raise DataError("no labelled particle to measure a diameter on", cure="annotate some")
        return self._diameters_px[stored.source] * stored.scale

    def tiles(self, item: str) -> tuple[Tile, ...]:
        """The tiles of an item: all of a micrograph, or the one with this id.

        Raises KeyError for an unknown item.
        """
        stored = self.micrographs[micrograph_of(item)]
        grid = tile_grid(
            micrograph=stored.id,
            height_px=stored.height_px,
            width_px=stored.width_px,
            tile_px=self.tile_px,
        )
        if item == stored.id:
            return grid
        return ({tile.id: tile for tile in grid}[item],)

    def particle_ratio(self, items: Iterable[str], *, border: bool = True) -> float:
        """PARTICLE pixels / valid pixels, pooled over items; of a tile, its own pixels count.

        With `border` the band without annotations does not count. Raises DataError for an
        unlabelled item, or if no pixel is valid.
        """
        particle = valid = 0
        for item in items:
            label_map = self.truth(micrograph_of(item), border=border)
            for y0, y1, x0, x1 in (tile.own for tile in self.tiles(item)):
                owned = label_map[y0:y1, x0:x1]
                particle += int(np.count_nonzero(owned == PARTICLE))
                valid += int(np.count_nonzero(owned != IGNORE))
        if not valid:
            raise DataError(
                "no annotated pixel to measure the particle ratio on",
                cure="annotate more micrographs",
            )
        return particle / valid


def build(
    dataset: DataSet,
    folder: Path,
    *,
    settings: InputSettings,
    network_multiple: int,
    code: str,
    report: OnProgress,
) -> Store:
    """The store of a data set below `folder`; pictures are decoded only if it does not exist yet.

    An existing store is read whole and compared with its SHA-256; a damaged one is made again, and
    a note of the store says so. After an interruption, the next call continues with the next batch
    of micrographs and ends with the same bytes. A second process that needs the same store waits
    for the first. Memory does not grow with the data set.

    Args:
        dataset: as read by `coco.read_dataset`.
        folder: of all stores; may be shared by experiments.
        settings: of the input.
        network_multiple: the network's tiles must be a multiple of this, in px.
        code: digest of the code that decodes and rasterises, a part of the store's key.
        report: called with "hash" in files and "decode" in batches.

    Raises:
        DataError: a picture cannot be used, or is in two parts under different names.
        StorageError: there is no space, or no permission.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = {micrograph.id: micrograph.path for _, micrograph, _ in members(dataset)}
        hashed = hash_files(paths.values(), memory=folder / "hashes.json", report=report)
        files = {name: hashed[path] for name, path in paths.items()}
        store_plan = plan_store(
            dataset,
            {name: file.sha256 for name, file in files.items()},
            settings=settings,
            network_multiple=network_multiple,
            code=code,
        )
        _refuse_shared_pictures(store_plan, files)
        final = _place(folder, store_plan)
        damaged = False
        if not _is_whole(final, store_plan):
            with FileLock(folder / f"{final.name}.lock"):
                if not _is_whole(final, store_plan):
                    damaged = final.exists()
                    _make(final, store_plan, dataset, files, settings=settings, report=report)
    except OSError as error:
        raise StorageError(
            f"cannot write the store below {folder}: {error.strerror or error}",
            cure="free space or choose another folder with --work",
        ) from None
    store = open_store(final, border_px=dataset.border_px, diameter_px=diameters_px(dataset))
    if not damaged:
        return store
    return replace(
        store, notes=(*store.notes, f"the decoded store {final} was damaged and was made again")
    )


def is_built(
    dataset: DataSet,
    folder: Path,
    *,
    settings: InputSettings,
    network_multiple: int,
    code: str,
    verify: bool = False,
) -> bool:
    """Whether the store exists already, so that `build` would only open it.

    No picture is read: a picture whose content is not remembered counts as new. With `verify` the
    store is read and a damaged one does not count.
    """
    paths = {micrograph.id: micrograph.path for _, micrograph, _ in members(dataset)}
    known = remembered_hashes(paths.values(), memory=folder / "hashes.json")
    if known is None:
        return False
    store_plan = plan_store(
        dataset,
        {name: known[path] for name, path in paths.items()},
        settings=settings,
        network_multiple=network_multiple,
        code=code,
    )
    final = _place(folder, store_plan)
    return _is_whole(final, store_plan) if verify else final.exists()


def _place(folder: Path, store_plan: StorePlan) -> Path:
    return folder / f"store-{store_plan.key[:20]}"


def open_store(
    path: Path, *, border_px: Mapping[str, int], diameter_px: Mapping[str, float] | None = None
) -> Store:
    """The finished store in a folder `store-...`.

    Args:
        path: the folder.
        border_px: of each source, in original px; 0 for a source that is missing.
        diameter_px: of each source, in original px; unknown for a source that is missing.

    Raises:
        StorageError: the folder is not a store, or is damaged.
        DataError: a border leaves no pixel of a micrograph.
    """
    try:
        index = json.loads((path / INDEX).read_text())
        micrographs = {
            entry["id"]: StoredMicrograph(**entry).with_border(border_px.get(entry["source"], 0))
            for entry in index["micrographs"]
        }
        annotated = [one for one in micrographs.values() if one.annotated]
        ends = np.cumsum([one.particle_count for one in annotated], dtype=np.int64).tolist()
        borders = {one.source: border_px.get(one.source, 0) for one in micrographs.values()}
        return Store(
            key=digest({"content": index["key"], "border_px": borders}),
            data_digest=index["data_digest"],
            tile_px=index["tile_px"],
            micrographs=micrographs,
            notes=tuple(index["notes"]),
            folder=path,
            _pictures=PixelFile(path / PICTURES, index["picture_bytes"]),
            _truth=PixelFile(path / TRUTH, index["truth_bytes"]),
            _centres=PixelFile(path / CENTRES, _CENTRE_BYTES * (ends[-1] if ends else 0)),
            _first_centre={
                one.id: end - one.particle_count for one, end in zip(annotated, ends, strict=True)
            },
            _diameters_px=diameter_px or {},
        )
    except OSError as error:
        raise StorageError(
            f"{path} is no store: {error.strerror}", cure="remove it; it is made again"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise StorageError(
            f"{path / INDEX} is damaged", cure="remove its folder; it is made again"
        ) from None


def _make(
    final: Path,
    store_plan: StorePlan,
    dataset: DataSet,
    files: Mapping[str, HashedFile],
    *,
    settings: InputSettings,
    report: OnProgress,
) -> None:
    """Fill a folder beside the final one, then rename it: a store with its name is complete."""
    place = final.with_name(f"{final.name}.partial")
    with filled_aside(final, partial=place, resume=True) as partial:
        if not (partial / INDEX).exists():
            decode_into(partial, store_plan, dataset, files, settings=settings, report=report)
            centres = particle_centres(store_plan, dataset).astype("<f8")
            write_durably(partial / CENTRES, centres.tobytes())
            write_durably(partial / INDEX, _index(partial, store_plan))
        (partial / PROGRESS).unlink(missing_ok=True)
        shutil.rmtree(final, ignore_errors=True)  # a damaged one


def _index(folder: Path, store_plan: StorePlan) -> bytes:
    """The index of the store in a folder: its plan, and the SHA-256 of each of its files."""
    contents = {name: file_sha256(folder / name) for name in (PICTURES, TRUTH, CENTRES)}
    return json.dumps({**store_plan.as_json(), "sha256": contents}, indent=0).encode()


def _is_whole(folder: Path, store_plan: StorePlan) -> bool:
    """Whether a folder holds the store of a plan, unchanged since it was made."""
    try:
        return (folder / INDEX).read_bytes() == _index(folder, store_plan)
    except OSError:
        return False


def _refuse_shared_pictures(store_plan: StorePlan, files: Mapping[str, HashedFile]) -> None:
    """Raise DataError for a picture in two parts: a model would be tested on what it learned."""
    first: dict[str, StoredMicrograph] = {}
    for stored in store_plan.micrographs:
        other = first.setdefault(files[stored.id].sha256, stored)
        if other.part != stored.part:
            raise DataError(
                f"{other.id} and {stored.id} are the same picture, in {other.part} and in "
                f"{stored.part}",
                cure="keep it in one part only",
            )
