"""The pool: what a teacher says of it, what is selected, and the maps that a student learns from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sklearn
from small_stores import dataset, make_store  # noqa: F401 (a fixture)

from cryossl.data.labels import IGNORE, PARTICLE
from cryossl.progress.events import silent
from cryossl.pseudolabels.keep_rules import AllAbove, BestPerLabelled
from cryossl.pseudolabels.pixel_rules import probability_counts
from cryossl.pseudolabels.pool import CHUNK_MICROGRAPHS, Pool
from cryossl.pseudolabels.priors import Priors
from cryossl.pseudolabels.selection import Quality, Selection, assess, label_map
from cryossl.system.stages import Stages

BALANCED = Selection(
    particle_threshold=0.6,
    background_threshold=0.8,
    quality=Quality(particle=0.3, background=0.2, balance=0.5),
    keep=BestPerLabelled(1.0),
    uncertain_pixels="ignore",
)
EVERYTHING = Selection(
    particle_threshold=0.7,
    background_threshold=0.7,
    quality=Quality(confidence=1.0),
    keep=AllAbove(0.0),
    uncertain_pixels="background",
)
NOTHING = Selection(
    particle_threshold=0.7,
    background_threshold=0.7,
    quality=Quality(confidence=1.0),
    keep=AllAbove(1.0),
    uncertain_pixels="ignore",
)


@pytest.fixture
def store(dataset, tmp_path):  # noqa: F811
    return make_store(dataset, tmp_path / "stores")


@pytest.fixture
def micrographs(store) -> list[str]:
    return sorted(name for name, one in store.micrographs.items() if one.part == "train")


@pytest.fixture
def tiles(store, micrographs) -> list[str]:
    return [tile.id for name in micrographs for tile in store.tiles(name)]


def teacher(store):
    """A stand-in for a network's answers: fixed random maps; notes what it was asked for."""
    asked: list[str] = []

    def predict(ids):
        for name in ids:
            asked.append(name)
            one = store.micrographs[name]
            yield name, map_of(name, (one.height_px, one.width_px))

    return predict, asked


