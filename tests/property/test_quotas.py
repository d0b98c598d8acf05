"""Quotas of each source, and the priors they come from."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryossl.pseudolabels.keep_rules import AllAbove, BestOfEachSource, BestPerLabelled
from cryossl.pseudolabels.priors import SHRINKAGE_ITEMS, Priors, shrunk_priors
from cryossl.pseudolabels.selection import Assessment, Quality, Selection, select

SOURCES = "abc"


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


def _rules(keep: AllAbove | BestPerLabelled | BestOfEachSource) -> Selection:
    return Selection(
        particle_threshold=0.5,
        background_threshold=0.5,
        quality=Quality(agreement=1.0),
        keep=keep,
        scope="per_source",
    )


pools = st.dictionaries(
    st.text(SOURCES, min_size=1, max_size=4),
    st.sampled_from([0.0, 0.3, 0.7, 1.0]).map(_judged),
    max_size=15,
)
shares = st.integers(0, 100).map(lambda percent: percent / 100)
labelled = st.fixed_dictionaries({}, optional={source: st.integers(0, 4) for source in SOURCES})


def _chosen(
    pool: dict[str, Assessment], keep: BestPerLabelled | BestOfEachSource, counts: dict[str, int]
) -> tuple[str, ...]:
    return select(
        pool,
        _rules(keep),
        labelled_count=sum(counts.values()),
        sources={item: item[0] for item in pool},
        labelled_by_source=counts,
    )


@given(pools, shares)
def test_a_share_of_each_source_is_kept_rounded_up(
    pool: dict[str, Assessment], share: float
) -> None:
    there = Counter(item[0] for item in pool)
    kept = Counter(item[0] for item in _chosen(pool, BestOfEachSource(share), {}))
    exact = Fraction(round(100 * share), 100)
    assert kept == +Counter({source: ceil(exact * count) for source, count in there.items()})


@given(pools, st.sampled_from([0.5, 1.0, 2.0]), labelled)
def test_a_quota_per_label_counts_each_sources_own_labels(
    pool: dict[str, Assessment], multiple: float, counts: dict[str, int]
) -> None:
    there = Counter(item[0] for item in pool)
    kept = Counter(item[0] for item in _chosen(pool, BestPerLabelled(multiple), counts))
    assert kept == +Counter(
        {
            source: min(count, int(multiple * counts.get(source, 0)))
            for source, count in there.items()
        }
    )


@given(pools, shares, shares, labelled)
def test_a_larger_quota_keeps_a_superset_in_every_source(
    pool: dict[str, Assessment], one: float, other: float, counts: dict[str, int]
) -> None:
    for keep, factor in ((BestOfEachSource, 1), (BestPerLabelled, 4)):
        small, large = (
            _chosen(pool, keep(factor * share), counts) for share in sorted((one, other))
        )
        assert set(small) <= set(large)


@given(pools, shares, labelled, st.permutations(range(15)))
def test_the_order_of_the_pool_decides_nothing(
    pool: dict[str, Assessment], share: float, counts: dict[str, int], order: list[int]
) -> None:
    ids = list(pool)
    turned = {ids[place]: pool[ids[place]] for place in order if place < len(ids)}
    for keep in (BestOfEachSource(share), BestPerLabelled(3 * share)):
        assert _chosen(turned, keep, counts) == _chosen(pool, keep, counts)


@given(pools, shares, labelled)
def test_within_a_source_no_image_left_out_is_better_than_one_kept(
    pool: dict[str, Assessment], share: float, counts: dict[str, int]
) -> None:
    for keep in (BestOfEachSource(share), BestPerLabelled(3 * share)):
        kept = _chosen(pool, keep, counts)
        for source in SOURCES:
            inside = [pool[item].quality for item in kept if item[0] == source]
            outside = [
                one.quality for item, one in pool.items() if item[0] == source and item not in kept
            ]
            assert not inside or not outside or max(outside) <= min(inside)


def test_a_quota_of_each_source_without_sources_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the sources"):
        select({"a": _judged(1.0)}, _rules(BestOfEachSource(0.5)), labelled_count=1)


ratios = st.floats(0.001, 0.9)


@given(ratios, st.dictionaries(st.sampled_from(SOURCES), st.tuples(ratios, st.integers(1, 500))))
def test_a_prior_is_as_if_five_more_items_had_the_overall_ratio(
    overall: float, measured: dict[str, tuple[float, int]]
) -> None:
    found = shrunk_priors(
        overall,
        ratios={source: one[0] for source, one in measured.items()},
        labelled={source: one[1] for source, one in measured.items()},
    )
    assert found.labelled_count == sum(count for _, count in measured.values())
    for source, (own, count) in measured.items():
        items = [own] * count + [overall] * SHRINKAGE_ITEMS
        assert found.of(source) == pytest.approx(sum(items) / len(items))
        assert min(own, overall) - 1e-12 <= found.of(source) <= max(own, overall) + 1e-12
    assert found.of("a source without labels") == overall


def test_the_shrinkage_is_the_published_one_and_the_scope_chooses_between_the_targets() -> None:
    priors = shrunk_priors(0.04, ratios={"a": 0.10}, labelled={"a": 15})
    assert priors.of("a") == pytest.approx((15 * 0.10 + 5 * 0.04) / 20)
    assert priors.target("a", scope="per_source") == priors.of("a")
    assert priors.target("a", scope="global") == 0.04
    assert Priors(0.04, {}, {}).target("a", scope="per_source") == 0.04
