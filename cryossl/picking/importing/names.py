"""Names of micrographs in coordinate files -> the picture files that they mean.

Programs name one micrograph in many ways: with the folders of a job, with the 21-digit number that
cryoSPARC puts in front, with what motion correction or a picker adds at the end.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from cryossl.errors import DataError

_SUFFIX = re.compile(r"\.(mrcs?|tiff?|jpe?g|png|eer|star|box|cbox|csv|tsv|txt|json|cs)$", re.I)
_UID = re.compile(r"^\d{21}_")
_PICKS = re.compile(
    r"_(autopick|manualpick|picks?|picked|particles?|coord(inate)?s?|labels?|topaz|extracted)$",
    re.I,
)
_MOTION = re.compile(
    r"[_-](dw|dws|nodw|dose_?weighted|non_?dw|patch|rigid|aligned|corrected|corr|sum"
    r"|fractions?|frames|eer|avg|denoised|mc2?|motioncorr2?)$",
    re.I,
)
_SHOWN = 3
_MOST_ENDINGS = 6  # of one kind that a name may have, one after the other


def stem(name: str) -> str:
    """The last part of a path, without the suffixes of pictures and coordinate files."""
    base = name.replace("\\", "/").rstrip("/").rpartition("/")[2].strip()
    return _stripped(_SUFFIX, base)


def without_uid(name: str) -> str:
    """A file name without the 21-digit number of cryoSPARC in front."""
    return _UID.sub("", name) or name


def core(name: str) -> str:
    """What the names of one micrograph in several programs have in common."""
    return _stripped(_MOTION, _picked(name)).casefold()


def _picked(name: str) -> str:
    return _stripped(_PICKS, without_uid(stem(name)))


def _stripped(endings: re.Pattern[str], base: str) -> str:
    for _ in range(_MOST_ENDINGS):
        base = endings.sub("", base) or base
    return base


def match(names: Iterable[str], micrographs: Sequence[str]) -> dict[str, str]:
    """Name in a coordinate file -> micrograph; names that fit no micrograph are left out.

    Compared are the stems as they are, then without picker's endings and cryoSPARC's number, then
    the cores. Of several micrographs the one is taken whose folders the name repeats.

    Args:
        names: as coordinate files give them.
        micrographs: paths relative to one folder, with `/`.

    Raises:
        DataError: a name fits several micrographs, or two micrographs are two versions of one.
    """
    _require_one_version(micrographs)
    ways: tuple[Callable[[str], str], ...] = (stem, _picked, core)
    tables: list[Mapping[str, list[str]]] = []
    for way in ways:
        grouped: dict[str, list[str]] = defaultdict(list)
        for micrograph in micrographs:
            grouped[way(micrograph)].append(micrograph)
        tables.append(grouped)
    found: dict[str, str] = {}
    for name in names:
        for way, table in zip(ways, tables, strict=True):
            fitting = table.get(way(name), [])
            if fitting:
                found[name] = _only(name, fitting)
                break
    return found


def _only(name: str, fitting: Sequence[str]) -> str:
    """The one micrograph that shares the most folders with a name."""
    if len(fitting) == 1:
        return fitting[0]
    folders = name.replace("\\", "/").split("/")[-2::-1]
    shared = {micrograph: _common(folders, micrograph.split("/")[-2::-1]) for micrograph in fitting}
    most = max(shared.values())
    best = [micrograph for micrograph in fitting if shared[micrograph] == most]
    if len(best) > 1:
        shown = ", ".join(repr(one) for one in best[:_SHOWN])
        raise DataError(
            f"the coordinates of {name[:120]!r} fit {len(best)} micrographs: {shown}",
            cure="give their folder in the names too, or a folder with one of them",
        )
    return best[0]


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def _require_one_version(micrographs: Sequence[str]) -> None:
    """Refuse two versions of one micrograph: one would be the unlabelled twin of the other."""
    seen: dict[tuple[str, str], str] = {}
    for micrograph in sorted(micrographs):
        key = (micrograph.rpartition("/")[0], core(micrograph))
        if key in seen:
            raise DataError(
                f"{seen[key]!r} and {micrograph!r} are two versions of one micrograph",
                cure="give a folder that has one of them",
            )
        seen[key] = micrograph
