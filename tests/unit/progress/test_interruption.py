"""A first signal waits for the end of a step, a second does not, and the grace ends."""

from __future__ import annotations

import signal
import time

import pytest

from cryossl.progress.events import Progress
from cryossl.progress.interruption import interruptible

STEP = Progress("train", 1, 2, "step")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_the_work_behind_its_step(number):
    heard = []

    def work():
        with interruptible() as interruption:
            report = interruption.after(heard.append)
            report(STEP)
            signal.raise_signal(number)
            heard.append("the step went on to its end")
            report(STEP)
            heard.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert heard == [STEP, "the step went on to its end", STEP]


def test_the_second_signal_stops_at_once():
    reached = []

    def work():
        with interruptible():
            signal.raise_signal(signal.SIGTERM)
            reached.append(1)
            signal.raise_signal(signal.SIGINT)
            reached.append(2)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == [1]


def test_work_without_a_step_is_interrupted_when_the_grace_is_over():
    began = time.monotonic()

    def work():
        with interruptible(grace_seconds=0.1):
            signal.raise_signal(signal.SIGTERM)
            time.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert time.monotonic() - began < 10


def test_nothing_comes_after_the_work_has_stopped():
    """The grace must not end while runs are being closed, nor the handlers outlive the block."""
    before = [
        signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    ]
    with interruptible(grace_seconds=0.2) as interruption:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            interruption.after(lambda _: None)(STEP)
        time.sleep(0.4)
    assert [
        signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    ] == before
