"""Ids and a seed -> which items are labelled, unlabelled, validation and test.

Pure, and free of file order.

Randomness is an order by SHA-256 of (seed, purpose, name): it needs no state, does not depend on
the order of files or on what else is in the data set, and gives every ratio the same order, so that
5% is nested in 10%.
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
    """Ids of the four parts, each sorted; a micrograph is in only one of train, validation and test.

    Save where the labelled micrographs are what thresholds and gate are chosen on: then they are
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


def draw_split(
    train: Mapping[str, str],
    labelable: AbstractSet[str],
    validation: Mapping[str, str] | None,
    test: Mapping[str, str] | None,
    *,
    ratio_percent: float,
    seed: int,
    labelled: Sequence[str] | None,
) -> Split:
    """Divide the items (id -> source) of a data set.

    Args:
        train: all items of the training part, annotated or not: what the ratio counts.
        labelable: those of them that have annotations and so can be labelled.
        validation: annotated validation items; None if what is labelled is validation too.
        test: annotated test items; None if the data set has no test part: half of the validation
            micrographs of each source are set aside instead.
        ratio_percent: labelled part of `train`, in (0, 100]; the count is rounded down, and is at
            least one per source.
        seed: of the draw.
        labelled: names that replace the draw (ids, or file names of micrographs): exactly these are
            labelled.

    Raises:
        DataError: nothing to label, a named item that cannot be labelled, too little validation
            data, or a micrograph that is in two parts.
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
        kept, aside = _halve(validation or {}, seed=seed)
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
    """How many items are labelled: rounded down, at least one per source that has any, and no more than there are."""
    if not 0 < ratio_percent <= 100:
        raise ValueError(f"the ratio must be in (0, 100] percent, got {ratio_percent}")
    # In decimal, as typed: 0.29 * 100 is 28.999... in binary floating point, and its floor would
    # lose an item.
    wanted = floor(Fraction(repr(float(ratio_percent))) * len(train) / 100)
    sources = {train[item] for item in labelable}
    return min(len(labelable), max(wanted, len(sources)))


def _labelling_order(items: Mapping[str, str], *, seed: int) -> list[str]:
    """All items, first one of each source, then so that every beginning has the sources in their shares of the whole.

    Shares follow Sainte-Lague's method (Webster's): the j-th item of a source of n comes in the
    order of (2j + 1) / n. Of all beginnings of that length it has the least sum of (count -
    quota)^2 / quota.
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
    """The items meant by a lab's list: by id, by micrograph id, or by file name, which needs no suffix, if unambiguous.

    Args:
        names: of the list.
        train: all items of the training part.
        labelable: those of them that have annotations.

    Raises:
        DataError: a name that means none, several, or an item without annotations; no name at all.
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
    """Name -> the items that it may mean; a whole name comes before one that lacks its suffix."""
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


def _halve(items: Mapping[str, str], *, seed: int) -> tuple[list[str], list[str]]:
    """(kept, set aside): half of each source's micrographs, with all their tiles.

    Of an odd number, the two take the larger share by turns, source by source, so the totals differ
    by one at most.
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
    """A name's place in the seeded order, as text that sorts."""
    return hashlib.sha256(json.dumps([seed, purpose, name]).encode()).hexdigest()


def chosen_on(settings: Mapping[str, Any]) -> str:
    """What thresholds, gate and the baseline to beat were chosen on;

    `settings` by section and name.
    """
    return (
        "the labelled micrographs"
        if settings.get("split.validation_from") == "labelled"
        else "validation"
    )
