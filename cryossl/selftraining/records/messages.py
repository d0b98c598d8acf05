"""What the steps of the loop print: what was selected, what was accepted, what collapsed."""

from __future__ import annotations

from collections.abc import Mapping

from cryossl.evaluation.metrics import Counts, pooled
from cryossl.evaluation.verdict import health
from cryossl.progress.narrator import Narrator
from cryossl.pseudolabels.summary import SelectionSummary
from cryossl.strategy_names import fixes_its_count


def percent_text(fraction: float | None) -> str:
    """A fraction as percent with two decimals, without the sign: `69.85`."""
    return "undefined" if fraction is None else f"{100 * fraction:.2f}"


def report_selection(narrator: Narrator, strategy: str, summary: SelectionSummary) -> None:
    """Print the note's key messages and health signs."""
    kind = "class-balanced" if strategy.startswith("class_balanced") else strategy
    narrator.detail(
        f"✅ Generated {summary.count} {kind} pseudo-labels of {summary.pool} "
        f"({summary.per_labelled:.1f} per labelled)"
    )
    if summary.particle_ratio is None:
        return
    narrator.detail(
        f"   Average particle ratio: {percent_text(summary.particle_ratio)}% "
        f"(target: {percent_text(summary.target_ratio)}%)"
    )
    signs = health(
        summary.particle_ratio / summary.target_ratio,
        None if fixes_its_count(strategy) else summary.per_labelled,
        None,
    )
    for sign in signs:
        if sign.good is not None:
            show = narrator.detail if sign.good else narrator.say
            show(f"   {'✅' if sign.good else '❌'} {sign.name}: {sign.text}")


def report_acceptance(
    narrator: Narrator,
    strategy: str,
    iteration: int,
    best: Mapping[str, Counts],
    student: Mapping[str, Counts],
    *,
    chosen_on: str,
    accepted: bool,
) -> None:
    """Print the scores that were compared and whether the student is accepted.

    `chosen_on`: the part that they are of, in words.
    """
    before, after = (pooled(counts.values()).scores().f1 for counts in (best, student))
    scores = f"F1 on {chosen_on} {percent_text(before)} → {percent_text(after)}"
    decision = "✅ accepted" if accepted else "❌ not accepted, the loop stops"
    narrator.detail(f"   {strategy} iteration {iteration}: {scores}: {decision}")
    told = "accepted" if accepted else "not accepted"
    narrator.result(f"{scores}, {told}")


def report_collapse(narrator: Narrator, strategy: str, iteration: int, steps: int) -> None:
    """Print that the collapse alarm ended a training."""
    narrator.result("collapsed")
    narrator.say(
        f"❌ {strategy} iteration {iteration} collapsed: twice in a row its particle share of "
        "the pool was "
        f"far from the labelled part's; ended at step {steps}, the last accepted model stays"
    )
