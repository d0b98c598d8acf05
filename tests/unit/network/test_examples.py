"""What a training sees of the items of a split: true labels, pseudo-labels by their weight, or none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_stores import dataset, make_store  # noqa: F401 (a fixture)

from cryossl.data.labels import BACKGROUND, IGNORE
from cryossl.network.batches import MixedBatches, Sampling, TileBatches
from cryossl.network.examples import labelled_examples, student_batches
from cryossl.progress.events import silent
from cryossl.pseudolabels.keep_rules import AllAbove, BestOfEachSource
from cryossl.pseudolabels.pool import Pool, Selected
from cryossl.pseudolabels.priors import Priors
from cryossl.pseudolabels.recipe import Consistency, Learning
from cryossl.pseudolabels.selection import Quality, Selection, label_map
from cryossl.system.stages import Stages

RULES = Selection(
    particle_threshold=0.5,
    background_threshold=0.7,
    quality=Quality(confidence=1.0),
    keep=AllAbove(0.0),
)
MIXED = Learning(loss="weighted", mixed=True)


@pytest.fixture
def store(dataset, tmp_path):  # noqa: F811
    return make_store(dataset, tmp_path / "stores")


@pytest.fixture
def pool(store) -> Pool:
    return Pool(
        store, sorted(name for name, one in store.micrographs.items() if one.part == "train")
    )


def answer(name: str, shape: tuple[int, int], *, age: int) -> np.ndarray:
    """A teacher's map; the younger the teacher, the more of it is another."""
    rng = np.random.default_rng(list(name.encode()))
    final, early = rng.integers(0, 256, (2, *shape), np.uint8)
    return np.where(rng.random(shape) < 0.3 * age, early, final)


def selected(pool: Pool, store, folder, rules: Selection, *, times: int = 1) -> Selected:
    folders = []
    for age in reversed(range(times)):
        folders.append(folder / f"age-{age}")
        folders[-1].mkdir()
        pool.predict(
            folders[-1],
            lambda ids, age=age: (
                (name, answer(name, store.picture(name).shape, age=age)) for name in ids
            ),
            report=silent,
        )
    *earlier, last = folders
    stage = Stages(folder / "stages").once(
        "select",
        {"rules": repr(rules)},
        lambda to: pool.select(
            last,
            to,
            rules,
            priors=Priors(0.3, {"a": 0.2}, {"a": 2}),
            report=silent,
            earlier=earlier,
        ),
    )
    return pool.selected(stage)


def batches(store, pool: Pool, found: Selected | None, learning: Learning, **changes):
    labelled = [item for item in pool.items if store.micrographs[item].annotated]
    steps = changes.pop("steps", 12)
    sampling = Sampling(
        **{"batch_size": 4, "tile_px": store.tile_px, "seed": 0, "iteration": 1} | changes
    )
    return student_batches(store, labelled, found, learning, sampling=sampling, steps=steps)


def test_labelled_tiles_show_the_truth_and_nothing_of_tiles_that_were_not_given(store, pool):
    name = next(name for name in pool.items if len(store.tiles(name)) > 1)
    (example,) = labelled_examples(store, [store.tiles(name)[1].id])
    truth = store.truth(name, border=True)
    y0, y1, x0, x1 = example.tile.own
    expected = np.full_like(truth, IGNORE)
    expected[y0:y1, x0:x1] = truth[y0:y1, x0:x1]
    np.testing.assert_array_equal(example.labels, expected)
    assert example.source == store.micrographs[name].source
    assert example.weight == 1


def test_the_baseline_and_the_notes_students_learn_from_one_pool_of_tiles_and_the_others_from_halves(
    store, pool, tmp_path
):
    found = selected(pool, store, tmp_path, RULES)
    assert isinstance(batches(store, pool, None, MIXED), TileBatches)
    common, halves = batches(store, pool, found, Learning()), batches(store, pool, found, MIXED)
    assert isinstance(common, TileBatches)
    assert isinstance(halves, MixedBatches)
    assert common.steps_per_epoch == halves.steps_per_epoch
    assert halves.batch(0).labelled == 2


def test_the_weight_of_pseudo_labels_is_full_at_the_last_step(store, pool, tmp_path):
    found = selected(pool, store, tmp_path, RULES)
    ramp = replace(MIXED, pseudo_weight=(0.25, 1.0))
    ramped = batches(store, pool, found, ramp, steps=5)
    assert ramped.batch(0).weights.tolist() == [1, 1, 0.25, 0.25]
    assert ramped.batch(4).weights.tolist() == [1, 1, 1, 1]


def test_a_tile_weighs_what_its_micrographs_agreement_is_where_that_counts(store, pool, tmp_path):
    rules = replace(
        RULES, quality=Quality(agreement=1.0), keep=BestOfEachSource(1.0), scope="per_source"
    )
    found = selected(pool, store, tmp_path, rules, times=3)
    assert all(0 < one.agreement < 1 for one in found.assessments.values())
    for learning in (MIXED, replace(MIXED, by_agreement=True)):
        drawn = batches(store, pool, found, learning)
        for step in range(6):
            batch = drawn.batch(step)
            for item, weight in list(zip(batch.items, batch.weights.tolist(), strict=True))[
                batch.labelled :
            ]:
                own = found.assessments[item.split("@")[0]].agreement
                assert weight == pytest.approx(own if learning.by_agreement else 1.0)
    assert [found.assessments[item].quality for item in found.ids] == sorted(
        (one.agreement for one in found.assessments.values()), reverse=True
    )


def test_soft_targets_travel_with_the_weights_of_their_source(store, pool, tmp_path):
    found = selected(pool, store, tmp_path, replace(RULES, soft=True))
    assert set(found.soft) == {store.micrographs[item].source for item in pool.items}
    batch = batches(store, pool, found, MIXED).batch(0)
    assert batch.tables is not None
    for place in range(batch.labelled, 4):
        expected = found.soft[batch.sources[place]].weights.copy()
        expected[IGNORE] = 0
        np.testing.assert_array_equal(batch.tables[place, 1].numpy(), expected)
        np.testing.assert_allclose(batch.tables[place, 0].numpy(), np.arange(256) / 255, atol=1e-6)
    for name, codes in found.maps.items():
        whole = answer(name, codes.shape, age=0)
        np.testing.assert_array_equal(codes, np.minimum(whole, 254))
        np.testing.assert_array_equal(found.labels(name), (whole >= 128).astype(np.uint8))


def test_where_the_teacher_speaks_online_no_pixel_of_a_pseudo_label_reaches_the_student(
    store, pool, tmp_path
):
    found = selected(pool, store, tmp_path, RULES)
    assert any(
        (label_map(answer(name, codes.shape, age=0), RULES) != BACKGROUND).any()
        for name, codes in found.maps.items()
    )
    drawn = batches(store, pool, found, replace(MIXED, consistency=Consistency()))
    for step in range(6):
        assert set(drawn.batch(step).labels[2:].unique().tolist()) <= {
            BACKGROUND,
            IGNORE,
        }  # IGNORE: beyond the edge
