"""The circuit breaker: after a failure the tracking store is left alone for a while.

After a call that failed, or that took long, the store is left alone for 39 times as long as the
call took; after a failure for five seconds at least. So an outage costs a run of 15 minutes at most
45 seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cryossl.errors import TrackingError
from cryossl.tracking.store.mlflow_errors import RefusedError, StoreAwayError

LEAST_WAIT_SECONDS = 5.0
# A fortieth of the time in the long run; three tries of ten seconds are a thirtieth of 15 minutes.
WAIT_PER_COST = 39.0
SLOW_SECONDS = 5.0
PROBE_SECONDS = 1.0  # for a store that was unreachable a moment ago


class CircuitBreaker:
    """Attempts calls of one store, or leaves the store alone.

    It warns once when the store goes (at the first failure) and once when it comes back (at the
    first success after a failure).
    """

    def __init__(
        self,
        store: str,
        journals: Path,
        *,
        probe: Callable[[float], None],
        warn: Callable[..., None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with a store that is thought to answer.

        Args:
            store: the address that the warnings show; without a password.
            journals: the folder that the warnings show.
            probe: raises StoreAwayError unless the store answers within so many seconds.
            warn: called as `logging.Logger.warning` is.
            clock: seconds from any fixed moment; it never goes back.
        """
        self._store = store
        self._journals = journals
        self._probe = probe
        self._warn = warn
        self._clock = clock
        self.has_failed = False
        self._fault = ""
        self._wait_until = 0.0
        self._was_silent = False

    @property
    def fault(self) -> str:
        """Why the last attempt failed; empty if it succeeded."""
        return self._fault

    def attempt(self, action: Callable[[], None], *, insist: bool = False) -> None:
        """Call `action`, unless the store is left alone now. Its failure is noted and not raised.

        A store that answered, but slowly, is left alone for a while too.

        Args:
            action: may raise StoreAwayError, RefusedError or TrackingError; others are passed on.
            insist: try also during the wait, if the store answers a probe within a second; but not
                if the failure was a silence of more than five seconds.
        """
        begun = self._clock()
        waits = begun < self._wait_until
        if waits and (self._was_silent or not insist):
            return
        try:
            if waits:  # finds out sooner than MLflow's tries that a server is gone
                self._probe(PROBE_SECONDS)
            action()
        except (StoreAwayError, RefusedError, TrackingError) as error:
            self.note_failure(str(error), cost_seconds=self._clock() - begun)
            return
        if self._fault:
            self._warn("tracking store %s is back", self._store)
        now = self._clock()
        cost_seconds = now - begun
        self._fault, self._was_silent = "", False
        self._wait_until = (
            now + WAIT_PER_COST * cost_seconds if cost_seconds > SLOW_SECONDS else 0.0
        )

    def note_failure(self, fault: str, *, cost_seconds: float) -> None:
        """Leave the store alone from now on, because a call failed after so many seconds."""
        if not self._fault:
            self._warn(
                "tracking store %s is away (%s); going on without it, the journals in %s hold "
                "everything",
                self._store,
                fault,
                self._journals,
            )
        self.has_failed = True
        self._fault, self._was_silent = fault, cost_seconds > SLOW_SECONDS
        self._wait_until = self._clock() + max(LEAST_WAIT_SECONDS, WAIT_PER_COST * cost_seconds)

    def end_wait(self) -> bool:
        """End the wait now. A store that failed must answer a probe first.

        Returns:
            False if it did not answer: it is left alone as before.
        """
        if self._fault:
            try:
                self._probe(PROBE_SECONDS)
            except (StoreAwayError, RefusedError):
                return False
        self._wait_until, self._was_silent = 0.0, False
        return True

    def end_wait_for_slowness(self) -> None:
        """End the wait now if the last attempt succeeded, however slowly."""
        if not self._fault:
            self._wait_until = 0.0
