from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from cryossl.data.labels import IGNORE
from cryossl.data.levels import NEUTRAL
from cryossl.data.tiling import Tile
from cryossl.network.batches import Example, Sampling, TileBatches, cut_into

TILE_PX = 8


def examples(count: int) -> list[Example]:
    """One tile a micrograph; the picture's value is the example's number."""
    shape = (TILE_PX, TILE_PX)
    return [
        Example(
            Tile(f"m{index}", 0, 0, (0, TILE_PX, 0, TILE_PX)),
            np.full(shape, index, np.uint8),
            np.full(shape, index % 2, np.uint8),
            weight=1 / (1 + index),
        )
        for index in range(count)
    ]


def batches(
    count: int, *, batch_size: int = 4, seed: int = 0, purpose: str = "train", iteration: int = 0
) -> TileBatches:
    return TileBatches(
        examples(count),
        Sampling(
            batch_size=batch_size, tile_px=TILE_PX, seed=seed, purpose=purpose, iteration=iteration
        ),
    )


def test_a_batch_is_a_function_of_its_step_alone():
    forwards = {step: batches(11).batch(step).items for step in range(12)}
    used = batches(11)
    assert {step: used.batch(step).items for step in reversed(range(12))} == forwards


def test_every_epoch_shows_every_tile_and_fills_its_last_batch_from_its_own_beginning():
    drawn = batches(10)
    assert drawn.steps_per_epoch == 3
    for epoch in range(3):
        shown = [item for step in range(3) for item in drawn.batch(3 * epoch + step).items]
        assert set(shown[:10]) == {f"m{index}@0,0" for index in range(10)}
        assert shown[10:] == shown[:2]


def test_fewer_examples_than_a_batch_are_repeated_evenly():
    drawn = batches(3, batch_size=8)
    assert drawn.steps_per_epoch == 1
    assert sorted(Counter(drawn.batch(5).items).values()) == [2, 3, 3]


def test_epochs_differ_in_order():
    drawn = batches(32, batch_size=32)
    assert drawn.batch(0).items != drawn.batch(1).items


@pytest.mark.parametrize("other", [{"seed": 1}, {"purpose": "student"}, {"iteration": 1}])
def test_seed_purpose_and_iteration_each_change_the_order_and_the_digest(other):
    assert batches(32, **other).batch(0).items != batches(32).batch(0).items
    assert batches(32, **other).digest() != batches(32).digest() == batches(32).digest()


def test_pixels_labels_and_weights_belong_to_the_item():
    batch = batches(9).batch(1)
    for place, item in enumerate(batch.items):
        number = int(item[1:].split("@")[0])
        assert torch.all(batch.pictures[place] == number)
        assert torch.all(batch.labels[place] == number % 2)
        assert batch.weights[place].item() == pytest.approx(1 / (1 + number))


def test_what_lies_beyond_the_edge_is_neutral_and_ignored():
    small = Example(
        Tile("small", 0, 0, (0, 5, 0, 3)), np.full((5, 3), 200, np.uint8), np.ones((5, 3), np.uint8)
    )
    batch = TileBatches(
        [small], Sampling(batch_size=1, tile_px=TILE_PX, seed=0, purpose="train", iteration=0)
    ).batch(0)
    inside = torch.zeros(TILE_PX, TILE_PX, dtype=torch.bool)
    inside[:5, :3] = True
    assert torch.equal(batch.pictures[0, 0], torch.where(inside, 200, NEUTRAL).to(torch.uint8))
    assert torch.equal(batch.labels[0, 0], torch.where(inside, 1, IGNORE).to(torch.uint8))


def test_batches_do_not_share_memory():
    drawn = batches(8)
    first = drawn.batch(0)
    kept = first.pictures.clone()
    drawn.batch(1).pictures.fill_(255)
    assert torch.equal(first.pictures, kept)


def window(array: np.ndarray, origin: tuple[int, int], *, side: int, fill: int) -> np.ndarray:
    found = np.full((side, side), 77, np.uint8)
    cut_into(found, array, origin, fill=fill)
    return found


def test_a_window_inside_is_the_picture_there():
    picture = np.arange(48, dtype=np.uint8).reshape(6, 8)
    np.testing.assert_array_equal(window(picture, (1, 3), side=4, fill=128), picture[1:5, 3:7])


def test_beyond_the_edge_a_window_holds_the_fill():
    found = window(np.ones((2, 3), dtype=np.uint8), (0, 0), side=4, fill=255)
    np.testing.assert_array_equal(found, [[1, 1, 1, 255], [1, 1, 1, 255], [255] * 4, [255] * 4])


def test_a_window_is_a_copy():
    picture = np.zeros((4, 4), dtype=np.uint8)
    window(picture, (0, 0), side=4, fill=0)[:] = 9
    assert not picture.any()


def moving(*, shift_px: int, shape: tuple[int, int] = (40, 24)) -> TileBatches:
    """Two tiles of one picture whose pixels all differ, half of it annotated."""
    picture = np.arange(shape[0] * shape[1], dtype=np.uint32).reshape(shape)
    labels = np.where(np.arange(shape[1]) < shape[1] // 2, 1, IGNORE).astype(np.uint8)
    tiles = [Tile("m", y, x, (y, y + TILE_PX, x, x + TILE_PX)) for y, x in ((0, 0), (16, 8))]
    rows = [
        Example(
            tile, (picture // shape[1] * 6 % 256).astype(np.uint8), np.tile(labels, (shape[0], 1))
        )
        for tile in tiles
    ]
    return TileBatches(
        rows,
        Sampling(
            batch_size=2, tile_px=TILE_PX, seed=0, purpose="train", iteration=0, shift_px=shift_px
        ),
    )


def rows_seen(batch) -> list[int]:
    return [int(picture[0, 0, 0]) // 6 for picture in batch.pictures]


def test_a_window_moves_by_at_most_the_shift_stays_inside_and_reaches_both_ends():
    drawn = moving(shift_px=4)
    places = {item: set() for item in ("m@0,0", "m@16,8")}
    for step in range(60):
        batch = drawn.batch(step)
        for item, row in zip(batch.items, rows_seen(batch), strict=True):
            places[item].add(row)
    assert places == {"m@0,0": set(range(5)), "m@16,8": set(range(12, 21))}


def test_the_labels_move_with_the_picture():
    drawn = moving(shift_px=4)
    for step in range(20):
        batch = drawn.batch(step)
        for labels in batch.labels:
            columns = labels[0].numpy() == IGNORE
            assert (columns == columns[0]).all()  # the seam runs down
            assert (np.diff(columns[0].astype(int)) >= 0).all()
    seams = {
        int((batch[0, 0] != IGNORE).sum())
        for step in range(20)
        for batch in drawn.batch(step).labels.unsqueeze(1)
    }
    assert len(seams) > 3


def test_the_shift_of_a_step_is_a_function_of_its_number_and_without_one_the_grid_stays():
    assert rows_seen(moving(shift_px=4).batch(7)) == rows_seen(moving(shift_px=4).batch(7))
    assert {tuple(sorted(rows_seen(moving(shift_px=0).batch(step)))) for step in range(9)} == {
        (0, 16)
    }
    assert moving(shift_px=4).digest() != moving(shift_px=0).digest()


def test_a_tile_that_is_its_whole_picture_does_not_move():
    drawn = moving(shift_px=4, shape=(TILE_PX, TILE_PX))
    assert {tuple(rows_seen(drawn.batch(step))) for step in range(9)} == {(0, 0)}


def test_no_example_is_refused():
    with pytest.raises(ValueError, match="at least one example"):
        batches(0)
