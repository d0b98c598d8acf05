"""The tracked runs of one experiment: a table for each kind of run, and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from cryossl.redaction import shown
from cryossl.run_settings import RunSettings
from cryossl.tracking.address import store_uri

if TYPE_CHECKING:
    import pandas as pd

    from analysis.runs.counts import Counts
    from cryossl.tracking.reader import Artifacts


class TrackedRuns:
    """The runs of one experiment of one tracking store. Each kind of run is read once."""

    def __init__(
        self,
        tracking_uri: str | None,
        experiment: str | None,
        *,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Keep the address; the store is read by the first call of `frame`.

        Args:
            tracking_uri: of the store; None: the setting's default.
            experiment: its name in the store; None: the setting's default.
            tags: only iteration and arm runs with these tags are read. A store takes longer the
                more runs it returns.
        """
        settings = RunSettings()
        self._tags = dict(tags or {})
        self.uri = tracking_uri or settings.tracking_uri
        self.experiment = experiment or settings.experiment
        self._frames: dict[str, pd.DataFrame] = {}

    @property
    def shown_uri(self) -> str:
        """The address of the store, without a password."""
        return shown(store_uri(self.uri))

    @cached_property
    def artifacts(self) -> Artifacts:
        """The files of the runs."""
        from cryossl.tracking.reader import Artifacts

        return Artifacts(self.uri, self.experiment)

    def frame(self, *kinds: str) -> pd.DataFrame:
        """A row for each run of these kinds."""
        import pandas as pd

        from cryossl.tracking.reader import read_runs

        for kind in kinds:
            if kind not in self._frames:
                tags = {} if kind == "experiment" else self._tags
                self._frames[kind] = read_runs(self.uri, self.experiment, kind=kind, tags=tags)
        return pd.concat([self._frames[kind] for kind in kinds], ignore_index=True)

    def narrow(self, tags: Mapping[str, str]) -> None:
        """Read only the runs with these tags from now on, if at least one of them has finished.

        If none has, all runs stay: the error message then lists what there is instead.
        """
        everything, self._tags, self._frames = self._tags, {**self._tags, **tags}, {}
        if not (self.frame("iteration")["status"] == "FINISHED").any():
            self._tags, self._frames = everything, {}

    def counts(self, run_ids: Sequence[str]) -> Counts:
        """Run id -> the counts that the run recorded; runs without valid counts are left out."""
        from analysis.runs.counts import NAME, Counts, parse_counts

        documents = self.artifacts.json(run_ids, NAME) if run_ids else {}
        known = {
            run: counts
            for run, document in documents.items()
            if (counts := parse_counts(document)) is not None
        }
        lost = self.artifacts.unreachable if run_ids else {}
        return Counts(known, unreachable={run: lost[run] for run in run_ids if run in lost})
