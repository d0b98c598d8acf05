"""What the notes below the table of evidence say of its p-values."""

from __future__ import annotations

import pytest
from counted_frames import counted, grid


def notes(seeds: int, *more: str) -> tuple[str, ...]:
    return counted(*grid(seeds=range(seeds), micrographs=5, more=more)).evidence.notes


@pytest.mark.parametrize(
    ("seeds", "more", "said"),
    [
        (
            6,
            (),
            "at 5% the smallest possible p over 3 rows is 3 x 2/2^6 = 0.094: p < 0.05 needs 7 "
            "seeds",
        ),
        (
            7,
            ("quantile", "soft", "stability", "curriculum"),
            "at 5% the smallest possible p over 7 rows is 7 x 2/2^7 = 0.11: p < 0.05 needs 9 seeds",
        ),
    ],
)
def test_rows_so_many_that_no_difference_could_be_significant_are_told_of(
    seeds: int, more: tuple[str, ...], said: str
) -> None:
    assert [note for note in notes(seeds, *more) if note.startswith(said)] != []


@pytest.mark.parametrize("seeds", [5, 7])
def test_nothing_is_told_where_there_is_no_p_or_room_for_a_small_one(seeds: int) -> None:
    assert [note for note in notes(seeds) if "smallest possible p over" in note] == []


def test_many_rows_of_one_test_are_not_named_one_by_one() -> None:
    assert "all rows: exact, all 64 sign patterns" in notes(6, "quantile", "soft")
    assert [
        note for note in notes(6) if "class_balanced - naive at 5%" in note and "exact" in note
    ] != []
