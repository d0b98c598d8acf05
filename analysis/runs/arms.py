"""Arms: one strategy at one ratio and seed, built from the tidy table. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from analysis.runs.tidy import is_absent, metric_names, number_in, setting_names
from cryossl.data.splits import chosen_on, share_text
from cryossl.evaluation.scorings import Views, of_scoring, scored_by
from cryossl.evaluation.verdict import Measures, mean_of, measures_of, reference_of
from cryossl.strategy_names import BASELINE, BASELINES, ENSEMBLE, FULL, without_pseudo_labels
from cryossl.strategy_settings import logged_tries

PARTICLE_F1 = "test/particle_f1"
"""Shown beside the score in the tables, where runs have it."""

State = Literal["finished", "unfinished", "failed", "missing"]


@dataclass(frozen=True)
class TrackedModel:
    """One trained model as it was tracked.

    `metrics` hold finite numbers only. `kept`: other code had computed its training, and it was
    reused (keep_stages).
    """

    run_id: str
    iteration: int
    state: str
    note: str
    accepted: bool | None
    labelled_count: float | None
    metrics: Mapping[str, float]
    settings: Mapping[str, str]
    kept: bool = False
    pool_count: float | None = None


@dataclass(frozen=True)
class Arm:
    """One strategy at one ratio and seed.

    `final` is the model that stays: the last accepted student, or the baseline where none was; None
    unless the arm is finished. Gains are counted from `reference`, the best baseline by the scoring
    `views`; `baseline` is the supervised model that labelled for the first student. `empty` is set
    if the first selection kept nothing: there is no model then, but the metrics of the selection
    are known.
    """

    ratio_percent: float
    strategy: str
    seed: int
    state: State
    note: str
    iterations: tuple[TrackedModel, ...]
    final: TrackedModel | None
    reference: TrackedModel | None
    stop_reason: str
    empty: TrackedModel | None
    baseline: TrackedModel | None
    views: Views = 1
    tries: int | None = None

    def value(self, metric: str) -> float | None:
        """A metric of the final model."""
        return self.final.metrics.get(metric) if self.final else None

    def gain(self, metric: str) -> float | None:
        """The metric of the final model minus that of the reference, or None."""
        return difference(self.value(metric), self.reference_value(metric))

    @property
    def pseudo_labelled(self) -> TrackedModel | None:
        """The model whose pseudo-labels are shown for the arm.

        The accepted student, else the last student, else the empty selection.
        """
        students = [model for model in self.iterations if model.iteration > 0]
        if self.final is not None and self.final in students:
            return self.final
        return students[-1] if students else self.empty

    @property
    def collapsed(self) -> bool:
        """Whether the collapse alarm ended the arm's last training.

        The last accepted model stays then and is the arm's result.
        """
        return self.stop_reason == "collapsed"

    def pseudo(self, metric: str) -> float | None:
        """A metric of the pseudo-labels that are shown for the arm."""
        return self.pseudo_labelled.metrics.get(metric) if self.pseudo_labelled else None

    def measures(self) -> Measures:
        """The input of the verdict; always by test F1 and recall, of the scoring `views`."""
        tried = self.pseudo_labelled.metrics if self.pseudo_labelled else {}
        final, reference, last = (
            of_scoring(model.metrics if model else {}, self.views)
            for model in (self.final, self.reference, self.pseudo_labelled)
        )
        return measures_of(
            final,
            reference,
            supervised=of_scoring(self.baseline.metrics if self.baseline else {}, self.views),
            pseudo=tried,
            accepted_iteration=self.final.iteration if self.final else 0,
            last_student=None if self.pseudo_labelled is self.final else last,
        )

    def gap(self, ceiling: Arm, metric: str) -> float | None:
        """The metric of `ceiling` (all labels) minus that of the reference, or None."""
        return difference(ceiling.value(metric), self.reference_value(metric))

    def reference_value(self, metric: str) -> float | None:
        """A metric of the reference."""
        return self.reference.metrics.get(metric) if self.reference else None

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs behind the final model's gain."""
        return tuple(model.run_id for model in (self.final, self.reference) if model is not None)