def map_of(name: str, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(list(name.encode())).integers(0, 256, shape, np.uint8)


def selected(pool: Pool, store, tmp_path, selection, *, labelled_count=2):
    predict, _ = teacher(store)
    predicted = tmp_path / "predicted"
    predicted.mkdir(exist_ok=True)
    pool.predict(predicted, predict, report=silent)
    stage = Stages(tmp_path / "stages").once(
        "select",
        {"rules": repr(selection), "items": list(pool.items)},
        lambda folder: pool.select(
            predicted,
            folder,
            selection,
            priors=Priors(0.3, {}, {"a": labelled_count}),
            report=silent,
        ),
    )
    return pool.selected(stage)


def test_each_micrograph_is_assessed_and_labelled_as_the_rules_say(store, micrographs, tmp_path):
    pool = Pool(store, micrographs)
    found = selected(pool, store, tmp_path, BALANCED)
    assert set(found.assessments) == set(micrographs)
    for name, assessment in found.assessments.items():
        p8 = map_of(name, store.picture(name).shape)
        assert assessment == assess(probability_counts(p8), BALANCED, target_ratio=0.3)
    ranked = sorted(micrographs, key=lambda name: (-found.assessments[name].quality, name))
    assert found.ids == tuple(ranked[:2])
    assert len(found) == 2 == found.summary.count
    assert set(found.maps) == set(found.ids)
    for name in found.ids:
        np.testing.assert_array_equal(
            found.maps[name], label_map(map_of(name, store.picture(name).shape), BALANCED)
        )


def test_pixels_of_a_ring_count_as_ignored(store, micrographs, tmp_path):
    ringed = replace(EVERYTHING, ring_px=1)
    found = selected(Pool(store, micrographs), store, tmp_path, ringed)
    for name in found.ids:
        assert (
            found.assessments[name].ignored_pixels
            == np.count_nonzero(found.maps[name] == IGNORE)
            > 0
        )
    pixels = sum(one.size for one in found.maps.values())
    assert (
        found.summary.ignored_fraction
        == sum(np.count_nonzero(one == IGNORE) for one in found.maps.values()) / pixels
    )


def test_a_tile_is_assessed_on_the_pixels_it_answers_for_and_the_rest_is_ignored(
    store, tiles, tmp_path
):
    pool = Pool(store, tiles)
    found = selected(pool, store, tmp_path, BALANCED, labelled_count=3)
    assert set(found.assessments) == set(tiles)
    chosen = set(found.ids)
    assert len(chosen) == 3
    for name, whole in found.maps.items():
        expected = np.full_like(whole, IGNORE)
        for tile in store.tiles(name):
            y0, y1, x0, x1 = tile.own
            own = map_of(name, whole.shape)[y0:y1, x0:x1]
            assert found.assessments[tile.id] == assess(
                probability_counts(own), BALANCED, target_ratio=0.3
            )
            if tile.id in chosen:
                expected[y0:y1, x0:x1] = label_map(own, BALANCED)
        np.testing.assert_array_equal(whole, expected)


def test_tiles_together_are_the_whole_micrograph(store, micrographs, tiles, tmp_path):
    by_tile = selected(Pool(store, tiles), store, tmp_path, EVERYTHING)
    by_micrograph = selected(Pool(store, micrographs), store, tmp_path, EVERYTHING)
    assert set(by_tile.maps) == set(by_micrograph.maps) == set(micrographs)
    for name in micrographs:
        np.testing.assert_array_equal(by_tile.maps[name], by_micrograph.maps[name])


def test_nothing_selected_is_an_empty_selection_with_its_reasons(store, micrographs, tmp_path):
    found = selected(Pool(store, micrographs), store, tmp_path, NOTHING)
    assert (len(found), found.maps, found.summary.count, found.summary.pool) == (
        0,
        {},
        0,
        len(micrographs),
    )
    assert len(found.assessments) == len(micrographs)


def test_an_interrupted_prediction_goes_on_behind_its_last_chunk(store, micrographs, tmp_path):
    predict, asked = teacher(store)
    pool = Pool(store, micrographs)
    assert len(micrographs) <= CHUNK_MICROGRAPHS
    reports = []
    pool.predict(tmp_path, predict, report=reports.append)
    assert asked == micrographs
    assert [(event.done, event.total) for event in reports] == [(1, 1)]
    before = {path.name: path.read_bytes() for path in tmp_path.glob("probabilities-*")}
    asked.clear()
    pool.predict(tmp_path, predict, report=silent)
    assert asked == []
    assert {path.name: path.read_bytes() for path in tmp_path.glob("probabilities-*")} == before


def test_the_audit_is_scikit_learns_where_both_sides_say_something(store, micrographs, tmp_path):
    pool = Pool(store, micrographs)
    found = selected(pool, store, tmp_path, BALANCED, labelled_count=len(micrographs))
    truths, said = [], []
    for name, whole in found.maps.items():
        if store.micrographs[name].annotated:
            truth = store.truth(name, border=True)
            both = (truth != IGNORE) & (whole != IGNORE)
            truths.append(truth[both] == PARTICLE)
            said.append(whole[both] == PARTICLE)
    counts = pool.audit(found)
    _, fp, fn, tp = sklearn.confusion_matrix(np.concatenate(truths), np.concatenate(said)).ravel()
    assert (counts.tp, counts.fp, counts.fn) == (tp, fp, fn)
    assert tp > 0


def test_an_item_cuts_its_own_pixels_and_no_others(store, micrographs, tiles):
    pool = Pool(store, tiles)
    for name in micrographs:
        whole = np.zeros(store.picture(name).shape, np.uint8)
        assert pool.cut(name, whole).shape == whole.shape
        for tile in store.tiles(name):
            pool.cut(tile.id, whole)[...] += np.uint8(1)
        assert (whole == 1).all()
