"""A first signal waits for the end of a step, a second does not, and the grace ends."""

from __future__ import annotations

import signal
import time

import pytest

from cryossl.progress.events import Progress
from cryossl.progress.interruption import SIGNALS, interrupted_at_once, interruptible

STEP = Progress("train", 1, 2, "step")


@pytest.mark.parametrize("number", SIGNALS)
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
            signal.raise_signal(signal.SIGTERM)
            reached.append(2)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == [1]


def test_what_is_passed_on_of_the_first_signal_is_no_second_one():
    """Ctrl-C reaches all processes of `mlflow run`, which then sends its child SIGTERM too."""
    heard = []

    def work():
        with interruptible() as interruption:
            report = interruption.after(heard.append)
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            heard.append("the step went on to its end")
            report(STEP)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert heard == ["the step went on to its end", STEP]


def test_a_signal_to_a_command_without_steps_interrupts_at_once():
    reached = []

    def work():
        with interrupted_at_once():
            reached.append(1)
            signal.raise_signal(signal.SIGHUP)
            reached.append(2)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == [1]


def test_under_nohup_a_closed_terminal_interrupts_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupted_at_once(), interruptible() as interruption:
            signal.raise_signal(signal.SIGHUP)
            interruption.after(lambda _: None)(STEP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_work_without_a_step_is_interrupted_when_the_grace_is_over():
    began = time.monotonic()

    def work():
        with interruptible(grace_seconds=0.1):
            signal.raise_signal(signal.SIGTERM)
            time.sleep(120)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert time.monotonic() - began < 60


def test_nothing_comes_after_the_work_has_stopped():
    """The grace must not end while runs are being closed, nor the handlers outlive the block."""
    before = [signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)]
    with interruptible(grace_seconds=0.2) as interruption:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            interruption.after(lambda _: None)(STEP)
        time.sleep(0.4)
    assert [signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)] == before
