"""A call with a time limit: no number and no slowness of a peer becomes a wait without a bound."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

# An interrupted wait still waits so long, so that the call is not made a second time beside itself.
_LAST_SECONDS = 1.0
_left: list[threading.Thread] = []


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """The result of `work`, which is called in a thread that is left behind after so many seconds.

    Limits of an HTTP client hold for each read and each try; a server may send a byte at a time, or
    name a time to wait.

    Raises:
        TimeoutError: no result in time.
        Exception: what `work` raises.
    """
    results: queue.SimpleQueue[tuple[Result | None, Exception | None]] = queue.SimpleQueue()

    def call() -> None:
        try:
            results.put((work(), None))
        except Exception as error:  # raised again by the thread that waits
            results.put((None, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        _left.append(thread)
        raise TimeoutError(f"no whole answer within {seconds:.0f} s") from None
    except BaseException:
        thread.join(_LAST_SECONDS)
        _left.append(thread)
        raise
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def calls_are_left_behind() -> bool:
    """Whether a call that was given up still goes on.

    Libraries start threads of their own for it, for which Python waits at its end.
    """
    return any(thread.is_alive() for thread in _left)
