"""The named strategies: each is a value, a `Recipe` of selection, teaching and learning.

`naive` and `class_balanced` differ in three factors, and each factor sets one part of the
selection: `class_thresholds` the thresholds of a pixel, `balance_quality` the quality of an image,
`quota` the keep rule. So each step between the two strategies is a strategy, too. The other
strategies combine the same parts in other ways.

To add a strategy, write its function and its line in `_BEYOND` here, and its name in
`cryossl.strategy_names`. docs/method.md has the formulas and sources.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cryossl.config import SelectionSettings
from cryossl.pseudolabels.keep_rules import AllAbove, BestOfEachSource, BestPerLabelled
from cryossl.pseudolabels.recipe import Consistency, Learning, LossName, Teaching
from cryossl.pseudolabels.selection import Quality, Selection
from cryossl.strategy_names import CONTROLS, FACTORS, parse_strategy

RING_PX = 2
"""Background pixels within this distance of a pseudo-labelled particle are IGNORE."""
QUOTA_GROWTH = (1.0, 2.0, 4.0)
"""curriculum: pseudo-labels per labelled item, by iteration."""
FIRST_PSEUDO_WEIGHT = 0.25
"""curriculum: weight of a pseudo-labelled tile at the first step; it is 1 at the last step."""
PORTIONS = (0.50, 0.65, 0.80)
"""quantile: labelled portion of each class, by iteration."""
STABLE_SHARE = 0.5
"""stability: share of the images of each source that is kept in the first iteration."""


@dataclass(frozen=True)
class Recipe:
    """All that a strategy decides in one iteration.

    `iterations`: the most iterations of the strategy, or None if it has no limit of its own.
    """

    selection: Selection
    teaching: Teaching = field(default_factory=Teaching)
    learning: Learning = field(default_factory=Learning)
    iterations: int | None = None


def recipe_for(name: str, settings: SelectionSettings, *, iteration: int = 1) -> Recipe:
    """The recipe of a strategy in an iteration, counted from 1.

    Raises:
        ValueError: the strategy is unknown, or is a control, which selects nothing.
        ConfigError: its thresholds overlap.
    """
    base, factors = parse_strategy(name)
    if base in CONTROLS:
        raise ValueError(f"{base} uses true labels alone: it has no selection")
    if base in ("naive", "class_balanced"):
        return Recipe(
            _between(settings, factors),
            Teaching(calibrated="calibrated" in factors),
            Learning(noised="noise" in factors),
        )
    if base == "ema_consistency":
        return _ema_consistency(settings, factors)
    return _BEYOND[base](settings, iteration)


def rounds_of(name: str, iterations: int) -> int:
    """The most trainings of an arm: 1 for a control, else the limit of the loop or the strategy."""
    if parse_strategy(name)[0] in CONTROLS:
        return 1
    limit = recipe_for(name, SelectionSettings()).iterations
    return iterations if limit is None else min(limit, iterations)


# --- from naive to class_balanced


def _between(settings: SelectionSettings, factors: frozenset[str]) -> Selection:
    """The selection of naive, of class_balanced, or of a step between them."""
    if "class_thresholds" in factors:
        particle, background = settings.particle_threshold, settings.background_threshold
    else:
        particle = background = settings.naive_threshold
    return Selection(
        particle_threshold=particle,
        background_threshold=background,
        quality=_balanced_quality(settings)
        if "balance_quality" in factors
        else Quality(confidence=1.0),
        keep=BestPerLabelled(settings.max_pseudo_per_labelled)
        if "quota" in factors
        else AllAbove(settings.naive_threshold),
        uncertain_pixels=settings.uncertain_pixels,
        scope=settings.target_scope,
    )


def _balanced_quality(settings: SelectionSettings) -> Quality:
    return Quality(
        particle=settings.quality_particle,
        background=settings.quality_background,
        balance=settings.quality_balance,
    )


# --- beyond class_balanced


def _weighted_loss(settings: SelectionSettings, _iteration: int) -> Recipe:
    """class_balanced with a ring around particles, mixed batches and the loss of the settings."""
    return Recipe(_ringed_class_balanced(settings), learning=_mixed(settings.loss))


def _curriculum(settings: SelectionSettings, iteration: int) -> Recipe:
    """weighted_loss with a quota that grows by iteration and a pseudo weight that grows by step."""
    selection = replace(
        _ringed_class_balanced(settings),
        keep=BestPerLabelled(_of_iteration(QUOTA_GROWTH, iteration)),
    )
    return Recipe(
        selection, learning=replace(_mixed(settings.loss), pseudo_weight=(FIRST_PSEUDO_WEIGHT, 1.0))
    )


def _quantile(settings: SelectionSettings, iteration: int) -> Recipe:
    """Every image, but only the most confident portion of each class in each source."""
    selection = Selection(
        particle_threshold=0.50,
        background_threshold=0.70,
        quality=Quality(confidence=1.0),
        keep=AllAbove(0.0),
        portion=_of_iteration(PORTIONS, iteration),
        ring_px=RING_PX,
        scope="per_source",
    )
    return Recipe(selection, Teaching(calibrated=True), _mixed(settings.loss))


def _stability(settings: SelectionSettings, iteration: int) -> Recipe:
    """First the images on which the teacher's predictions agree over its training, then all."""
    selection = Selection(
        particle_threshold=0.50,
        background_threshold=0.70,
        quality=Quality(agreement=1.0),
        keep=BestOfEachSource(STABLE_SHARE if iteration == 1 else 1.0),
        ring_px=RING_PX,
        scope="per_source",
    )
    return Recipe(
        selection,
        Teaching(calibrated=True, snapshots=True),
        replace(_mixed(settings.loss), by_agreement=iteration > 1),
    )


