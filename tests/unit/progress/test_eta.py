"""cryossl.progress.eta."""

from __future__ import annotations

import pytest

from cryossl.progress.eta import Pace, PlannedPhase, clock_text, duration_text

PLAN = (PlannedPhase("decode", 1.0), PlannedPhase("baseline", 4.0), PlannedPhase("student", 2.0))


def test_nothing_is_promised_before_anything_was_measured() -> None:
    pace = Pace(PLAN)
    pace.begin("decode")
    pace.progress(fraction=0.0, seconds=5.0)
    assert pace.phase_seconds_left() is None
    assert pace.whole_seconds_left() is None


def test_a_phase_goes_on_at_its_own_pace_and_the_others_cost_their_shares() -> None:
    pace = Pace(PLAN)
    pace.begin("decode")
    pace.progress(fraction=0.0, seconds=100.0)
    pace.progress(fraction=0.25, seconds=110.0)
    assert pace.phase_seconds_left() == pytest.approx(30.0)
    # 10 s for a quarter of a share is 40 s for a share; six shares are to come.
    assert pace.whole_seconds_left() == pytest.approx(30.0 + 6 * 40.0)


def test_a_phase_that_has_just_begun_is_expected_to_cost_its_share() -> None:
    pace = Pace(PLAN)
    pace.begin("decode")
    pace.progress(fraction=0.0, seconds=0.0)
    pace.progress(fraction=1.0, seconds=40.0)
    pace.begin("baseline")
    assert pace.phase_seconds_left() is None
    assert pace.whole_seconds_left() == pytest.approx((4 + 2) * 40.0)
    assert pace.upcoming() == ("student",)


def test_work_that_an_earlier_start_had_done_does_not_make_the_rest_look_fast() -> None:
    pace = Pace(PLAN)
    pace.begin("decode")
    pace.progress(fraction=1.0, seconds=0.1)
    pace.begin("baseline")
    pace.progress(fraction=0.9, seconds=1.0)
    pace.progress(fraction=0.95, seconds=11.0)
    assert pace.phase_seconds_left() == pytest.approx(10.0)
    assert pace.whole_seconds_left() == pytest.approx(10.0 + 2 * 10.0 / (0.05 * 4))


def test_a_count_that_starts_anew_within_a_phase_has_its_own_pace() -> None:
    pace = Pace(PLAN)
    pace.begin("decode")
    pace.progress(fraction=0.0, seconds=0.0)
    pace.progress(fraction=0.9, seconds=1.0)
    pace.progress(fraction=0.1, seconds=1.0)
    assert pace.phase_seconds_left() is None
    pace.progress(fraction=0.2, seconds=11.0)
    assert pace.phase_seconds_left() == pytest.approx(80.0)


def test_phases_of_one_title_follow_each_other_and_an_unplanned_one_moves_nothing() -> None:
    pace = Pace(
        (
            PlannedPhase("student"),
            PlannedPhase("select"),
            PlannedPhase("student"),
            PlannedPhase("test"),
        )
    )
    pace.begin("student")
    assert pace.upcoming() == ("select", "student", "test")
    pace.begin("something else")
    assert pace.upcoming() == ("select", "student", "test")
    pace.begin("student")
    assert pace.upcoming() == ("test",)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (54_000, "15 h 00 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_an_expectation_stands_until_work_is_measured_and_then_gives_way() -> None:
    pace = Pace(PLAN)
    pace.expect({"decode": 0.0, "baseline": 40.0, "student": 60.0})
    assert pace.whole_seconds_left() == pytest.approx(100.0)
    pace.begin("baseline")
    assert pace.whole_fraction() == 0.0
    pace.progress(fraction=0.0, seconds=0.0)
    pace.progress(fraction=0.5, seconds=40.0)  # twice as slow as expected
    left = pace.whole_seconds_left()
    assert left is not None
    assert 40.0 + 1.8 * 60.0 < left < 40.0 + 2.0 * 60.0
    assert pace.whole_fraction() == pytest.approx(0.2)
    pace.begin("student")
    assert pace.whole_fraction() == pytest.approx(0.4)


def test_phases_that_were_left_out_count_as_done() -> None:
    pace = Pace(PLAN)
    pace.begin("student")
    pace.progress(fraction=0.5, seconds=1.0)
    assert pace.whole_fraction() == pytest.approx(6.0 / 7.0)


def test_time_of_a_phase_without_a_share_slows_no_other() -> None:
    pace = Pace((PlannedPhase("load", 0.0), PlannedPhase("a", 1.0), PlannedPhase("b", 1.0)))
    pace.begin("load")
    pace.progress(fraction=0.0, seconds=0.0)
    pace.progress(fraction=1.0, seconds=1000.0)
    pace.begin("a")
    pace.progress(fraction=0.0, seconds=1000.0)
    pace.progress(fraction=0.5, seconds=1010.0)
    assert pace.whole_seconds_left() == pytest.approx(10.0 + 20.0)


def test_without_a_plan_there_is_no_whole() -> None:
    assert Pace(()).whole_fraction() is None


def test_a_time_as_on_a_clock() -> None:
    assert [clock_text(seconds) for seconds in (0.2, 7, 200, 7500)] == [
        "0:00",
        "0:07",
        "3:20",
        "2:05:00",
    ]
