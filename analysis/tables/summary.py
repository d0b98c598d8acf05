"""The short tables (naive against class-balanced; all strategies) and the verdicts. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.runs.arms import (
    PARTICLE_F1,
    Arm,
    by_arm,
    difference,
    finished,
    labelled_text,
    none_accepted,
    ratios_of,
    reference_text,
    run_ids_of,
)
from analysis.runs.counts import ModelCounts
from analysis.runs.names import listed
from analysis.stats.contrasts import against_baseline, estimate
from analysis.stats.statistics import Grade, grade, seeds_text
from analysis.tables.table import (
    Cell,
    Column,
    Table,
    mean_cell,
    row_of,
    spread_cell,
    without_empty,
    zero_cell,
)
from cryossl.evaluation.scorings import EIGHT, plain, scored_by, views_of
from cryossl.evaluation.verdict import Verdict, judge
from cryossl.strategy_names import FULL, without_pseudo_labels

# Shown as means of the models behind `Arm.pseudo`.
_PSEUDO = ("pseudo/count", "pseudo/per_labelled", "pseudo/particle_ratio")


@dataclass(frozen=True)
class Judged:
    """The verdict on one strategy at one ratio.

    `missing` names the seeds that are not part of it, and why.
    """

    ratio_percent: float
    labelled: str
    strategy: str
    verdict: Verdict
    grade: Grade
    missing: tuple[str, ...]
    run_ids: tuple[str, ...]


def judge_arms(arms: Sequence[Arm], counts: Mapping[str, ModelCounts]) -> tuple[Judged, ...]:
    """A verdict on each strategy at each ratio but the baseline, by test F1 and recall.

    Arms and counts are of one scoring. The lower bounds are those of the table of evidence: from
    counts if there are any, else over seeds.
    """
    judged = []
    for ratio, strategy, group in by_arm(arms):
        if strategy == "supervised":
            continue
        f1, recall = (scored_by(name, group[0].views) for name in ("test/f1", "test/recall"))
        done = [arm for arm in group if arm.state == "finished" and arm.gain(f1) is not None]
        verdict = judge(
            [arm.measures() for arm in done],
            strategy=strategy,
            ratio_percent=ratio,
            gain_lower=_lower(done, counts, f1),
            recall_lower=_lower(done, counts, recall),
        )
        missing = tuple(
            f"seed {arm.seed}: {arm.note or 'no test F1'}" for arm in group if arm not in done
        )
        judged.append(
            Judged(
                ratio,
                labelled_text(arms, ratio),
                strategy,
                verdict,
                grade(len(done)),
                missing,
                run_ids_of(done),
            )
        )
    return tuple(judged)


def by_ratio(arms: Sequence[Arm], verdicts: Sequence[Judged], *, metric: str) -> Table:
    """A row per ratio and strategy: score, gain, recall, pseudo-labels, verdict, seeds."""
    outcomes = {
        (judged.ratio_percent, judged.strategy): judged.verdict.outcome for judged in verdicts
    }
    views = views_of(metric)
    recall = "test/particle_recall" if metric.startswith("test/particle_") else "test/recall"
    recall, particle_f1 = scored_by(recall, views), scored_by(PARTICLE_F1, views)
    columns = (
        Column("labelled", "Labelled"),
        Column("strategy", "Strategy"),
        score_column("score", metric),
        Column("gain", "Gain", "points", 2, signed=True),
        replace(score_column("recall", recall), spare=2),
        Column("particle_f1", "Particle F1", "%", 2, spare=5),
        Column("pseudo_count", "Pseudo", "", 0, spare=4),
        Column("per_labelled", "Per label", "", 2, spare=6),
        Column("particle_ratio", "Particles", "%", 2, spare=3),
        Column("gap_closed", "Gap closed", "%", 0, spare=1),
        Column("verdict", "Verdict"),
        Column("seeds", "Seeds"),
        Column("tries", "Tries"),
        Column("ratio", "Ratio", "%", 2, hidden=True),
        Column("labelled_count", "Labelled items", "", 0, hidden=True),
        Column("finished_seeds", "Finished seeds", "", 0, hidden=True),
    )
    rows = []
    for ratio, strategy, group in by_arm(arms):
        done = [arm for arm in group if arm.state == "finished"]
        ids = run_ids_of(done)
        pseudo_ids = [arm.pseudo_labelled.run_id for arm in done if arm.pseudo_labelled]
        gains = [arm.gain(metric) for arm in done if strategy != "supervised"]
        measured = (
            (spread_cell, [arm.value(metric) for arm in done], ids),
            (zero_cell if none_accepted(done) else spread_cell, gains, ids),
            (mean_cell, [arm.value(recall) for arm in done], ids),
            (mean_cell, [arm.value(particle_f1) for arm in done if metric != particle_f1], ids),
            *((mean_cell, [arm.pseudo(name) for arm in done], pseudo_ids) for name in _PSEUDO),
        )
        rows.append(
            (
                *row_of(columns[:2], (labelled_text(arms, ratio), strategy)),
                *(
                    cell(column, values, run_ids=runs)
                    for column, (cell, values, runs) in zip(columns[2:9], measured, strict=True)
                ),
                _closed_cell(
                    columns[9], done, finished(arms, ratio_percent=ratio, strategy=FULL), metric
                ),
                columns[10].cell(outcomes.get((ratio, strategy)), run_ids=ids),
                _seeds_cell(columns[11], group, done),
                columns[12].cell(_tries_text(group)),
                *row_of(columns[13:], (ratio, _labelled_count(group), len(done))),
            )
        )
    table = Table(
        "by_ratio",
        "Strategies at each labelled part",
        columns,
        tuple(rows),
        (
            *reference_notes(arms),
            *_zero_notes(arms),
            *_no_gap_notes(arms, metric),
            *kept_notes(arms),
            *_tuned_notes(arms),
        ),
    )
    # If all labels were tried, the column of the gap stays even if there is no gap to close.
    gap = () if any(arm.strategy == FULL for arm in arms) else ("gap_closed",)
    return without_empty(table, "particle_f1", "tries", *gap)


def _tries_text(group: Sequence[Arm]) -> str | None:
    """From how many trials of a tuning the settings of a row were chosen; None if none was tuned.

    An arm of a tuned run that was not tuned itself had one try.
    """
    counts = sorted({arm.tries for arm in group if arm.tries is not None})
    return " to ".join(dict.fromkeys(map(str, (counts[0], counts[-1])))) if counts else None


def _tuned_notes(arms: Sequence[Arm]) -> list[str]:
    """A note on what the column of tries counts, if there is one."""
    if all(arm.tries is None for arm in arms):
        return []
    return [
        "tries: trials of a tuning that the settings were chosen from, by validation F1 on other "
        "seeds"
    ]


def _zero_notes(arms: Sequence[Arm]) -> list[str]:
    """A note that names the strategies whose gain is 0 by definition."""
    names = [
        f"{strategy} at {ratio:g}%"
        for ratio, strategy, group in by_arm(arms)
        if none_accepted([arm for arm in group if arm.state == "finished"])
    ]
    return [f"gain 0: no student of {listed(names)} was accepted"] if names else []


def _labelled_count(group: Sequence[Arm]) -> float | None:
    """How many items are labelled, if all runs agree."""
    counts = {
        model.labelled_count
        for arm in group
        for model in arm.iterations
        if model.labelled_count is not None
    }
    return counts.pop() if len(counts) == 1 else None


def _no_gap_notes(arms: Sequence[Arm], metric: str) -> list[str]:
    """Notes on the ratios at which all labels are no better than the baseline.

    No share of the gap can be given there.
    """
    said = {}
    for ratio in ratios_of(arms):
        ceilings = finished(arms, ratio_percent=ratio, strategy=FULL).values()
        gaps = [gap for arm in ceilings if (gap := arm.gap(arm, metric)) is not None]
        if gaps and sum(gaps) <= 0:
            said[ratio] = "all labels are no better than the baseline: there is no gap to close"
    return _at_ratios(said)


def note_table(arms: Sequence[Arm], verdicts: Sequence[Judged], *, metric: str) -> Table:
    """A row per ratio: naive, class-balanced, the improvement of the latter, its verdict."""
    outcomes = {
        judged.ratio_percent: judged.verdict.outcome
        for judged in verdicts
        if judged.strategy == "class_balanced"
    }
    columns = (
        Column("labelled", "Labelled"),
        score_column("naive", metric, "Naive"),
        score_column("class_balanced", metric, "Class-balanced"),
        Column("improvement", "Improvement", "points", 2, signed=True),
        Column("verdict", "Verdict"),
    )
    rows, notes = [], []
    for ratio in ratios_of(arms):
        naive = finished(arms, ratio_percent=ratio, strategy="naive")
        balanced = finished(arms, ratio_percent=ratio, strategy="class_balanced")
        shared = sorted(naive.keys() & balanced.keys())
        if not naive and not balanced:
            continue
        if shared and naive.keys() != balanced.keys():
            notes.append(
                f"improvement at {ratio:g}% from the {seeds_text(len(shared))} that both have"
            )
        better = [
            difference(balanced[seed].value(metric), naive[seed].value(metric)) for seed in shared
        ]
        pairs = run_ids_of(arm for seed in shared for arm in (naive[seed], balanced[seed]))
        rows.append(
            (
                columns[0].cell(labelled_text(arms, ratio)),
                *(
                    spread_cell(
                        column,
                        (arm.value(metric) for arm in group.values()),
                        run_ids=run_ids_of(group.values()),
                    )
                    for column, group in zip(columns[1:3], (naive, balanced), strict=True)
                ),
                spread_cell(columns[3], better, run_ids=pairs),
                columns[4].cell(outcomes.get(ratio), run_ids=run_ids_of(balanced.values())),
            )
        )
    return Table("note", "Naive against class-balanced", columns, tuple(rows), tuple(notes))


def score_column(name: str, metric: str, title: str = "") -> Column:
    """The column of a score in percent, headed by the metric's usual name."""
    words = {
        "test/f1": "F1",
        "test/recall": "Recall",
        "test/precision": "Precision",
        "test/particle_f1": "Particle F1",
        "test/particle_recall": "Particle recall",
        "test/particle_precision": "Particle precision",
        "test/particle_ap": "Particle average precision",
    }
    word = words.get(plain(metric), plain(metric)) + ", 8 views" * (views_of(metric) == EIGHT)
    return Column(name, f"{title} {word}".strip(), "%", 2)