def _soft(settings: SelectionSettings, _iteration: int) -> Recipe:
    """Every image, with the teacher's probabilities as targets, weighted by confidence."""
    selection = Selection(
        particle_threshold=0.50,
        background_threshold=0.50,
        quality=Quality(confidence=1.0),
        keep=AllAbove(0.0),
        soft=True,
        scope="per_source",
    )
    return Recipe(selection, Teaching(calibrated=True, views=4), _mixed(settings.loss))


def _noisy_student(settings: SelectionSettings, iteration: int) -> Recipe:
    """The targets of soft, from eight views, for a student that learns under noise."""
    soft = _soft(settings, iteration)
    return replace(
        soft, teaching=replace(soft.teaching, views=8), learning=Learning(mixed=True, noised=True)
    )


def _ema_consistency(settings: SelectionSettings, factors: frozenset[str]) -> Recipe:
    """One training, whose teacher is the moving average of the student itself.

    The selection records what the teacher would select before the training. The student does not
    learn from it.
    """
    online = Consistency(paste="labelled_paste" in factors, match_prior="prior_match" in factors)
    selection = Selection(
        particle_threshold=online.particle_range[0],
        background_threshold=online.background_threshold,
        quality=Quality(confidence=1.0),
        keep=AllAbove(0.0),
        scope="per_source",
    )
    return Recipe(
        selection,
        learning=replace(_mixed(settings.loss), warm_start=True, consistency=online),
        iterations=1,
    )


def _ringed_class_balanced(settings: SelectionSettings) -> Selection:
    return replace(_between(settings, frozenset(FACTORS)), ring_px=RING_PX)


def _mixed(loss: LossName) -> Learning:
    return Learning(loss=loss, mixed=True)


def _of_iteration(values: tuple[float, ...], iteration: int) -> float:
    """The value of an iteration counted from 1; the last value for all later iterations."""
    return values[min(iteration, len(values)) - 1]


_BEYOND: dict[str, Callable[[SelectionSettings, int], Recipe]] = {
    "weighted_loss": _weighted_loss,
    "curriculum": _curriculum,
    "quantile": _quantile,
    "stability": _stability,
    "soft": _soft,
    "noisy_student": _noisy_student,
}


# --- in words


def rules_by_iteration(name: str, settings: SelectionSettings, *, iterations: int) -> str:
    """The rules of an arm in words: one text, or a paragraph for each iteration with new rules."""
    texts = [
        rules_text(recipe_for(name, settings, iteration=number).selection)
        for number in range(1, rounds_of(name, iterations) + 1)
    ]
    changes = [
        number for number, text in enumerate(texts) if number == 0 or text != texts[number - 1]
    ]
    if len(changes) < 2:
        return "".join(texts[:1])
    return "\n\n".join(f"From iteration {number + 1}: {texts[number]}" for number in changes)


def rules_text(selection: Selection) -> str:
    """The rules of a selection in words, for the page of its run."""
    quality, keep = selection.quality, selection.keep
    terms = {
        "mean confidence": quality.confidence,
        "particle confidence": quality.particle,
        "background confidence": quality.background,
        "balance": quality.balance,
        "agreement": quality.agreement,
    }
    weighted = " + ".join(f"{weight:g} {term}" for term, weight in terms.items() if weight)
    scale = (
        " (naive's bar, which here lies on another scale: it was meant for the mean confidence, "
        "and is now one on balance)"
        if keep.absolute and quality.balance
        else ""
    )
    pixels = (
        "A pixel is learned as its probability, weighted by confidence"
        if selection.soft
        else f"A pixel is particle from {selection.particle_threshold:g}, background from "
        f"{selection.background_threshold:g}"
    )
    portion = (
        ""
        if selection.portion is None
        else f", among the surest {100 * selection.portion:g}% of what the labelled part says is "
        "in its class"
    )
    ring = (
        f"; {selection.ring_px} px of background round a particle are left out"
        if selection.ring_px
        else ""
    )
    return f"{pixels}{portion}{ring}; quality = {weighted}; kept: {keep.in_words()}{scale}."
