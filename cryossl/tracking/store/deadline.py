"""Bounds for a peer: whatever it answers, and however slowly, it costs limited time and memory."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar

Result = TypeVar("Result")

MAX_ANSWER_BYTES = 64 * 2**20
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


def limit_answers() -> None:
    """From now on an HTTP answer that is longer than 64 MiB, unpacked, is a broken one.

    It holds for every library that uses requests. The HTTP client reads an answer whole before
    anything can look at it.
    """
    import requests

    plain = requests.Session.request
    if hasattr(plain, "__wrapped__"):
        return

    @wraps(plain)
    def limited(self: requests.Session, *words: Any, **options: Any) -> requests.Response:
        hooks = options.get("hooks") or {"response": _limit}
        return plain(self, *words, **{**options, "hooks": hooks})

    requests.Session.request = limited  # type: ignore[method-assign]


def _limit(answer: Any, *_words: object, **_options: object) -> None:
    whole = answer.iter_content

    def counted(*words: Any, **options: Any) -> Iterator[Any]:
        left = MAX_ANSWER_BYTES
        for chunk in whole(*words, **options):
            left -= len(chunk)
            if left < 0:
                answer.close()
                raise OSError(f"an answer of more than {MAX_ANSWER_BYTES // 2**20} MiB")
            yield chunk

    answer.iter_content = counted


def leave(code: int) -> None:
    """End this process, without waiting for calls that were given up.

    Libraries start threads of their own for them, and Python would wait for these at its end.
    """
    if any(thread.is_alive() for thread in _left):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
