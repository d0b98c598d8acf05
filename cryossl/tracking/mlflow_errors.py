"""What can go wrong between a tracking store and us, and the cure of each."""

from __future__ import annotations

from cryossl.tracking.address import LOG_IN


class StoreAwayError(Exception):
    """The store does not answer."""

    cure = "start the server, or check the tracking URI; `cryossl doctor` looks at a file"


class RefusedError(Exception):
    """The store answered no, and will again."""

    cure = "check the tracking URI"


class NotAuthorisedError(RefusedError):
    """The store wants to know who asks."""

    cure = LOG_IN
