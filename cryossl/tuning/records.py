"""The tracked runs of a tuning: one for the whole, and one below it for each trial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cryossl.config import Config, deciding, fields
from cryossl.tracking.run import TrackedRun
from cryossl.tracking.tracker import Tracker
from cryossl.tuning.outcome import TUNED, Found, Provenance
from cryossl.tuning.space import as_json
from cryossl.tuning.study import Trial

TUNING, TRIAL = "tuning", "trial"
"""Kinds of runs; tables of arms do not read them."""


class Records:
    """Writes the runs of one tuning. Each start writes the same ones: none is there twice."""

    def __init__(self, tracker: Tracker, parent: TrackedRun, provenance: Provenance) -> None:
        self._tracker, self._parent, self._provenance = tracker, parent, provenance

    def trial(self, strategy: str, trial: Trial) -> None:
        """Record a trial that has ended."""
        tags = {
            "cryossl.kind": TRIAL,
            "cryossl.strategy": strategy,
            "cryossl.trial": str(trial.number),
            "cryossl.trial_state": trial.state,
            "cryossl.tuning": self._provenance.digest,
        }
        key = f"{_key(self._provenance)}-{strategy}-{trial.number}"
        name = f"{strategy} trial {trial.number}"
        with self._tracker.run(key, name=name, parent=self._parent, tags=tags) as run:
            if run.finished:
                return
            run.params(
                {
                    "strategy": strategy,
                    "trial": trial.number,
                    **{f"{fields()[one][0]}.{one}": text for one, text in trial.values.items()},
                }
            )
            for point, value in sorted(trial.points.items()):
                run.metrics({"tuning/point_f1": value}, step=point + 1)
            run.results(
                {
                    "validation/f1": trial.value,
                    **{f"validation/f1_seed_{one}": f1 for one, f1 in trial.by_seed.items()},
                }
            )
            if trial.reason:
                run.describe(f"**{trial.state}**: {trial.reason}")

    def outcome(self, found: Sequence[Found], tuned: str) -> None:
        """Record what the tuning found: the table of all trials, and the tuned config."""
        self._parent.metrics(
            {f"best/{one.strategy}": one.best.value for one in found if one.best}
            | {f"untuned/{one.strategy}": one.before for one in found},
            step=max(len(one.trials) for one in found),
        )
        rows = [
            {
                "strategy": one.strategy,
                "trial": trial.number,
                "state": trial.state,
                "validation_f1": trial.value,
                "reason": trial.reason,
                **trial.values,
            }
            for one in found
            for trial in one.trials
        ]
        self._parent.table(rows, "trials.json")
        self._parent.text(tuned, TUNED)


@contextmanager
def recorded(
    config: Config, tracker: Tracker, provenance: Provenance, *, trials: int
) -> Iterator[Records]:
    """The records of a tuning; its run ends with the block. A later start goes on in that run."""
    tags = {
        "cryossl.kind": TUNING,
        "cryossl.dataset": config.input.data,
        "cryossl.ratio_percent": f"{config.split.ratio:g}",
        "cryossl.tuning": provenance.digest,
        "cryossl.tuning_trials": str(trials),
    }
    nothing = deciding("nothing")
    params = {name: value for name, value in config.flat().items() if name not in nothing}
    name = f"tune {provenance.name}"
    with tracker.invocation(name=name, tags=tags, key=_key(provenance)) as parent:
        parent.params(
            {
                **params,
                "tuning.seeds": f"{provenance.seeds[0]}-{provenance.seeds[-1]}",
                **{f"tuning.{one}": text for one, text in provenance.facts.items()},
            }
        )
        parent.json(as_json(provenance.space), "space.json")
        yield Records(tracker, parent, provenance)


def _key(provenance: Provenance) -> str:
    return f"tuning-{provenance.name}-{provenance.digest}"
