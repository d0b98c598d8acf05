"""cryossl.tracking.circuit_breaker, with a clock that the tests move."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryossl.errors import StorageError, TrackingError
from cryossl.tracking.circuit_breaker import CircuitBreaker
from cryossl.tracking.store.mlflow_errors import RefusedError, StoreAwayError


class Store:
    """A store with a clock: what a call costs and whether it fails is set by the test."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.cost_seconds = 0.0
        self.fault: Exception | None = None
        self.probe_fault: Exception | None = None
        self.calls = 0
        self.probes: list[float] = []
        self.warnings: list[str] = []
        self.breaker = CircuitBreaker(
            "http://store",
            Path("journals"),
            probe=self.probe,
            warn=lambda text, *values: self.warnings.append(text % values),
            clock=lambda: self.now,
        )

    def probe(self, seconds: float) -> None:
        self.probes.append(seconds)
        if self.probe_fault is not None:
            self.now += seconds
            raise self.probe_fault

    def call(self) -> None:
        self.calls += 1
        self.now += self.cost_seconds
        if self.fault is not None:
            raise self.fault

    def is_called(self, *, insist: bool = False) -> bool:
        """Whether an attempt reaches the store."""
        before = self.calls
        self.breaker.attempt(self.call, insist=insist)
        return self.calls > before

    def fail(self, *, cost_seconds: float = 0.0, fault: Exception | None = None) -> None:
        """One attempt that fails."""
        self.cost_seconds, self.fault = cost_seconds, fault or StoreAwayError("gone")
        assert self.is_called()
        self.cost_seconds, self.fault = 0.0, None


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_store_that_answers_is_called_each_time_without_a_probe_or_a_warning(store: Store):
    assert [store.is_called(), store.is_called(insist=True), store.is_called()] == [True] * 3
    assert (store.breaker.fault, store.probes, store.warnings) == ("", [], [])


@pytest.mark.parametrize(
    ("cost_seconds", "wait_seconds"), [(0.0, 5.0), (0.1, 5.0), (1.0, 39.0), (30.0, 1170.0)]
)
def test_after_a_failure_the_store_is_left_alone_for_39_times_the_cost_and_five_seconds_at_least(
    store: Store, cost_seconds: float, wait_seconds: float
):
    store.fail(cost_seconds=cost_seconds)
    store.now += wait_seconds - 0.01
    assert not store.is_called()
    store.now += 0.02
    assert store.is_called()


@pytest.mark.parametrize("fault", [StoreAwayError("x"), RefusedError("x"), TrackingError("x")])
def test_every_fault_of_a_store_is_noted_and_not_raised(store: Store, fault: Exception):
    store.fail(fault=fault)
    assert store.breaker.fault == "x"


def test_a_fault_of_the_journal_is_raised_and_says_nothing_of_the_store(store: Store):
    store.fault = StorageError("disk is full")
    with pytest.raises(StorageError):
        store.breaker.attempt(store.call)
    assert (store.breaker.fault, store.warnings) == ("", [])


def test_the_going_and_the_return_of_a_store_are_each_reported_once(store: Store):
    for _ in range(3):
        store.fail()
        store.now += 6.0
    assert store.warnings == [
        "tracking store http://store is away (gone); going on without it, the journals in "
        "journals hold everything"
    ]
    assert [store.is_called(), store.is_called()] == [True, True]
    assert store.warnings[1:] == ["tracking store http://store is back"]
    store.fail()
    assert len(store.warnings) == 3


def test_the_newest_fault_is_the_one_that_is_shown_until_a_success(store: Store):
    store.fail(fault=StoreAwayError("first"))
    store.now += 6.0
    store.fail(fault=StoreAwayError("second"))
    assert store.breaker.fault == "second"
    store.now += 6.0
    assert store.is_called()
    assert store.breaker.fault == ""


def test_insisting_tries_during_the_wait_after_a_probe_of_a_second(store: Store):
    store.fail(cost_seconds=5.0)
    assert not store.is_called()
    assert store.is_called(insist=True)
    assert (store.probes, store.breaker.fault) == ([1.0], "")


def test_insisting_ends_at_a_probe_that_fails_and_the_wait_begins_anew(store: Store):
    store.fail(cost_seconds=0.5)
    store.probe_fault = StoreAwayError("no answer to a probe")
    assert not store.is_called(insist=True)
    assert store.breaker.fault == "no answer to a probe"
    store.now += 38.0  # the probe took a second
    assert not store.is_called()
    store.now += 2.0
    assert store.is_called()


def test_insisting_does_not_help_after_a_silence_of_more_than_five_seconds(store: Store):
    store.fail(cost_seconds=5.1)
    assert not store.is_called(insist=True)
    assert store.probes == []


def test_insisting_after_the_wait_needs_no_probe(store: Store):
    store.fail()
    store.now += 6.0
    assert store.is_called(insist=True)
    assert store.probes == []


def test_a_store_that_answers_in_more_than_five_seconds_is_left_alone_without_a_warning(
    store: Store,
):
    store.cost_seconds = 5.0
    assert [store.is_called(), store.is_called()] == [True, True]
    store.cost_seconds = 6.0
    assert store.is_called()
    assert (store.breaker.fault, store.warnings) == ("", [])
    store.now += 39 * 6.0 - 0.01
    assert not store.is_called()
    assert store.is_called(insist=True)
    assert store.probes == [1.0]


def test_the_wait_for_slowness_can_be_ended_and_that_of_a_failure_not(store: Store):
    store.cost_seconds = 6.0
    assert store.is_called()
    store.breaker.end_wait_for_slowness()
    assert store.is_called()
    store.breaker.end_wait_for_slowness()
    store.fail()
    store.breaker.end_wait_for_slowness()
    assert not store.is_called()


@pytest.mark.parametrize("fault", [StoreAwayError("x"), RefusedError("no driver")])
def test_the_wait_of_a_failure_ends_early_only_if_a_probe_is_answered(
    store: Store, fault: Exception
):
    store.fail(cost_seconds=30.0)
    store.probe_fault = fault
    assert not store.breaker.end_wait()
    assert not store.is_called()
    store.probe_fault = None
    assert store.breaker.end_wait()
    assert store.breaker.fault == "gone"  # until an attempt succeeds
    assert store.is_called(insist=True)
    assert store.probes == [1.0, 1.0]


def test_the_wait_of_a_store_that_answered_ends_without_a_probe(store: Store):
    store.cost_seconds = 60.0
    assert store.is_called()
    assert store.breaker.end_wait()
    assert store.is_called()
    assert store.probes == []


def test_a_failure_that_was_met_elsewhere_counts_like_one_of_an_attempt(store: Store):
    store.breaker.note_failure("gone at the start", cost_seconds=1.0)
    assert (store.breaker.fault, len(store.warnings)) == ("gone at the start", 1)
    store.now += 38.0
    assert not store.is_called()
    store.now += 2.0
    assert store.is_called()


def test_a_training_waits_a_fortieth_of_its_time_at_most_for_a_store_that_always_times_out(
    store: Store,
):
    store.cost_seconds, store.fault = 30.0, StoreAwayError("timed out")
    begun = store.now
    while store.now < begun + 100_000:
        store.now += 0.2
        store.is_called()
    assert store.calls * 30.0 / (store.now - begun) == pytest.approx(1 / 40, rel=0.02)
