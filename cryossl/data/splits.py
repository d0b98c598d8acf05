"""Ids and a seed -> which items are labelled, unlabelled, validation and test.

Items are ordered by the SHA-256 of (seed, purpose, name). This order needs no state, does not
depend on the order of files or on the other items of the data set, and is the same for every ratio,
so the 5% are part of the 10%.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import floor
from typing import Any

from cryossl.data.tiling import micrograph_of
from cryossl.errors import DataError
from cryossl.system.digest import digest


@dataclass(frozen=True)
class Split:
    """Ids of the four parts, each sorted; train, validation and test share no micrograph.

    There is one exception: if thresholds and acceptance use the labelled micrographs, these are
    validation too.
    """

    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def as_json(self) -> dict[str, list[str]]:
        """Part -> ids, in JSON's types."""
        return {part: list(ids) for part, ids in asdict(self).items()}

    def digest(self) -> str:
        """SHA-256, in hex, of the four parts as canonical JSON."""
        return digest(self.as_json())


def share_text(part: int, whole: int) -> str:
    """`12%`: a part of a whole in percent, to two figures; below 100% unless it is the whole.

    `whole` is at least 1.
    """
    percent = 100 * part / whole
    shown = f"{percent:.2g}" if percent < 9.5 else f"{percent:.0f}"
    return f"{shown if part == whole or shown != '100' else '99'}%"


def draw_split(
    train: Mapping[str, str],
    labelable: AbstractSet[str],
    validation: Mapping[str, str] | None,
    test: Mapping[str, str] | None,
    *,
    ratio_percent: float,
    seed: int,
    test_seed: int,
    labelled: Sequence[str] | None,
) -> Split:
    """Divide the items (id -> source) of a data set.

    Args:
        train: all items of the training part, annotated or not; the ratio is of these.
        labelable: those of them that have annotations and so can be labelled.
        validation: annotated validation items; None if the labelled items are validation too.
        test: annotated test items; None if the data set has no test part. Then half of the
            validation micrographs of each source are test.
        ratio_percent: labelled part of `train`, in (0, 100]; the count is rounded down, and is at
            least one per source.
        seed: of the draw.
        test_seed: of the halves of validation, where the data set has no test part.
        labelled: ids, or file names of micrographs, that are labelled instead of a draw.

    Raises:
        DataError: there is nothing to label, a named item that cannot be labelled, too little
            validation data, or a micrograph that is in two parts.
    """
    if validation is None and not test:
        raise DataError(
            "no annotated micrograph is left to score on", cure="annotate some in val/ or test/"
        )
    _check_parts(train, labelable, validation, test)
    if labelled is None:
        order = _labelling_order({item: train[item] for item in labelable}, seed=seed)
        chosen = set(order[: _labelled_count(train, labelable, ratio_percent)])
    else:
        chosen = named_items(labelled, train, labelable)
    kept: Iterable[str] = chosen if validation is None else validation
    aside: Iterable[str] = test or ()
    if test is None:
        kept, aside = halve(validation or {}, seed=test_seed)
    return Split(
        tuple(sorted(chosen)),
        tuple(sorted(set(train) - chosen)),
        tuple(sorted(kept)),
        tuple(sorted(aside)),
    )


def _check_parts(
    train: Mapping[str, str],
    labelable: AbstractSet[str],
    validation: Mapping[str, str] | None,
    test: Mapping[str, str] | None,
) -> None:
    stray = sorted(labelable - set(train))
    if stray:
        raise ValueError(f"a labelable item must be in the training part, {stray[0]!r} is not")
    if not labelable:
        raise DataError(
            "no training micrograph has annotations", cure="annotate at least one per source"
        )
    if validation is not None and not validation:
        raise DataError(
            "no validation micrograph has annotations", cure="add annotated micrographs to val/"
        )
    if test is not None and not test:
        raise DataError(
            "no test micrograph has annotations",
            cure="annotate them, or remove the test part: half of validation then takes its place",
        )
    seen: dict[str, str] = {}
    for part, items in (("train", train), ("validation", validation or {}), ("test", test or {})):
        for micrograph in {micrograph_of(item) for item in items}:
            if seen.setdefault(micrograph, part) != part:
                raise DataError(
                    f"micrograph {micrograph!r} is in {seen[micrograph]} and in {part}",
                    cure="keep it in one part only",
                )


def _labelled_count(
    train: Mapping[str, str], labelable: AbstractSet[str], ratio_percent: float
) -> int:
    """The number of labelled items: rounded down, but at least one for each source that has any."""
    if not 0 < ratio_percent <= 100:
        raise ValueError(f"the ratio must be in (0, 100] percent, got {ratio_percent}")
    # In decimal, as typed: 0.29 * 100 is 28.999... in binary floating point, and its floor would
    # lose an item.
    wanted = floor(Fraction(repr(float(ratio_percent))) * len(train) / 100)
    sources = {train[item] for item in labelable}
    return min(len(labelable), max(wanted, len(sources)))