def build_arms(tidy: pd.DataFrame, *, views: Views = 1) -> tuple[Arm, ...]:
    """Every arm of a tidy table of one data set and setting, in the order ratio, strategy, seed.

    The baseline is an arm too, `supervised`. An arm is finished if none of its runs failed or is
    still to come. The reference of gains is the best baseline, chosen without the test part: of
    `supervised`, `supervised_long` and `supervised_noise`, those that all seeds of the ratio have,
    the one with the highest mean validation F1 by the scoring `views`.
    """
    cells: defaultdict[tuple[float, str, int], list[dict[Any, Any]]] = defaultdict(list)
    names = metric_names(tidy.columns), setting_names(tidy.columns)
    for row in tidy.to_dict("records"):
        if row["state"] not in ("foreign", "duplicate", "superseded"):
            cells[row["ratio_percent"], row["strategy"], int(row["seed"])].append(row)
    baselines = {
        (ratio, seed): _trained(rows[0], *names)
        for (ratio, strategy, seed), rows in cells.items()
        if strategy == "supervised" and rows[0]["state"] == "finished"
    }
    arms = [_arm(key, rows, baselines.get((key[0], key[2])), names) for key, rows in cells.items()]
    arms.sort(key=lambda arm: (arm.ratio_percent, strategy_order(arm.strategy), arm.seed))
    return tuple(_with_reference([replace(arm, views=views) for arm in arms], views))


def strategy_order(strategy: str) -> tuple[int, str]:
    """A sort key: controls, naive, `naive+...`, `class_balanced-...`, class_balanced, others."""
    bases = (*BASELINES, ENSEMBLE, FULL, "naive", "naive+", "class_balanced-", "class_balanced")
    if strategy in bases:
        return bases.index(strategy), strategy
    stems = [base for base in bases if base[-1] in "+-" and strategy.startswith(base)]
    return (bases.index(stems[0]) if stems else len(bases)), strategy


def _trained(
    row: Mapping[Any, Any], metrics: Sequence[str], settings: Sequence[str]
) -> TrackedModel:
    return TrackedModel(
        run_id=str(row["run_id"]),
        iteration=int(row["iteration"]),
        state=str(row["state"]),
        note=str(row["note"]),
        accepted=row["accepted"] if isinstance(row["accepted"], bool) else None,
        labelled_count=_finite(row["labelled_count"]),
        kept=row["kept_stages"] is True,
        pool_count=_finite(row.get("pool_count")),
        metrics={name: number for name in metrics if (number := _finite(row[name])) is not None},
        settings={name: str(row[name]) for name in settings if not is_absent(row[name])},
    )


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _arm(
    key: tuple[float, str, int],
    rows: Sequence[Mapping[Any, Any]],
    baseline: TrackedModel | None,
    names: tuple[Sequence[str], Sequence[str]],
) -> Arm:
    ratio, strategy, seed = key
    ordered = sorted(rows, key=lambda row: row["iteration"])
    models = tuple(
        _trained(row, *names) for row in ordered if row["state"] not in ("missing", "empty")
    )
    reasons = [row["stop_reason"] for row in ordered if not is_absent(row["stop_reason"])]
    reason = next((str(text) for text in reversed(reasons) if text), "")
    state, note = _state(strategy, ordered, baseline)
    final = None
    if state == "finished":
        final = _final(strategy, models, baseline)
        if not without_pseudo_labels(strategy):
            reason = reason or _why_stopped(models, ordered)
    empty = next((_trained(row, *names) for row in ordered if row["state"] == "empty"), None)
    return Arm(
        ratio,
        strategy,
        seed,
        state,
        note,
        models,
        final,
        baseline,
        reason,
        empty,
        baseline,
        tries=_tries(strategy, ordered),
    )


