"""Batches of labelled and pseudo-labelled tiles, and what their maps say as targets and weights."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from cryossl.data.labels import BACKGROUND, IGNORE, PARTICLE
from cryossl.data.tiling import Tile
from cryossl.network.batches import Example, MixedBatches, Sampling, TileBatches, plain_tables
from cryossl.network.objectives.objective import targets_and_weights
from cryossl.pseudolabels.pixel_rules import SoftTargets

TILE_PX = 8
CPU = torch.device("cpu")
WEIGHTS = np.linspace(0, 1, 256, dtype=np.float32)


def examples(
    count: int,
    *,
    name: str,
    value: int = BACKGROUND,
    soft: SoftTargets | None = None,
    weight: float = 1.0,
) -> list[Example]:
    shape = (TILE_PX, TILE_PX)
    return [
        Example(
            Tile(f"{name}{index}", 0, 0, (0, TILE_PX, 0, TILE_PX)),
            np.full(shape, 100 + index, np.uint8),
            np.full(shape, value, np.uint8),
            weight,
            soft,
            source=name,
        )
        for index in range(count)
    ]


def mixed(
    labelled: list[Example] | int = 3,
    others: list[Example] | int = 11,
    *,
    batch_size: int = 6,
    **changes,
) -> MixedBatches:
    first = examples(labelled, name="true") if isinstance(labelled, int) else labelled
    second = examples(others, name="pseudo") if isinstance(others, int) else others
    rest = {name: changes.pop(name) for name in ("weight", "steps") if name in changes}
    sampling = Sampling(
        **{"batch_size": batch_size, "tile_px": TILE_PX, "seed": 0, "iteration": 1} | changes
    )
    return MixedBatches(first, second, sampling, **rest)


@pytest.mark.parametrize(("batch_size", "halves"), [(6, (3, 3)), (7, (3, 4)), (2, (1, 1))])
def test_every_batch_is_half_labelled_and_the_labelled_come_first(batch_size, halves):
    batches = mixed(batch_size=batch_size)
    for step in range(9):
        batch = batches.batch(step)
        kinds = ["true" if item.startswith("true") else "pseudo" for item in batch.items]
        assert kinds == ["true"] * halves[0] + ["pseudo"] * halves[1]
        assert batch.labelled == halves[0]
        assert batch.sources == tuple(kinds)


def test_each_kind_goes_through_epochs_of_its_own():
    batches = mixed(3, 12)
    items = [item for step in range(8) for item in batches.batch(step).items]
    shown = Counter(items)
    assert {item: count for item, count in shown.items() if item.startswith("true")} == {
        f"true{i}@0,0": 8 for i in range(3)
    }
    assert {count for item, count in shown.items() if item.startswith("pseudo")} == {2}


def test_an_epoch_takes_as_many_steps_as_a_common_pool_of_all_tiles():
    common = TileBatches(
        examples(14, name="all"),
        Sampling(batch_size=6, tile_px=TILE_PX, seed=0, purpose="fit", iteration=1),
    )
    assert mixed(3, 11).steps_per_epoch == common.steps_per_epoch == 3


def test_the_weight_of_pseudo_labels_grows_linearly_from_the_first_step_to_the_last_and_the_true_ones_stay():
    others = examples(11, name="pseudo", weight=0.5)
    batches = mixed(3, others, weight=(0.25, 1.0), steps=31)
    for step, expected in ((0, 0.25), (10, 0.5), (20, 0.75), (30, 1.0)):
        weights = batches.batch(step).weights
        torch.testing.assert_close(weights[:3], torch.ones(3))
        torch.testing.assert_close(weights[3:], torch.full((3,), 0.5 * expected))


def test_without_a_ramp_every_tile_keeps_its_own_weight_also_in_a_training_of_one_step():
    assert mixed(steps=1).batch(0).weights.tolist() == [1.0] * 6
    assert mixed(weight=(0.25, 1.0), steps=1).batch(0).weights.tolist() == [1.0] * 3 + [0.25] * 3


@pytest.mark.parametrize(
    "change",
    [
        {"weight": (0.25, 1.0)},
        {"steps": 7},
        {"seed": 1},
        {"iteration": 2},
        {"batch_size": 8},
        {"others": 12},
        {"labelled": 4},
    ],
)
def test_every_setting_that_changes_a_batch_changes_the_digest(change):
    arguments = {"steps": 5, "weight": (0.5, 1.0)} | change
    assert mixed(**arguments).digest() != mixed(steps=5, weight=(0.5, 1.0)).digest()


def test_a_batch_of_one_and_an_empty_kind_are_refused():
    with pytest.raises(ValueError, match="room for two"):
        mixed(batch_size=1)
    with pytest.raises(ValueError, match="at least one example"):
        mixed(3, [])


def batch_of(labels: list[list[int]], **changes):
    """A batch whose maps have one row each, as a training would see them before any view."""
    rows = [
        Example(
            Tile(f"m{index}", 0, 0, (0, 1, 0, len(row))),
            np.zeros((1, len(row)), np.uint8),
            np.array([row], np.uint8),
            **{name: values[index] for name, values in changes.items()},
        )
        for index, row in enumerate(labels)
    ]
    return TileBatches(
        rows, Sampling(batch_size=len(rows), tile_px=4, seed=0, purpose="fit", iteration=0)
    ).batch(0)


def target_and_weight(batch, item: str):
    """Target and weight of the first row of a tile."""
    target, weight = targets_and_weights(batch.labels, batch, device=CPU)
    place = batch.items.index(f"{item}@0,0")
    return target[place, 0], weight[place, 0]


def test_true_labels_are_zero_and_one_and_what_is_ignored_or_beyond_the_edge_weighs_nothing():
    batch = batch_of([[BACKGROUND, PARTICLE, IGNORE]], weight=[0.5])
    assert batch.tables is None
    target, weight = target_and_weight(batch, "m0")
    assert target[0, :2].tolist() == [0, 1]
    assert weight[0].tolist() == [0.5, 0.5, 0, 0]
    assert (weight[1:] == 0).all()


def test_a_soft_map_is_learned_as_its_probability_with_the_weight_of_its_value():
    batch = batch_of(
        [[0, 51, 254], [BACKGROUND, PARTICLE, IGNORE]],
        soft=[SoftTargets(WEIGHTS), None],
        weight=[0.5, 0.25],
    )
    target, weight = target_and_weight(batch, "m0")
    torch.testing.assert_close(target[0, :3], torch.tensor([0.0, 0.2, 254 / 255]))
    torch.testing.assert_close(weight[0], 0.5 * torch.tensor([0.0, 51 / 255, 254 / 255, 0.0]))
    assert (weight[1:] == 0).all()  # padding: weight 1 at 255 in the table given, and yet none
    target, weight = target_and_weight(
        batch, "m1"
    )  # a label map beside a soft one is still a label map
    assert target[0, :2].tolist() == [0, 1]
    assert weight[0].tolist() == [0.25, 0.25, 0, 0]


def test_a_mixed_batch_reads_true_labels_by_the_plain_table_and_soft_ones_by_theirs():
    soft = examples(4, name="pseudo", value=102, soft=SoftTargets(WEIGHTS))
    batch = mixed(examples(3, name="true", value=PARTICLE), soft, weight=(0.5, 0.5)).batch(0)
    assert torch.equal(batch.tables[:3], plain_tables(3))
    target, weight = targets_and_weights(batch.labels, batch, device=CPU)
    assert (target[:3] == 1).all()
    assert (weight[:3] == 1).all()
    torch.testing.assert_close(target[3:], torch.full_like(target[3:], 0.4))
    torch.testing.assert_close(weight[3:], torch.full_like(weight[3:], 0.5 * 0.4))


def test_the_plain_table_says_of_every_label_what_the_loss_reads_without_one():
    batch = batch_of(
        [[BACKGROUND, PARTICLE, IGNORE], [PARTICLE, IGNORE, BACKGROUND]], weight=[1.0, 0.3]
    )
    without = targets_and_weights(batch.labels, batch, device=CPU)
    with_table = targets_and_weights(
        batch.labels, type(batch)(**{**vars(batch), "tables": plain_tables(2)}), device=CPU
    )
    for plain, by_table in zip(without, with_table, strict=True):
        torch.testing.assert_close(plain, by_table)
