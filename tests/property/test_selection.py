"""What holds for every map, every recipe and every pool."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cryossl.data.labels import BACKGROUND, IGNORE, PARTICLE
from cryossl.pseudolabels.keep_rules import AllAbove, BestPerLabelled
from cryossl.pseudolabels.pixel_rules import probability_counts
from cryossl.pseudolabels.selection import Assessment, Quality, Selection, assess, label_map, select

maps = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=16))
shares = st.integers(0, 1000).map(lambda thousandth: thousandth / 1000)
weights = st.sampled_from([0.0, 0.2, 0.3, 0.5, 1.0])
targets = st.sampled_from([0.001, 0.04, 0.25, 1.0])


@st.composite
def recipes(draw: st.DrawFn) -> Selection:
    particle = draw(st.integers(0, 1000))
    background = draw(st.integers(1000 - particle, 1000))
    return Selection(
        particle_threshold=particle / 1000,
        background_threshold=background / 1000,
        quality=Quality(*[draw(weights) for _ in range(4)]),
        keep=draw(
            st.one_of(
                st.builds(AllAbove, shares),
                st.builds(BestPerLabelled, st.sampled_from([0.5, 1.0, 2.0])),
            )
        ),
        uncertain_pixels=draw(st.sampled_from(["ignore", "background"])),
    )


def _judged(quality: float) -> Assessment:
    return Assessment(
        quality=quality,
        particle_confidence=0.0,
        background_confidence=0.0,
        mean_confidence=0.5,
        balance=0.0,
        particle_ratio=0.0,
        ignored_fraction=0.0,
        pixels=1,
        particle_pixels=0,
        ignored_pixels=0,
    )


pools = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]).map(_judged),
    max_size=12,
)


@given(maps, recipes())
def test_each_pixel_is_labelled_as_exact_arithmetic_says(
    probabilities: np.ndarray, rules: Selection
) -> None:
    particle, background = (
        Fraction(round(1000 * t), 1000)
        for t in (rules.particle_threshold, rules.background_threshold)
    )
    doubtful = IGNORE if rules.uncertain_pixels == "ignore" else BACKGROUND
    expected = [
        PARTICLE
        if Fraction(int(p8), 255) >= particle
        else BACKGROUND
        if 1 - Fraction(int(p8), 255) >= background
        else doubtful
        for p8 in probabilities.ravel()
    ]
    assert label_map(probabilities, rules).ravel().tolist() == expected


@given(maps, recipes(), targets)
def test_an_assessment_is_what_the_pixels_say(
    probabilities: np.ndarray, rules: Selection, target: float
) -> None:
    found = assess(probability_counts(probabilities), rules, target_ratio=target)
    labels = label_map(probabilities, replace(rules, uncertain_pixels="ignore"))
    p = probabilities / 255
    means = {
        "particle": p[labels == PARTICLE].mean() if (labels == PARTICLE).any() else 0.0,
        "background": (1 - p[labels == BACKGROUND]).mean() if (labels == BACKGROUND).any() else 0.0,
        "confidence": np.maximum(p, 1 - p).mean(),
        "balance": max(0.0, 1 - abs((labels == PARTICLE).mean() - target) / target),
    }
    assert np.isclose(found.particle_confidence, means["particle"])
    assert np.isclose(found.background_confidence, means["background"])
    assert np.isclose(found.mean_confidence, means["confidence"])
    assert np.isclose(found.balance, means["balance"], atol=1e-9)
    assert np.isclose(
        found.quality, sum(getattr(rules.quality, name) * mean for name, mean in means.items())
    )
    assert found.ignored_pixels == np.count_nonzero(label_map(probabilities, rules) == IGNORE)


@given(maps, recipes(), targets, st.randoms(use_true_random=False))
def test_quality_does_not_depend_on_where_the_pixels_are(
    probabilities: np.ndarray, rules: Selection, target: float, random: object
) -> None:
    shuffled = probabilities.ravel().tolist()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    other = np.array(shuffled, dtype=np.uint8).reshape(probabilities.shape)
    assert assess(probability_counts(other), rules, target_ratio=target) == assess(
        probability_counts(probabilities), rules, target_ratio=target
    )


@given(maps, recipes(), targets)
def test_what_becomes_of_doubtful_pixels_changes_no_quality(
    probabilities: np.ndarray, rules: Selection, target: float
) -> None:
    qualities = {
        assess(
            probability_counts(probabilities),
            replace(rules, uncertain_pixels=mode),
            target_ratio=target,
        ).quality
        for mode in ("ignore", "background")
    }
    assert len(qualities) == 1


@given(pools, recipes(), st.integers(0, 5), st.permutations(range(12)))
def test_selection_does_not_depend_on_the_order_of_the_pool(
    pool: dict[str, Assessment], rules: Selection, labelled_count: int, order: list[int]
) -> None:
    ids = list(pool)
    turned = {ids[place]: pool[ids[place]] for place in order if place < len(ids)}
    assert select(turned, rules, labelled_count=labelled_count) == select(
        pool, rules, labelled_count=labelled_count
    )


@given(pools, recipes(), shares, shares, st.integers(0, 5))
def test_a_larger_quota_keeps_a_superset(
    pool: dict[str, Assessment], rules: Selection, one: float, other: float, labelled_count: int
) -> None:
    small, large = (
        select(
            pool, replace(rules, keep=BestPerLabelled(10 * multiple)), labelled_count=labelled_count
        )
        for multiple in sorted((one, other))
    )
    assert large[: len(small)] == small


@given(pools, recipes(), shares, shares)
def test_a_lower_bar_keeps_a_superset(
    pool: dict[str, Assessment], rules: Selection, one: float, other: float
) -> None:
    low, high = (
        select(pool, replace(rules, keep=AllAbove(threshold)), labelled_count=1)
        for threshold in sorted((one, other))
    )
    assert low[: len(high)] == high


@given(pools, recipes(), st.integers(0, 5))
def test_no_image_left_out_is_better_than_one_kept(
    pool: dict[str, Assessment], rules: Selection, labelled_count: int
) -> None:
    kept = select(pool, rules, labelled_count=labelled_count)
    assert len(set(kept)) == len(kept)
    left_out = [pool[item].quality for item in pool if item not in kept]
    if kept and left_out:
        assert max(left_out) <= pool[kept[-1]].quality
