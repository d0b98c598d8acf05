"""Seconds inside chosen calls of a real run, timed from outside."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class Stopwatch:
    """Seconds inside the watched calls; a call inside another counts once. For one thread."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def watch(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, timed."""

        @functools.wraps(call)
        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            self._depth += 1
            try:
                return call(*arguments, **options)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += time.perf_counter() - began

        return timed


@contextmanager
def watched(calls: Iterable[tuple[Any, str, Stopwatch]]) -> Iterator[None]:
    """Time the named attribute of each owner (a class or a module) while the context is open."""
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in calls]
    try:
        for owner, name, stopwatch in calls:
            setattr(owner, name, stopwatch.watch(getattr(owner, name)))
        yield
    finally:
        for owner, name, call in originals:
            setattr(owner, name, call)
