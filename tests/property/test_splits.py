"""What holds for every split."""

from __future__ import annotations

from itertools import product
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cryossl.data.splits import Split, draw_split
from cryossl.data.tiling import micrograph_of

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=4)
SEEDS = st.integers(0, 2**31 - 1)
RATIOS = st.floats(0.01, 100)


def items(part: str, sizes: list[int]) -> dict[str, str]:
    return {
        f"{part}/s{source}_{index}.jpg": f"s{source}"
        for source, size in enumerate(sizes)
        for index in range(size)
    }


def draw(
    train: dict[str, str], validation: dict[str, str], *, ratio_percent: float, seed: int
) -> Split:
    return draw_split(
        train,
        set(train),
        validation,
        None,
        ratio_percent=ratio_percent,
        seed=seed,
        test_seed=seed,
        labelled=None,
    )


@given(SIZES, st.integers(2, 9), RATIOS, SEEDS)
def test_parts_are_disjoint_and_cover_everything(
    sizes: list[int], held_out: int, ratio: float, seed: int
) -> None:
    train, validation = items("train", sizes), items("val", [held_out])
    split = draw(train, validation, ratio_percent=ratio, seed=seed)
    assert sorted([*split.labelled, *split.unlabelled]) == sorted(train)
    assert sorted([*split.validation, *split.test]) == sorted(validation)
    assert split.labelled
    assert split.validation
    assert split.test


@given(SIZES, RATIOS, RATIOS, SEEDS)
def test_a_smaller_ratio_is_nested_in_a_larger_one(
    sizes: list[int], one: float, other: float, seed: int
) -> None:
    train, validation = items("train", sizes), items("val", [2])
    small = draw(train, validation, ratio_percent=min(one, other), seed=seed)
    large = draw(train, validation, ratio_percent=max(one, other), seed=seed)
    assert set(small.labelled) <= set(large.labelled)
    assert (small.validation, small.test) == (large.validation, large.test)


@given(SIZES, RATIOS, SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_files_does_not_matter(
    sizes: list[int], ratio: float, seed: int, shuffler: Random
) -> None:
    train, validation = items("train", sizes), items("val", [*sizes, 2])
    orders = [list(train), list(validation)]
    for order in orders:
        shuffler.shuffle(order)
    shuffled = draw(
        {item: train[item] for item in orders[0]},
        {item: validation[item] for item in orders[1]},
        ratio_percent=ratio,
        seed=seed,
    )
    assert shuffled.digest() == draw(train, validation, ratio_percent=ratio, seed=seed).digest()


@given(st.lists(st.integers(1, 7), min_size=1, max_size=3), RATIOS, SEEDS)
def test_no_other_draw_of_that_size_is_closer_to_the_sources_shares(
    sizes: list[int], ratio: float, seed: int
) -> None:
    train = items("train", sizes)
    split = draw(train, items("val", [2]), ratio_percent=ratio, seed=seed)
    counts = tuple(
        sum(train[item] == f"s{source}" for item in split.labelled) for source in range(len(sizes))
    )
    rivals = [
        rival
        for rival in product(*(range(1, size + 1) for size in sizes))
        if sum(rival) == sum(counts)
    ]
    assert _distance(counts, sizes) <= min(_distance(rival, sizes) for rival in rivals) + 1e-9


def _distance(counts: tuple[int, ...], sizes: list[int]) -> float:
    quotas = [sum(counts) * size / sum(sizes) for size in sizes]
    return sum((count - quota) ** 2 / quota for count, quota in zip(counts, quotas, strict=True))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 4), SEEDS)
def test_no_micrograph_straddles_validation_and_test(
    sizes: list[int], tiles: int, seed: int
) -> None:
    validation = {
        f"{name}@0,{x}": source
        for name, source in items("val", [*sizes, 2]).items()
        for x in range(tiles)
    }
    split = draw(items("train", [3]), validation, ratio_percent=5, seed=seed)
    kept, aside = (
        {micrograph_of(item) for item in part} for part in (split.validation, split.test)
    )
    assert not kept & aside
    assert abs(len(kept) - len(aside)) <= 1
