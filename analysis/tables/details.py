"""The longer tables: the aspects of the strategies, every iteration, every source. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.runs.arms import (
    PARTICLE_F1,
    Arm,
    TrackedModel,
    difference,
    finished,
    labelled_text,
    none_accepted,
    ratios_of,
    run_ids_of,
    settings_of,
    strategy_order,
)
from analysis.tables.summary import score_column
from analysis.tables.table import (
    Cell,
    Column,
    Table,
    Value,
    mean_cell,
    percent,
    row_of,
    without_empty,
    zero_cell,
)
from cryossl.evaluation.scorings import plain, scored_by
from cryossl.strategy_names import parse_strategy, without_pseudo_labels

# (aspect, metric of `Arm.pseudo`, unit, decimals)
_MEASURED = (
    ("particle threshold", "threshold/particle", "", 2),
    ("background threshold", "threshold/background", "", 2),
    ("particle ratio target", "pseudo/target_ratio", "%", 2),
    ("pseudo-labels before the limit", "pseudo/candidates", "", 0),
    ("pseudo-labels kept", "pseudo/count", "", 0),
    ("pseudo-labels per labelled", "pseudo/per_labelled", "", 2),
    ("pseudo-label particle ratio", "pseudo/particle_ratio", "%", 2),
    ("highest F1 such labels can teach", "pseudo/f1_cap", "%", 1),
    ("F1 of the pseudo-labels (audit)", "pseudo/audit_f1", "%", 1),
    ("mean quality", "quality/mean", "", 3),
)


def aspects(arms: Sequence[Arm]) -> Table:
    """A row per aspect in which the strategies differ: as configured, then as measured at a ratio.

    What is the same for all stands in a note.
    """
    names = sorted(
        {arm.strategy for arm in arms if not without_pseudo_labels(arm.strategy)},
        key=strategy_order,
    )
    columns = (
        Column("kind", "Kind"),
        Column("aspect", "Aspect"),
        *(Column(name, name) for name in names),
    )
    configured = [
        _configured(name, settings_of([arm for arm in arms if arm.strategy == name]))
        for name in names
    ]
    rows = [
        row_of(columns, ("configured", aspect, *(words[aspect] for words in configured)))
        for aspect in (configured[0] if configured else ())
    ]
    for ratio in ratios_of(arms):
        for aspect, metric, unit, decimals in _MEASURED:
            cells = [
                _measured(arms, ratio, metric, Column(name, name, unit, decimals)) for name in names
            ]
            if any(cell.value is not None for cell in cells):
                rows.append((*row_of(columns[:2], (f"measured at {ratio:g}%", aspect)), *cells))
    same = [row for row in rows if len(names) > 1 and len({cell.text for cell in row[2:]}) == 1]
    notes = dict.fromkeys(
        f"{row[1].text}, {row[0].text}: {row[2].text}" for row in same if row[2].value is not None
    )
    return Table(
        "aspects",
        "What is different",
        columns,
        tuple(row for row in rows if row not in same),
        (f"the same for all: {'; '.join(notes)}",) if notes else (),
    )


def iterations(arms: Sequence[Arm], *, metric: str) -> Table:
    """A row per trained model: pseudo-labels, score, gain, accepted or not, why the loop ended."""
    columns = (
        Column("labelled", "Labelled"),
        Column("strategy", "Strategy"),
        Column("seed", "Seed", "", 0),
        Column("iteration", "Iteration", "", 0),
        Column("pseudo_count", "Pseudo", "", 0),
        Column("per_labelled", "Per label", "", 2),
        Column("particle_ratio", "Particles", "%", 2),
        score_column("score", metric)
        if plain(metric) == "test/f1"
        else Column("score", metric, "%", 2),
        Column("gain", "Gain", "points", 2, signed=True),
        Column("particle_f1", "Particle F1", "%", 2),
        Column("accepted", "Accepted"),
        Column("stopped", "Then"),
    )
    rows = []
    for arm in arms:
        start = labelled_text(arms, arm.ratio_percent), arm.strategy, arm.seed
        for model in arm.iterations:
            values = (*start, *_iteration(arm, model, metric))
            rows.append(row_of(columns, values, run_ids=(model.run_id,), numbers_only=True))
        if not arm.iterations:
            ended = arm.stop_reason or f"{arm.state}: {arm.note}"
            rows.append(row_of(columns, (*start, *[None] * (len(columns) - 4), ended)))
    return without_empty(
        Table("iterations", "Every iteration", columns, tuple(rows)), "particle_f1"
    )


def sources(arms: Sequence[Arm], *, metric: str) -> Table | None:
    """Mean score of the baseline and mean gain of each strategy, per source.

    None if no source was scored.
    """
    prefix = f"{metric}/"
    done = [arm for arm in arms if arm.state == "finished"]
    keys = sorted(
        {
            (arm.ratio_percent, name.removeprefix(prefix))
            for arm in done
            if arm.final
            for name in arm.final.metrics
            if name.startswith(prefix)
        }
    )
    if not keys:
        return None
    names = sorted({arm.strategy for arm in done} - {"supervised"}, key=strategy_order)
    columns = (
        Column("labelled", "Labelled"),
        Column("source", "Source"),
        Column("supervised", "supervised", "%", 2),
        *(Column(name, name, "points", 2, signed=True) for name in names),
    )
    rows = []
    for ratio, source in keys:
        cells = list(row_of(columns[:2], (labelled_text(arms, ratio), source)))
        for column in columns[2:]:
            group = finished(arms, ratio_percent=ratio, strategy=column.name).values()
            number = Arm.value if column.name == "supervised" else Arm.gain
            values = [number(arm, prefix + source) for arm in group]
            cell = zero_cell if none_accepted([*group]) else mean_cell
            cells.append(cell(column, values, run_ids=run_ids_of(group)))
        rows.append(tuple(cells))
    return Table("sources", "Gain by source", columns, tuple(rows))


def _configured(strategy: str, settings: Mapping[str, str]) -> dict[str, str | None]:
    """Aspect -> the configured value; None if the setting or the strategy is unknown.

    Only naive, class_balanced and the steps between them are known: the other strategies have
    rules of their own, which no setting holds (docs/method.md).
    """
    try:
        base, factors = parse_strategy(strategy)
    except ValueError:
        base, factors = "", frozenset()
    known = {name.removeprefix("selection."): value for name, value in settings.items()}
    naive = known.get("naive_threshold")
    particle, background = (
        known.get(f"{name}_threshold") if "class_thresholds" in factors else naive
        for name in ("particle", "background")
    )
    quota, limit = "quota" in factors, known.get("max_pseudo_per_labelled")
    words = {
        "particle threshold": particle,
        "background threshold": background,
        "pseudo-label selection": "best by quality"
        if quota
        else naive and f"all with quality >= {naive}",
        "quality metric": _quality(known) if "balance_quality" in factors else "mean confidence",
        "particle ratio target": known.get("target_particle_ratio")
        if "balance_quality" in factors
        else "none",
        "most pseudo-labels": (limit and f"{limit} x labelled") if quota else "no limit",
        "doubtful pixels": known.get("uncertain_pixels"),
    }
    return words if base in ("naive", "class_balanced") else dict.fromkeys(words)


def _quality(known: Mapping[str, str]) -> str | None:
    names = ("particle", "background", "balance")
    if not all(known.get(f"quality_{name}") for name in names):
        return None
    return " + ".join(f"{known[f'quality_{name}']} {name}" for name in names)


def _measured(arms: Sequence[Arm], ratio: float, metric: str, column: Column) -> Cell:
    """The mean of the column's strategy, with its unit: the units of a column differ."""
    group = finished(arms, ratio_percent=ratio, strategy=column.name).values()
    ids = [arm.pseudo_labelled.run_id for arm in group if arm.pseudo_labelled]
    cell = mean_cell(column, (arm.pseudo(metric) for arm in group), run_ids=ids)
    return cell if cell.value is None else replace(cell, text=f"{cell.text}{column.unit}")


def _iteration(arm: Arm, model: TrackedModel, metric: str) -> tuple[Value, ...]:
    """The values of a model from the column `iteration` on."""
    get = model.metrics.get
    score = get(metric)
    base = None if arm.strategy == "supervised" else arm.reference_value(metric)
    particle_f1 = scored_by(PARTICLE_F1, arm.views)
    last = model is arm.iterations[-1]
    after = (
        model.note if model.state != "finished" else (arm.stop_reason or arm.note) if last else ""
    )
    return (
        model.iteration,
        get("pseudo/count"),
        get("pseudo/per_labelled"),
        percent(get("pseudo/particle_ratio")),
        percent(score),
        percent(difference(score, base)),
        percent(None if metric == particle_f1 else get(particle_f1)),
        "baseline"
        if arm.strategy == "supervised"
        else {True: "yes", False: "no", None: None}[model.accepted],
        after,
    )
