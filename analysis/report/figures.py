"""The figures of scores by iteration, of gains by source and of cost. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from analysis.report.plotting import Plot, Point, looks, plotted, short, thin_line, word
from analysis.runs.arms import Arm, at_ratio, by_arm, none_accepted, ratios_of, strategies_of
from analysis.stats.statistics import seed_interval
from cryossl.evaluation.verdict import mean_of
from cryossl.strategy_names import CONTROLS, without_pseudo_labels

LEAST_SEEDS = 3  # of two, Student's t gives a band of no use
SPREAD_ROWS = 0.3  # how far points of a source lie above and below its line, in rows


def f1_by_iteration(arms: Sequence[Arm], *, metric: str) -> Plot:
    """Score of each student by iteration.

    Seeds are thin, students that were not accepted hollow, mean and interval over seeds bold.
    """
    caption = (
        "Thin: the students of each seed, hollow where the gate did not accept them. Bold: mean "
        "over seeds of the model "
        "that is kept after each iteration; from three seeds on with the 95% interval of that mean "
        "(Student's t), cut where it leaves the panel."
    )
    dashed = [name for name in CONTROLS if name in strategies_of(arms)]
    if dashed:
        caption += f" Dashed: {', '.join(dashed)}."
    styles = looks(strategies_of(arms))

    def draw(axes: Axes, ratio: float) -> None:
        for strategy, group in _groups(arms, ratio):
            if not without_pseudo_labels(strategy):
                _student_curves(axes, group, metric, styles[strategy])
            elif (
                strategy in CONTROLS
                and (level := mean_of(arm.value(metric) for arm in group)) is not None
            ):
                axes.axhline(
                    100 * level,
                    color=styles[strategy][0],
                    linestyle="--",
                    linewidth=1.2,
                    label=strategy,
                )
        fit_to_lines(axes)
        axes.set_xticks(range(1 + max(model.iteration for arm in arms for model in arm.iterations)))
        axes.set(xlabel="iteration (0 = supervised baseline)", ylabel=f"{word(metric)} (%)")

    return plotted(
        "f1_by_iteration",
        f"{word(metric)} by iteration",
        caption,
        ratios_of(arm for arm in arms if _students(arm, metric)),
        draw,
        lacking=f"no finished arm has a student with {metric}",
    )


def source_gains(arms: Sequence[Arm], *, metric: str) -> Plot:
    """Mean gain per source, a row each, best first."""
    found = {
        (ratio, strategy): gains
        for ratio, strategy, group in by_arm(arms)
        if strategy != "supervised" and not none_accepted([arm for arm in group if arm.final])
        if (gains := _by_source(group, f"{metric}/"))
    }
    styles = looks(strategies_of(arms))
    sources = {
        ratio: _source_order([gains for key, gains in found.items() if key[0] == ratio])
        for ratio in sorted({ratio for ratio, _ in found})
    }

    def draw(axes: Axes, ratio: float) -> None:
        here = [(name, gains) for (at, name), gains in found.items() if at == ratio]
        # Each point stays nearest to the line of its own source, for any number of strategies.
        for beside, (strategy, gains) in zip(
            np.linspace(-SPREAD_ROWS, SPREAD_ROWS, len(here)), here, strict=True
        ):
            colour, marker = styles[strategy]
            points = [
                (100 * gains[source], row + beside)
                for row, source in enumerate(sources[ratio])
                if source in gains
            ]
            axes.plot(
                *zip(*points, strict=True), marker, color=colour, markersize=5, label=strategy
            )
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(sources[ratio])), [short(source) for source in sources[ratio]])
        axes.set(xlabel="gain (points)", ylim=(len(sources[ratio]) - 0.4, -0.6))

    row_inches = max(0.24, 0.07 * (len(strategies_of(arms)) - 1))
    return plotted(
        "source_gains",
        f"Gain in {word(metric)} by source",
        "Mean over seeds of the gain on the test micrographs of one source; in the order of "
        "the last strategy's gain.",
        list(sources),
        draw,
        lacking="no finished arm was scored by source",
        height={ratio: 0.9 + row_inches * len(names) for ratio, names in sources.items()},
    )


def cost(arms: Sequence[Arm], *, metric: str) -> Plot:
    """Minutes of training against gain: a dot per seed, the mean large."""
    spent = {
        id(arm): sum(times) / 60
        for arm in arms
        if arm.gain(metric) is not None and arm.strategy != "supervised"
        if (
            times := [
                model.metrics["time/seconds"]
                for model in arm.iterations
                if "time/seconds" in model.metrics
            ]
        )
    }
    styles = looks(strategies_of(arms))

    def draw(axes: Axes, ratio: float) -> None:
        for strategy, group in _groups(arms, ratio):
            points = [
                (spent[id(arm)], 100 * gain)
                for arm in group
                if id(arm) in spent and (gain := arm.gain(metric)) is not None
            ]
            if points:
                colour, marker = styles[strategy]
                axes.plot(*zip(*points, strict=True), marker, color=colour, markersize=4, alpha=0.6)
                axes.plot(
                    *np.mean(points, axis=0),
                    marker,
                    color=colour,
                    markersize=10,
                    markeredgecolor="white",
                    label=strategy,
                )
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set(xlabel="training (minutes)", ylabel="gain (points)", xlim=(0, None))

    return plotted(
        "cost",
        "Cost against gain",
        "Minutes of training of all students of an arm, the baseline not counted. Small: "
        "seeds. Large: mean.",
        ratios_of(arm for arm in arms if id(arm) in spent),
        draw,
        lacking="no finished arm recorded the time of its training",
    )


def _groups(arms: Sequence[Arm], ratio: float) -> list[tuple[str, list[Arm]]]:
    return at_ratio([arm for arm in arms if arm.state == "finished"], ratio)


def _student_curves(axes: Axes, group: Sequence[Arm], metric: str, look: tuple[str, str]) -> None:
    """The students of each seed, and over seeds what is kept after each iteration.

    That is a mean with its interval.
    """
    colour, marker = look
    for arm in group:
        thin_line(axes, [(0, _base(arm, metric)), *_students(arm, metric)], colour)
        accepted = {model.iteration for model in arm.iterations if model.accepted}
        for iteration, score in _students(arm, metric):
            axes.plot(
                iteration,
                100 * score,
                marker,
                color=colour,
                markersize=4,
                alpha=0.7,
                markerfacecolor=colour if iteration in accepted else "white",
            )
    last = max((model.iteration for arm in group for model in arm.iterations), default=0)
    steps = range(last + 1)
    kept = np.array([[_kept(arm, metric, step) for step in steps] for arm in group], np.float64)
    kept = 100 * kept[np.isfinite(kept).all(axis=1)]
    if not kept.size or not last:
        return
    spread = [seed_interval(kept[:, step]) for step in steps]
    axes.plot(
        steps,
        kept.mean(axis=0),
        color=colour,
        linewidth=2.2,
        marker=marker,
        markersize=6,
        label=group[0].strategy,
    )
    if len(kept) >= LEAST_SEEDS and all(spread):
        axes.fill_between(
            steps,
            [one.lower for one in spread if one],
            [one.upper for one in spread if one],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )


def fit_to_lines(axes: Axes) -> None:
    """Show all scores with room around them; a band does not decide how large they are drawn."""
    known = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axes.lines])
    room = max(1.0, 0.25 * float(np.ptp(known)))
    axes.set_ylim(max(0.0, known.min() - room), min(100.0, known.max() + room))


def _kept(arm: Arm, metric: str, step: int) -> float:
    scores = [
        model.metrics.get(metric, np.nan)
        for model in arm.iterations
        if model.accepted and 0 < model.iteration <= step
    ]
    base = _base(arm, metric)
    return scores[-1] if scores else np.nan if base is None else base


def _base(arm: Arm, metric: str) -> float | None:
    return arm.baseline.metrics.get(metric) if arm.baseline else None


def _students(arm: Arm, metric: str) -> list[Point]:
    if without_pseudo_labels(arm.strategy) or arm.state != "finished":
        return []
    return [
        (model.iteration, model.metrics[metric])
        for model in arm.iterations
        if model.iteration and metric in model.metrics
    ]


def _by_source(group: Sequence[Arm], prefix: str) -> dict[str, float]:
    names = {
        name for arm in group if arm.final for name in arm.final.metrics if name.startswith(prefix)
    }
    means = {name.removeprefix(prefix): mean_of(arm.gain(name) for arm in group) for name in names}
    return {source: mean for source, mean in means.items() if mean is not None}


def _source_order(columns: Sequence[Mapping[str, float]]) -> list[str]:
    every = {source for gains in columns for source in gains}
    return sorted(every, key=lambda source: (-columns[-1].get(source, -np.inf), source))
