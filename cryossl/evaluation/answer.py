"""What one invocation found: the table and the verdicts on the page of its tracked run.

Pure: no torch, no MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryossl.evaluation.scorings import EIGHT, WORDS, Views, scored_by, views_of
from cryossl.evaluation.verdict import Verdict

_NUMBERS = {
    "test/f1": "test F1 (%)",
    "gain/f1": "gain over supervised (points)",
    "test/f1_views8": "test F1 by eight views (%)",
    "gain/f1_views8": "gain by eight views (points)",
    "test/precision": "precision (%)",
    "test/recall": "recall (%)",
    "test/particle_f1": "particle F1 (%)",
    "pseudo/count": "pseudo-labels",
    "pseudo/particle_ratio": "particle ratio (%)",
}
MARKDOWN_MARKS = {"success": "✅", "partial": "⚠️", "failure": "❌", "control": "·", "unknown": "?"}
"""Outcome -> its mark in Markdown; tables of a terminal have marks of one column."""


ANSWERS = {"success": "yes", "partial": "in part", "failure": "no", "unknown": "not known"}
"""Outcome -> the answer to the question whether self-training helps, the best first."""


def merit(verdict: Verdict) -> tuple[int, float]:
    """What orders verdicts: the better outcome, among equals the higher gain, is greater."""
    gain = verdict.criteria[0].value
    return -list(ANSWERS).index(verdict.outcome), -math.inf if gain is None else gain


@dataclass(frozen=True)
class Found:
    """The accepted model of an arm (or the baseline), its numbers, and the arm's verdict.

    `curve`: iteration -> test F1, of the baseline and every student. Curve and verdict are by the
    scoring `views`, the headline.
    """

    strategy: str
    iteration: int
    numbers: Mapping[str, float | None]
    curve: Mapping[int, float | None]
    verdict: Verdict | None = None
    reference: str = ""
    views: Views = 1

    @property
    def gain(self) -> float | None:
        """Of test F1 over the supervised baseline; None for this itself, and where undefined."""
        return self._gain("gain/f1")

    @property
    def gain_by_eight(self) -> float | None:
        """The same by eight views."""
        return self._gain("gain/f1_views8")

    def _gain(self, metric: str) -> float | None:
        stayed = 0.0 if self.iteration == 0 else None
        return None if self.verdict is None else self.numbers.get(metric, stayed)


def found_of(
    strategy: str,
    iteration: int,
    models: Mapping[int, Mapping[str, float | None]],
    *,
    views: Views,
) -> Found:
    """What a strategy found, without a verdict yet.

    Args:
        strategy: its name.
        iteration: of the accepted model.
        models: iteration -> numbers of each model.
        views: the headline's scoring.
    """
    f1 = scored_by("test/f1", views)
    curve = {number: numbers.get(f1) for number, numbers in models.items()}
    return Found(strategy, iteration, models[iteration], curve, views=views)


def answer_metrics(found: Sequence[Found]) -> dict[str, float | None]:
    """`f1/NAME` and `gain/NAME` of each accepted model; the baseline has no gain.

    Where models were scored by eight views too, `f1_views8/NAME` and `gain_views8/NAME` as well.
    """
    metrics: dict[str, float | None] = {}
    for one in found:
        metrics[f"f1/{one.strategy}"] = one.numbers.get("test/f1")
        if one.verdict is not None:
            metrics[f"gain/{one.strategy}"] = one.gain
        if "test/f1_views8" in one.numbers:
            metrics[f"f1_views8/{one.strategy}"] = one.numbers["test/f1_views8"]
            if one.verdict is not None:
                metrics[f"gain_views8/{one.strategy}"] = one.gain_by_eight
    return metrics


def answer_rows(found: Sequence[Found]) -> list[dict[str, Any]]:
    """A row per model, in percent and points, as MLflow shows a table."""
    by_eight = any("test/f1_views8" in one.numbers for one in found)
    titles = {
        name: title for name, title in _NUMBERS.items() if by_eight or views_of(name) != EIGHT
    }
    return [
        {
            "strategy": one.strategy,
            "accepted iteration": one.iteration,
            **{title: _shown(name, one) for name, title in titles.items()},
            "verdict": one.verdict.outcome if one.verdict is not None else "",
        }
        for one in found
    ]


def answer_text(found: Sequence[Found], *, subject: str, failed: Sequence[str] = ()) -> str:
    """The description of the run, in Markdown: subject, table, a verdict for each strategy.

    `failed`: strategies without a result.
    """
    rows = answer_rows(found)
    columns = list(rows[0]) if rows else []
    lines = [
        f"| {' | '.join(columns)} |",
        f"|{'|'.join('---' for _ in columns)}|",
        *(f"| {' | '.join(_cell(row[name]) for name in columns)} |" for row in rows),
    ]
    verdicts = [
        f"- {MARKDOWN_MARKS[one.verdict.outcome]} **{one.strategy}: {one.verdict.outcome}**, "
        f"against {one.reference}: {one.verdict.sentence}"
        for one in found
        if one.verdict is not None
    ]
    lost = [f"- {MARKDOWN_MARKS['failure']} **{name}** failed; its run says why" for name in failed]
    judged = [one for one in found if one.verdict and one.verdict.outcome in ANSWERS]
    best = max(judged, key=lambda one: merit(one.verdict) if one.verdict else (), default=None)
    step = best.verdict.next_steps if best and best.verdict else ""
    blocks = [
        f"**{subject}.** {', '.join(map(_short, found))}".rstrip(),
        "\n".join(lines) if rows else "",
        "\n".join([*verdicts, *lost]),
        f"Next, from {best.strategy}: {step}" if best and step else "",
    ]
    return "\n\n".join(block for block in blocks if block)


def _short(one: Found) -> str:
    """What is read at a glance: MLflow shows the first lines of a long description only."""
    f1 = one.numbers.get(scored_by("test/f1", one.views))
    gain = one.gain if one.views == 1 else one.gain_by_eight
    text = f"{one.strategy} {'undefined' if f1 is None else f'{100 * f1:.2f}%'}"
    if one.verdict is None:
        return f"Test F1{f' by {WORDS[EIGHT]}' * (one.views == EIGHT)}: {text}"
    change = "" if gain is None else f" ({100 * gain:+.2f} points)"
    return f"{text}{change} {MARKDOWN_MARKS[one.verdict.outcome]}"


def _shown(name: str, one: Found) -> float | None:
    gains = {"gain/f1": one.gain, "gain/f1_views8": one.gain_by_eight}
    value = gains[name] if name in gains else one.numbers.get(name)
    if value is None:
        return None
    return value if name == "pseudo/count" else round(100 * value, 2)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) and value == int(value) else str(value)