def _lower(done: Sequence[Arm], counts: Mapping[str, ModelCounts], metric: str) -> float | None:
    if len(done) < 2:
        return None
    interval = estimate(against_baseline(done, metric=metric), counts, metric=metric).interval
    return interval.lower if interval else None


def _closed_cell(
    column: Column, done: Sequence[Arm], ceilings: Mapping[int, Arm], metric: str
) -> Cell:
    """The share of the gap between the better baseline and all labels that pseudo-labels close.

    It is the mean gain / the mean gap of the seeds that have both: in a mean of shares, the seeds
    with the smallest gap would count most. No value if all labels are no better.
    """
    learners = [
        arm for arm in done if not without_pseudo_labels(arm.strategy) and arm.seed in ceilings
    ]
    known = [
        (gain, gap)
        for arm in learners
        if (gain := arm.gain(metric)) is not None
        and (gap := arm.gap(ceilings[arm.seed], metric)) is not None
    ]
    gained, most = (sum(values) for values in zip(*known, strict=True)) if known else (0.0, 0.0)
    ids = run_ids_of([*done, *(ceilings[arm.seed] for arm in done if arm.seed in ceilings)])
    return column.cell(100 * gained / most if most > 0 else None, run_ids=ids)


def _seeds_cell(column: Column, group: Sequence[Arm], done: Sequence[Arm]) -> Cell:
    """How many seeds are in the row's means, and the states of those that are not.

    It also counts the finished seeds in which a training collapsed.
    """
    lost = sorted(Counter(arm.state for arm in group if arm.state != "finished").items())
    parts = [*lost, ("collapsed", sum(arm.collapsed for arm in done))]
    why = ", ".join(f"{number} {word}" for word, number in parts if number)
    number = str(len(done)) if len(done) == len(group) else f"{len(done)} of {len(group)}"
    return column.cell(f"{number} ({why})" if why else number)


def reference_notes(arms: Sequence[Arm]) -> list[str]:
    """Notes on the reference of the gains at each ratio, if it is not `supervised`."""
    found = {arm.ratio_percent: text for arm in arms if (text := reference_text(arm, arms))}
    return _at_ratios({ratio: f"gains are over {found[ratio]}" for ratio in sorted(found)})


def _at_ratios(said: Mapping[float, str]) -> list[str]:
    """Ratio -> what is said of it, as notes; what is said of several is said once."""
    ratios: dict[str, list[str]] = {}
    for ratio, text in said.items():
        ratios.setdefault(text, []).append(f"{ratio:g}%")
    return [f"at {listed(names)} {text}" for text, names in ratios.items()]


def kept_notes(arms: Sequence[Arm]) -> list[str]:
    """A note for each ratio at which models are shown whose training other code had computed."""
    said = {}
    for ratio in ratios_of(arms):
        models = {
            arm.final.run_id: arm.final.kept
            for arm in arms
            if arm.ratio_percent == ratio and arm.final
        }
        kept = sum(models.values())
        if kept:
            said[ratio] = (
                f"{kept} of {len(models)} models were trained by other code and reused "
                "(keep_stages)"
            )
    return _at_ratios(said)