def _labelling_order(items: Mapping[str, str], *, seed: int) -> list[str]:
    """All items: first one of each source, then every beginning has the sources in their shares.

    Shares follow Sainte-Lague's method (Webster's): item j of a source of n has the key (2j + 1) /
    n. Of all beginnings of one length this one has the least sum of (count - quota)^2 / quota.
    """
    queued: list[tuple[bool, Fraction, str, str]] = []
    for source, members in _by_source(items).items():
        mark = _mark(seed, "source", source)
        ordered = sorted(members, key=lambda item: (_mark(seed, "labelled", item), item))
        queued += [
            (place > 0, Fraction(2 * place + 1, len(ordered)), mark, item)
            for place, item in enumerate(ordered)
        ]
    return [item for *_, item in sorted(queued)]


def named_items(
    names: Iterable[str], train: Iterable[str], labelable: AbstractSet[str]
) -> set[str]:
    """The items of a list of names: ids, micrograph ids, or file names.

    A file name needs no suffix if it is unique without it.

    Args:
        names: of the list.
        train: all items of the training part.
        labelable: those of them that have annotations.

    Raises:
        DataError: a name fits no item, several, or one without annotations; or there is no name.
    """
    meant = _meant_by_names(train)
    chosen: set[str] = set()
    for name in names:
        owners = {micrograph_of(item) for item in meant.get(name, ())}
        if not owners:
            raise DataError(
                f"{name!r:.80} of the labelled list is not a training micrograph",
                cure="correct the list",
            )
        if len(owners) > 1:
            raise DataError(
                f"{name!r} of the labelled list means {len(owners)} micrographs",
                cure=f"write folder and suffix too, e.g. {min(owners)}",
            )
        if not meant[name] <= labelable:
            raise DataError(
                f"{name!r} of the labelled list has no annotations",
                cure="annotate it or strike it out",
            )
        chosen |= meant[name]
    if not chosen:
        raise DataError("the labelled list is empty", cure="name at least one training micrograph")
    return chosen


def _meant_by_names(train: Iterable[str]) -> dict[str, set[str]]:
    """Name -> the items that it may mean; a complete name comes before one without its suffix."""
    whole: dict[str, set[str]] = defaultdict(set)
    bare: dict[str, set[str]] = defaultdict(set)
    for item in train:
        micrograph = micrograph_of(item)
        folder, slash, file_name = micrograph.rpartition("/")
        stem = file_name.rpartition(".")[0] or file_name
        for name in {item, micrograph, file_name}:
            whole[name].add(item)
        for name in {folder + slash + stem, stem}:
            bare[name].add(item)
    return {**bare, **whole}


def halve(items: Mapping[str, str], *, seed: int) -> tuple[list[str], list[str]]:
    """Items -> (kept, set aside): half of each source's micrographs, with all their tiles.

    If a source has an odd number, the larger half goes to the two results in turn, so that the
    totals differ by at most one. Raises DataError for a single micrograph.
    """
    micrographs: dict[str, str] = {micrograph_of(item): source for item, source in items.items()}
    if len(micrographs) < 2:
        raise DataError(
            "one validation micrograph cannot be divided into validation and test",
            cure="add an annotated validation micrograph or a test part",
        )
    aside: set[str] = set()
    larger = False
    groups = _by_source(micrographs)
    for source in sorted(groups, key=lambda name: (_mark(seed, "source", name), name)):
        members = sorted(groups[source], key=lambda name: (_mark(seed, "test", name), name))
        half, odd = divmod(len(members), 2)
        aside |= set(members[: half + (odd if larger else 0)])
        larger ^= bool(odd)
    return (
        [item for item in items if micrograph_of(item) not in aside],
        [item for item in items if micrograph_of(item) in aside],
    )


def _by_source(items: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for item, source in items.items():
        groups[source].append(item)
    return groups


def _mark(seed: int, purpose: str, name: str) -> str:
    """A text that gives a name's position in the seeded order."""
    return hashlib.sha256(json.dumps([seed, purpose, name]).encode()).hexdigest()


def chosen_on(settings: Mapping[str, Any]) -> str:
    """The part, in words, on which thresholds, accepted students and the best baseline are chosen.

    `settings` has the names `section.field`.
    """
    return (
        "the labelled micrographs"
        if settings.get("split.validation_from") == "labelled"
        else "validation"
    )
