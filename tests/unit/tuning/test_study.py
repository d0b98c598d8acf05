"""The studies of a tuning: a trial is written whole and told once, and the draws can be repeated."""

from __future__ import annotations

import sqlite3

import pytest
import yaml

from cryossl.config_file import build
from cryossl.errors import StorageError
from cryossl.tuning.space import space_of
from cryossl.tuning.study import Studies, Trial, proposed
from cryossl.tuning.trial import Result

SPACE = space_of(
    yaml.safe_load(
        """
        learning_rate: {low: 0.001, high: 0.01, log: true}
        batch_size: {low: 2, high: 16, step: 2}
        loss: [weighted, focal]
        """
    ),
    build({"strategies": "naive,soft"}),
    name="space",
)
NAIVE = SPACE["naive"]
VALUES = {"batch_size": "4", "learning_rate": "0.00312345678", "loss": "focal"}


def ended(number: int, f1: float, state: str = "complete", **values: str) -> Trial:
    value = f1 if state == "complete" else None
    return Trial(number, {**VALUES, **values}, state, value, points={0: f1})


def draw(known, *, pending=(), number=3, seed=1000, strategy="naive"):
    return proposed(NAIVE, known, pending=pending, seed=seed, strategy=strategy, number=number)


def test_a_trial_is_there_with_all_its_values_before_it_runs(tmp_path):
    studies = Studies(tmp_path / "tuning.db", SPACE)
    studies.begin("naive", VALUES)
    again = Studies(tmp_path / "tuning.db", SPACE)
    assert again.trials("naive") == [Trial(0, VALUES, "running")]
    assert again.trials("soft") == []


@pytest.mark.parametrize("state", ["complete", "pruned", "failed"])
def test_what_came_of_a_trial_is_read_back(tmp_path, state):
    studies = Studies(tmp_path / "tuning.db", SPACE)
    studies.begin("soft", VALUES)
    values = {1000: 0.25, 1001: 0.75} if state == "complete" else {1000: 0.25}
    studies.tell("soft", 0, Result("k", state, "why", values, {0: 0.2, 2: 0.25}))
    (found,) = Studies(tmp_path / "tuning.db", SPACE).trials("soft")
    assert found == Trial(
        0,
        VALUES,
        state,
        0.5 if state == "complete" else None,
        "why",
        {str(seed): f1 for seed, f1 in values.items()},
        {0: 0.2, 2: 0.25},
    )


def test_a_trial_that_was_half_told_can_be_told(tmp_path):
    """The points and the reason are written before the state."""
    studies = Studies(tmp_path / "tuning.db", SPACE)
    studies.begin("naive", VALUES)
    result = Result("k", "complete", "", {1000: 0.5}, {0: 0.4})
    studies.tell("naive", 0, result)
    with sqlite3.connect(tmp_path / "tuning.db") as database:
        database.execute("UPDATE trials SET state = 'RUNNING'")
        database.execute("DELETE FROM trial_values")
    database.close()
    again = Studies(tmp_path / "tuning.db", SPACE)
    again.tell("naive", 0, result)
    (found,) = again.trials("naive")
    assert (found.state, found.value, found.points) == ("complete", 0.5, {0: 0.4})


def test_a_half_made_database_is_made_anew(tmp_path):
    (tmp_path / ".tuning.db.half").write_bytes(b"SQLite format 3\0 half")
    assert Studies(tmp_path / "tuning.db", SPACE).trials("naive") == []
    assert [path.name for path in tmp_path.iterdir()] == ["tuning.db"]


def test_a_damaged_database_is_refused_in_one_line(tmp_path):
    (tmp_path / "tuning.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match=r"tuning\.db cannot be used") as refused:
        Studies(tmp_path / "tuning.db", SPACE)
    assert "\n" not in str(refused.value)


def test_a_folder_may_have_any_name(tmp_path):
    folder = tmp_path / "a b%20c?d#e"
    folder.mkdir()
    Studies(folder / "tuning.db", SPACE).begin("naive", VALUES)
    assert len(Studies(folder / "tuning.db", SPACE).trials("naive")) == 1


def test_a_draw_depends_on_the_trials_the_seed_the_strategy_and_the_number_alone():
    known = [ended(number, number / 10) for number in range(3)]
    first = draw(known)
    assert draw(known) == first
    assert draw(known, seed=1001) != first
    assert draw(known, strategy="soft") != first
    assert draw(known, number=4) != first
    assert all(one.holds(first[one.name]) for one in NAIVE)


def test_draws_come_to_where_scores_are_high():
    """After the random ones, most have the loss that did better."""
    known = [
        ended(number, 0.9 if number % 2 else 0.1, loss="focal" if number % 2 else "weighted")
        for number in range(20)
    ]
    drawn = [draw(known, number=number)["loss"] for number in range(20, 40)]
    assert drawn.count("focal") > 15


@pytest.mark.parametrize("state", ["failed", "pruned"])
def test_draws_keep_away_from_where_trials_failed(state):
    known = [
        ended(
            number,
            0.5,
            "complete" if number % 2 else state,
            loss="focal" if number % 2 else "weighted",
        )
        for number in range(20)
    ]
    drawn = [draw(known, number=number)["loss"] for number in range(20, 40)]
    assert drawn.count("focal") > 15


def test_a_trial_whose_end_is_not_known_sends_the_next_one_elsewhere():
    known = [ended(number, 0.5, loss="focal" if number % 2 else "weighted") for number in range(14)]
    pending = [{**VALUES, "loss": "focal"}] * 14
    drawn = [draw(known, pending=pending, number=number)["loss"] for number in range(14, 34)]
    assert drawn.count("weighted") > 12
