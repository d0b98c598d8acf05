"""Two scorings of a model, by one view and by the mean over eight: their names, numbers and counts.

A view is an orientation of a tile. The plain names (`test/f1`) are of the scoring by the setting
`views`, one view unless it says otherwise; `test/f1_views8` is the same score by eight views. Each
scoring has thresholds of its own, chosen on validation. Nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cryossl.evaluation.metrics import Numbers
from cryossl.evaluation.scores import Scored, accepted_numbers, gains
from cryossl.evaluation.verdict import Verdict, judge, measures_of, reference_of
from cryossl.strategy_names import BASELINE

EIGHT: Literal[8] = 8
Views = Literal[1, 8]
"""Names a scoring: 1, that of the plain names; 8, that by eight views."""
WORDS: Mapping[int, str] = {1: "one view", 4: "four views", EIGHT: "eight views"}
"""Number of views -> its name."""

EIGHT_VIEWS_KEY = "views8"
"""Where a document of counts holds those by eight views."""
_SUFFIX = "_views8"
_F1_WORDS: tuple[tuple[Views, str], ...] = ((1, "test F1"), (EIGHT, "by eight views"))
_SCORED = ("test", "validation", "gain", "accepted", "threshold")
_PSEUDO_LABEL_THRESHOLDS = ("threshold/particle", "threshold/background")


def scored_by(metric: str, views: Views) -> str:
    """The name of a metric under a scoring: `test/f1` -> `test/f1_views8`.

    A source stays at the end (`test/f1/10017` -> `test/f1_views8/10017`). A metric that is no
    score, such as `pseudo/count`, has one name under both.
    """
    section, _, rest = plain(metric).partition("/")
    if views == 1 or section not in _SCORED or plain(metric) in _PSEUDO_LABEL_THRESHOLDS:
        return plain(metric)
    score, slash, source = rest.partition("/")
    return f"{section}/{score}{_SUFFIX}{slash}{source}"


def plain(metric: str) -> str:
    """The name of a metric without its scoring: `test/f1_views8` -> `test/f1`."""
    section, slash, rest = metric.partition("/")
    score, between, source = rest.partition("/")
    return f"{section}{slash}{score.removesuffix(_SUFFIX)}{between}{source}"


def views_of(metric: str) -> Views:
    """The scoring that a metric is of; 1 for a metric that is no score."""
    return 1 if plain(metric) == metric else 8


def of_scoring(numbers: Mapping[str, float | None], views: Views) -> dict[str, float | None]:
    """The numbers of one scoring under their plain names; empty if a model was not scored so."""
    return {plain(name): value for name, value in numbers.items() if views_of(name) == views}


@dataclass(frozen=True)
class Scorings:
    """A model's scores by the setting `views`, and by eight views where it was scored so too."""

    single: Scored
    eight: Scored | None = None

    @property
    def widest(self) -> Scored:
        """The scoring with the most views, which is how the model picks."""
        return self.eight or self.single

    def numbers(self) -> Numbers:
        """The scores and thresholds of both scorings by their tracked names."""
        return self.single.numbers() | (_named(self.eight.numbers()) if self.eight else {})

    def counts(self) -> dict[str, Any]:
        """Integer counts of each micrograph; those by eight views are a document within."""
        eight = {EIGHT_VIEWS_KEY: self.eight.counts()} if self.eight else {}
        return self.single.counts() | eight


def gains_by_scoring(
    student: Mapping[str, float | None], baseline: Mapping[str, float | None]
) -> Numbers:
    """`gain/...` and `gain/..._views8`: student minus supervised baseline, scored alike."""
    found = gains(student, baseline)
    if eight := of_scoring(student, EIGHT):
        found |= _named(gains(eight, of_scoring(baseline, EIGHT)))
    return found


def accepted_by_scoring(numbers: Mapping[str, float | None]) -> Numbers:
    """`accepted/...` and `accepted/..._views8`: the numbers of the accepted model."""
    found = accepted_numbers(numbers)
    if eight := of_scoring(numbers, EIGHT):
        found |= _named(accepted_numbers(eight))
    return found


def judged_by(
    views: Views,
    *,
    strategy: str,
    ratio_percent: float,
    final: Mapping[str, float | None],
    accepted_iteration: int,
    tried: Mapping[str, float | None],
    baselines: Mapping[str, Mapping[str, float | None]],
) -> tuple[Verdict, str]:
    """The verdict on one arm at one seed by one scoring, and the baseline that it is counted from.

    That is the baseline which is best on validation by the same scoring.

    Args:
        views: the scoring.
        strategy: of the arm.
        ratio_percent: labelled part, for the words.
        final: numbers of the model that the arm reports.
        accepted_iteration: iteration of that model; 0: the supervised baseline.
        tried: numbers of the last student, or of the selection that found nothing.
        baselines: name -> numbers of each baseline that was trained.
    """
    validation = scored_by("validation/f1", views)
    reference = reference_of(
        strategy, {name: numbers.get(validation) for name, numbers in baselines.items()}
    )
    measures = measures_of(
        of_scoring(final, views),
        of_scoring(baselines[reference], views),
        supervised=of_scoring(baselines[BASELINE], views),
        pseudo=final if accepted_iteration else tried,
        accepted_iteration=accepted_iteration,
        last_student=None if accepted_iteration else of_scoring(tried, views),
    )
    return judge([measures], strategy=strategy, ratio_percent=ratio_percent), reference


def f1_text(numbers: Mapping[str, float | None]) -> str:
    """`test F1 72.26 (+2.68 over the baseline), by eight views 73.10 (+1.80 over the baseline)`."""
    parts = []
    for views, word in _F1_WORDS:
        scored = of_scoring(numbers, views)
        if "test/f1" in scored:
            f1, gain = scored["test/f1"], scored.get("gain/f1")
            shown = "undefined" if f1 is None else f"{100 * f1:.2f}"
            change = "" if gain is None else f" ({100 * gain:+.2f} over the baseline)"
            parts.append(f"{word} {shown}{change}")
    return ", ".join(parts)


def summary_by_eight(
    baseline: Mapping[str, float | None], best: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Test F1 of the supervised baseline and of an arm by eight views; empty if not scored so."""
    before, after = of_scoring(baseline, EIGHT), of_scoring(best, EIGHT)
    found = {
        "baseline_f1": before.get("test/f1"),
        "f1": after.get("test/f1"),
        "gain_f1": after.get("gain/f1", 0.0),
    }
    return {f"{name}_views8": value for name, value in found.items()} if after else {}


def _named(numbers: Mapping[str, float | None]) -> Numbers:
    return {scored_by(name, EIGHT): value for name, value in numbers.items()}
