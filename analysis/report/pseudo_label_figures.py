"""The figures of the pseudo-labels: particle ratio and quality. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from analysis.report.plotting import Plot, looks, plotted, thin_line
from analysis.runs.arms import Arm, at_ratio, by_arm, ratios_of, strategies_of
from cryossl.evaluation.verdict import BAD_RATIO, GOOD_RATIO, HEALTHY_RATIO, mean_of
from cryossl.pages.palette import GREEN


def particle_ratio(arms: Sequence[Arm]) -> Plot:
    """Particle ratio of the pseudo-labels over its target, by iteration, with the healthy band."""
    tracks = {
        id(arm): points
        for arm in arms
        if (
            points := [
                (model.iteration, model.metrics["pseudo/particle_ratio"] / target)
                for model in arm.iterations
                if "pseudo/particle_ratio" in model.metrics
                and (target := model.metrics.get("pseudo/target_ratio", 0)) > 0
            ]
        )
    }
    styles = looks(strategies_of(arms))

    def draw(axes: Axes, ratio: float) -> None:
        for (low, high), alpha in ((HEALTHY_RATIO, 0.12), (GOOD_RATIO, 0.18)):
            axes.axhspan(100 * low, 100 * high, color=GREEN, alpha=alpha, linewidth=0)
        axes.axhline(100, color=GREEN, linewidth=1)
        axes.axhline(100 * BAD_RATIO[0], color="#555555", linewidth=1, linestyle=":")
        for strategy, group in at_ratio(arms, ratio):
            mine = [tracks[id(arm)] for arm in group if id(arm) in tracks]
            colour, marker = styles[strategy]
            for points in mine:
                thin_line(axes, points, colour)
            if mine:
                steps = sorted({step for points in mine for step, _ in points})
                means = [
                    mean_of(value for points in mine for at, value in points if at == step)
                    for step in steps
                ]
                axes.plot(
                    steps,
                    [100 * mean for mean in means if mean is not None],
                    marker=marker,
                    color=colour,
                    linewidth=2,
                    label=strategy,
                )
        axes.set_xticks(sorted({step for points in tracks.values() for step, _ in points}))
        axes.set(xlabel="iteration", ylabel="particle ratio (% of target)", ylim=(0, None))

    return plotted(
        "particle_ratio",
        "Particle ratio of the pseudo-labels against the target",
        "Thin: seeds. Bold: mean of the seeds that reached the iteration. Green: within 12.5% "
        "(dark) and 25% (light) of "
        "the target; below the dotted line, half the target, the run counts as failed.",
        ratios_of(arm for arm in arms if id(arm) in tracks),
        draw,
        lacking="no run recorded the particle ratio of its pseudo-labels",
    )


def quality(arms: Sequence[Arm]) -> Plot:
    """Mean quality score of the pseudo-labels against their F1 in the audit."""
    names = ("quality/mean", "pseudo/audit_f1")
    points = {
        (ratio, strategy): [
            (model.metrics[names[0]], 100 * model.metrics[names[1]])
            for arm in group
            for model in arm.iterations
            if all(name in model.metrics for name in names)
        ]
        for ratio, strategy, group in by_arm(arms)
    }
    styles = looks(strategies_of(arms))

    def draw(axes: Axes, ratio: float) -> None:
        for (at, strategy), found in points.items():
            if at == ratio and found:
                axes.plot(
                    *zip(*found, strict=True),
                    styles[strategy][1],
                    color=styles[strategy][0],
                    alpha=0.7,
                    label=strategy,
                )
        axes.set(xlabel="mean quality score", ylabel="audited F1 (%)")

    return plotted(
        "quality",
        "Quality score against the audited F1 of the pseudo-labels",
        "A dot per iteration and seed. The audit compares pseudo-labels with the hidden "
        "truth; it reaches no training.",
        sorted({ratio for (ratio, _), found in points.items() if found}),
        draw,
        lacking="no run was audited (loop.audit)",
    )