def _tries(strategy: str, rows: Sequence[Mapping[Any, Any]]) -> int | None:
    """Trials behind the settings of an arm of a tuned run; None of a run that was not tuned."""
    logged = [row.get("tries") for row in rows]
    texts = [str(text) for text in logged if not is_absent(text) and str(text)]
    return logged_tries(texts[-1], strategy) if texts else None


def _state(
    strategy: str, rows: Sequence[Mapping[Any, Any]], baseline: TrackedModel | None
) -> tuple[State, str]:
    """Whether an arm may enter a mean, and if not, why."""
    for row in rows:
        if row["state"] not in ("finished", "empty"):
            state: State = row["state"] if row["state"] in ("unfinished", "missing") else "failed"
            where = "" if state == "missing" else f"iteration {int(row['iteration'])}: "
            return state, f"{where}{row['note']}"
    status = rows[0]["arm_status"]
    if isinstance(status, str) and status != "FINISHED":
        running = status in ("RUNNING", "SCHEDULED")
        return "unfinished" if running else "failed", f"arm run is {status}"
    if baseline is None:
        return "failed", "its supervised baseline is missing or failed"
    if not isinstance(status, str) and _more_to_come(strategy, rows):
        return "unfinished", "the loop ended before its last iteration"
    return "finished", ""


def _more_to_come(strategy: str, rows: Sequence[Mapping[Any, Any]]) -> bool:
    """Whether the last student was accepted and the settings allow another iteration."""
    most = number_in(rows[-1].get("loop.max_iterations"))
    return (
        not without_pseudo_labels(strategy)
        and rows[-1]["accepted"] is True
        and not rows[-1]["stop_reason"]
        and most is not None
        and rows[-1]["iteration"] < most
    )


def _final(
    strategy: str, models: Sequence[TrackedModel], baseline: TrackedModel | None
) -> TrackedModel | None:
    if without_pseudo_labels(strategy):
        return models[-1] if models else None
    accepted = [model for model in models if model.accepted]
    return accepted[-1] if accepted else baseline


def _why_stopped(models: Sequence[TrackedModel], rows: Sequence[Mapping[Any, Any]]) -> str:
    if rows[-1]["state"] == "empty":
        return str(rows[-1]["note"])
    return (
        "last iteration reached"
        if models[-1].accepted
        else f"student not better on {chosen_on(models[-1].settings)}"
    )


def _with_reference(arms: Sequence[Arm], views: Views) -> list[Arm]:
    """The arms with the best baseline of their ratio as reference.

    The best on validation by a scoring, among those of the BASELINES that all seeds of the ratio
    have.
    """
    found, validation = [], scored_by("validation/f1", views)
    for arm in arms:
        finals = {
            name: {
                seed: other.final
                for seed, other in finished(
                    arms, ratio_percent=arm.ratio_percent, strategy=name
                ).items()
                if other.final
            }
            for name in BASELINES
        }
        base = finals[BASELINE]
        means = {
            name: mean_of(models[seed].metrics.get(validation) for seed in base)
            for name, models in finals.items()
            if base.keys() <= models.keys()
        }
        best = reference_of(arm.strategy, means)
        swap = best != BASELINE and arm.seed in base
        found.append(replace(arm, reference=finals[best][arm.seed]) if swap else arm)
    return found


def reference_name(arm: Arm, arms: Sequence[Arm]) -> str:
    """Which of the BASELINES is the arm's reference; `arms` are all arms of the comparison."""
    known = {
        other.final.run_id: other.strategy
        for other in reversed(arms)
        if other.strategy in BASELINES[1:] and other.final
    }
    return known.get(arm.reference.run_id, BASELINE) if arm.reference else BASELINE


