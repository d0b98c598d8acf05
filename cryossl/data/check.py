"""All faults of a data folder in one list, and its content in one table."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryossl.data.coco.dataset import DataSet, Micrograph, Particles, picture_fault, rasterise, scan
from cryossl.data.coco.layout import DataFolder, find_parts, survey
from cryossl.data.coco.records import Fault
from cryossl.data.images import read_picture
from cryossl.data.store.plan import members
from cryossl.errors import DataError
from cryossl.progress.events import OnProgress, Progress
from cryossl.system.files import file_sha256

__all__ = ["Fault", "SourceSummary", "check", "summary"]

_SUMMARY_SIDE_PX = 1024


@dataclass(frozen=True)
class SourceSummary:
    """The content of a data set for one source, in px of the original pictures.

    `particle_ratio` is in [0, 1], outside the border band. `diameter_px` and `particle_ratio` are
    None without labels.
    """

    source: str
    micrographs: int
    labelled: int
    particles: int
    diameter_px: float | None
    border_px: int
    particle_ratio: float | None


def check(
    root: Path, *, max_megapixels: float, follow_links: bool = False, report: OnProgress
) -> tuple[Fault, ...]:
    """All faults of a data folder: of its annotation files, and of every picture, decoded in full.

    A picture with one value everywhere is a fault here, and so is one picture in two places: in
    train and test it would be a leak, twice in train it would count twice. An empty tuple means
    that there is no fault.
    """
    _, found = scan(root, border=0, max_megapixels=max_megapixels, follow_links=follow_links)
    faults = list(found)
    paths = _picture_paths(DataFolder(root, follow_links))
    twins: dict[str, list[Path]] = defaultdict(list)
    for done, path in enumerate(paths):
        report(Progress("check", done, len(paths), "picture"))
        try:
            picture = read_picture(path, max_megapixels=max_megapixels)
            twins[file_sha256(path)].append(path)
            if float(picture.min()) == float(picture.max()):
                raise DataError(
                    f"{path}: every pixel has the same value", cure="take it out of the data set"
                )
        except DataError as error:
            fault = picture_fault(path, root, error)
            # Faults of the header are already in the list.
            if fault not in faults:
                faults.append(fault)
    report(Progress("check", len(paths), len(paths), "picture"))
    for same in twins.values():
        faults += [
            Fault(
                twin.relative_to(root).as_posix(),
                "",
                f"it is the same picture as {same[0].relative_to(root).as_posix()}",
                "keep one of them",
            )
            for twin in same[1:]
        ]
    return tuple(faults)


def _picture_paths(place: DataFolder) -> list[Path]:
    try:
        parts, _ = find_parts(place)
        found = [path for files in parts.values() for path in survey(files, place)[0]]
    except DataError:
        return []
    # Links that lead out of the data set or to nothing are another fault, so they are not
    # followed.
    return [path for path in found if place.has(path)]


def summary(dataset: DataSet, *, particle_radius_fraction: float) -> tuple[SourceSummary, ...]:
    """One row per source, sorted by name, over all parts."""
    of_source: dict[str, list[tuple[Micrograph, Particles | None]]] = defaultdict(list)
    for _, micrograph, particles in members(dataset):
        of_source[micrograph.source].append((micrograph, particles))
    return tuple(
        _summarise(dataset, source, found, particle_radius_fraction)
        for source, found in sorted(of_source.items())
    )


def _summarise(
    dataset: DataSet,
    source: str,
    found: list[tuple[Micrograph, Particles | None]],
    particle_radius_fraction: float,
) -> SourceSummary:
    labelled = [(micrograph, particles) for micrograph, particles in found if particles is not None]
    border = dataset.border_px[source]
    particle_px = valid_px = 0
    for micrograph, particles in labelled:
        # At a reduced size, which is enough for a ratio.
        scale = min(1.0, _SUMMARY_SIDE_PX / max(micrograph.height_px, micrograph.width_px))
        label_map = rasterise(
            particles,
            height_px=max(1, round(micrograph.height_px * scale)),
            width_px=max(1, round(micrograph.width_px * scale)),
            scale=scale,
            particle_radius_fraction=particle_radius_fraction,
        )
        band = round(border * scale)
        inner = label_map[band : label_map.shape[0] - band, band : label_map.shape[1] - band]
        particle_px += int(np.count_nonzero(inner))
        valid_px += inner.size
    return SourceSummary(
        source,
        micrographs=len(found),
        labelled=len(labelled),
        particles=sum(particles.count for _, particles in labelled),
        diameter_px=dataset.diameter_px.get(source),
        border_px=border,
        particle_ratio=particle_px / valid_px if valid_px else None,
    )