def reference_text(arm: Arm, arms: Sequence[Arm]) -> str:
    """The reference in words, with what it was chosen on; "" for the supervised baseline."""
    name, settings = reference_name(arm, arms), arm.reference.settings if arm.reference else {}
    return "" if name == BASELINE else f"{name}, the better baseline on {chosen_on(settings)}"


def by_arm(arms: Sequence[Arm]) -> Iterable[tuple[float, str, list[Arm]]]:
    """(ratio, strategy, its arms over seeds), in the order of the tables."""
    groups: defaultdict[tuple[float, str], list[Arm]] = defaultdict(list)
    for arm in arms:
        groups[arm.ratio_percent, arm.strategy].append(arm)
    for ratio, strategy in sorted(groups, key=lambda key: (key[0], strategy_order(key[1]))):
        yield ratio, strategy, groups[ratio, strategy]


def at_ratio(arms: Sequence[Arm], ratio_percent: float) -> list[tuple[str, list[Arm]]]:
    """(strategy, its arms) of one ratio, in the order of the tables."""
    return [(strategy, group) for at, strategy, group in by_arm(arms) if at == ratio_percent]


def ratios_of(arms: Iterable[Arm]) -> list[float]:
    """The ratios of these arms in percent, ascending, each once."""
    return sorted({arm.ratio_percent for arm in arms})


def strategies_of(arms: Sequence[Arm]) -> list[str]:
    """The strategies of these arms in the order of the tables, each once."""
    return list(dict.fromkeys(strategy for _, strategy, _ in by_arm(arms)))


def finished(arms: Sequence[Arm], *, ratio_percent: float, strategy: str) -> dict[int, Arm]:
    """Seed -> the finished arm."""
    return {
        arm.seed: arm
        for arm in arms
        if (arm.ratio_percent, arm.strategy, arm.state) == (ratio_percent, strategy, "finished")
    }


def settings_of(arms: Sequence[Arm]) -> Mapping[str, str]:
    """The settings that the runs share: those of the first run that has any."""
    return next((model.settings for arm in arms for model in arm.iterations if model.settings), {})


def none_accepted(arms: Sequence[Arm]) -> bool:
    """Whether the arms are finished, learn from pseudo-labels, and all kept their reference.

    Their gain is 0 then by definition.
    """
    return bool(arms) and all(
        arm.final is not None
        and arm.final is arm.reference
        and not without_pseudo_labels(arm.strategy)
        for arm in arms
    )


def run_ids_of(arms: Iterable[Arm]) -> tuple[str, ...]:
    """The runs behind the arms' gains, each once."""
    return tuple(dict.fromkeys(run for arm in arms for run in arm.run_ids))


def difference(one: float | None, other: float | None) -> float | None:
    """`one - other`, or None if one of them is None."""
    return None if one is None or other is None else one - other


def labelled_text(arms: Sequence[Arm], ratio_percent: float) -> str:
    """`5% (258)`: the labelled share and count, if the count is known and equal in all runs.

    `12% (2, asked: 5%)` where another share than the one asked for was labelled: at least one item
    of each source is, and no more than are annotated.
    """
    counts = {
        (model.labelled_count, model.pool_count)
        for arm in arms
        if arm.ratio_percent == ratio_percent
        for model in arm.iterations
        if model.labelled_count is not None
    }
    if len({labelled for labelled, _ in counts}) != 1:
        return f"{ratio_percent:g}%"
    labelled, pool = counts.pop()
    count = int(labelled or 0)
    if counts or pool is None:
        return f"{ratio_percent:g}% ({count})"
    whole = count + int(pool)
    # The draw rounds down to whole items, and the ratio of a list is rounded to two decimals.
    asked = -0.01 <= ratio_percent * whole / 100 - count < 1 and count > 0
    return (
        f"{ratio_percent:g}% ({count})"
        if asked
        else f"{share_text(count, whole)} ({count}, asked: {ratio_percent:g}%)"
    )
