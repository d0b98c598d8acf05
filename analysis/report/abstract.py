"""The result and the method in sentences, written from the numbers. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from analysis.runs.arms import (
    PARTICLE_F1,
    Arm,
    at_ratio,
    by_arm,
    finished,
    labelled_text,
    ratios_of,
    reference_name,
    settings_of,
)
from analysis.runs.names import data_text, listed
from analysis.stats.contrasts import Contrast, Estimate, against_baseline, contrasts, estimate
from analysis.stats.statistics import Interval, seeds_text
from analysis.tables.comparison import Comparison
from cryossl.data.splits import chosen_on
from cryossl.evaluation.scorings import scored_by
from cryossl.evaluation.verdict import mean_of
from cryossl.strategy_names import BASELINE, without_pseudo_labels
from cryossl.strategy_settings import logged_settings

MOST_NAMED = 4
"""Strategies of which the abstract gives the gain; of more, the highest and the lowest."""


def abstract(comparison: Comparison) -> tuple[str, ...]:
    """The answer in one paragraph of sentences; the numbers are always of test F1.

    First whether self-training helps, then a sentence on each labelled part, then one on the
    intervals.
    """
    arms = comparison.arms
    judged = [
        (ratio, strategy, group, _guess(comparison, group))
        for ratio, strategy, group in by_arm(arms)
        if not without_pseudo_labels(strategy)
    ]
    sentences = [_lead([(ratio, name, guess) for ratio, name, _, guess in judged])]
    for ratio in ratios_of(arms):
        here = [(name, group, guess) for at, name, group, guess in judged if at == ratio]
        sentences.append(_at_ratio(comparison, ratio, here))
    guesses = [guess for *_, guess in judged if guess and guess.interval]
    if guesses:
        sentences.append(
            "Changes are in points over that baseline, with their 95% interval. "
            + " ".join(sorted({_scope(one) for one in guesses}))
        )
    return tuple(sentence for sentence in sentences if sentence)


def methods(comparison: Comparison) -> tuple[str, ...]:
    """How the runs were made, with the settings that they recorded.

    A sentence that needs a setting that is not known is left out.
    """
    settings = settings_of(comparison.arms)
    get = settings.get
    seeds = sorted({arm.seed for arm in comparison.arms})
    ratios = ", ".join(f"{ratio:g}%" for ratio in ratios_of(comparison.arms))
    sentences = [
        f"Particle segmentation on {data_text(comparison.dataset)} with {ratios} of the training "
        f"{get('split.label_unit', 'micrograph')}s labelled, {seeds_text(len(seeds))} "
        f"({', '.join(map(str, seeds))}). A seed draws the labelled part, balanced over sources, "
        "and the initial weights; all "
        "strategies of a seed share split, weights and the supervised baseline, so they are paired "
        "by seed.",
        _sentence(
            "The network is {network.architecture} with encoder {network.encoder}, "
            + (
                "with random initial weights, "
                if get("network.encoder_weights") == "none"
                else "pretrained on {network.encoder_weights}, "
            )
            + "trained with AdamW at learning rate {training.learning_rate}, batches of "
            "{training.batch_size}, for "
            "{training.baseline_epochs} epochs (baseline) and {training.student_epochs} epochs "
            "(students), "
            "{training.least_steps} steps at least"
            + (
                ""
                if get("training.augment", "flips") == "flips"
                else "; tiles are turned by any angle and scaled by 0.8 to 1.25"
            )
            + (
                ""
                if get("training.average_decay", "0") in ("0", "0.0")
                else "; the weights are their moving average with decay {training.average_decay}"
            )
            + (
                "."
                if get("training.patience", "0") == "0"
                else "; one ended earlier after {training.patience} scores on "
                f"{chosen_on(settings)} in a row without a higher F1, which is a use of "
                f"{chosen_on(settings)} beside thresholds and gate."
            ),
            settings,
        ),
        _sentence(
            "The best model so far labels the unlabelled part; a student learns from labels and "
            "pseudo-labels, replaces "
            + (
                "it, also with a lower score, "
                if get("loop.accept") == "always"
                else f"it if the gate `{{loop.accept}}` accepts it on {chosen_on(settings)}, and "
                "ends the loop if not, "
            )
            + "after at most {loop.max_iterations} iteration"
            + ("." if get("loop.max_iterations") == "1" else "s."),
            settings,
        ),
        "Thresholds and gate are chosen on the labelled micrographs themselves; the validation "
        "part is scored."
        if get("split.validation_from") == "labelled"
        else "",
        *_rules(comparison.arms, settings),
        "F1, precision and recall are of pixels, counts pooled over the test micrographs, at the "
        "threshold chosen on "
        f"{chosen_on(settings)}; "
        + _particles(comparison)
        + _views(comparison)
        + "the unlabelled border is left out. The test part decides nothing. Reported is the last "
        "accepted model of each seed, the baseline where none was accepted.",
    ]
    return tuple(sentence for sentence in sentences if sentence)


def _particles(comparison: Comparison) -> str:
    """How particles are counted, or "" if no run counted any."""
    particle_f1 = scored_by(PARTICLE_F1, comparison.views)
    if not any(particle_f1 in model.metrics for arm in comparison.arms for model in arm.iterations):
        return ""
    distance = settings_of(comparison.arms).get("evaluation.match_distance", "the stated fraction")
    return (
        "particle F1, precision and recall are of centres picked from the probability map, "
        "matched one to one with the "
        f"labelled ones within {distance} of the particle's diameter, at the score chosen there; "
    )


def _views(comparison: Comparison) -> str:
    """What a probability is the mean of, or "" for one view without another scoring beside it."""
    second = comparison.second
    if second is None and comparison.views == 1:
        return ""
    beside = f" (and by {second.words}, with thresholds of their own)" if second else ""
    return (
        f"probabilities are the mean over {comparison.words} of a tile, its orientations{beside}; "
    )


def span(interval: Interval) -> str:
    """An interval of fractions in points: `+2.10 points [+0.40, +3.60]`."""
    middle, low, high = interval.points
    return f"{middle:+.2f} points [{low:+.2f}, {high:+.2f}]"


def _guess(comparison: Comparison, group: Sequence[Arm]) -> Estimate | None:
    contrast = against_baseline(group, metric=comparison.headline)
    if not contrast.pairs:
        return None
    return estimate(contrast, comparison.counts, metric=comparison.headline)


def _lead(judged: Sequence[tuple[float, str, Estimate | None]]) -> str:
    """Which strategies are better than the baseline beyond doubt, and which are worse."""
    if not judged:
        return "No strategy with pseudo-labels has run."
    found: dict[str, dict[float, list[str]]] = {"better": {}, "worse": {}}
    for ratio, name, guess in judged:
        if guess and guess.interval and guess.interval.lower > 0:
            found["better"].setdefault(ratio, []).append(name)
        if guess and guess.interval and guess.interval.upper < 0:
            found["worse"].setdefault(ratio, []).append(name)
    said = [
        f"{word} with {listed(f'{listed(names)} at {ratio:g}%' for ratio, names in where.items())}"
        for word, where in found.items()
        if where
    ]
    if not said:
        return (
            "These runs do not show that pseudo-labels make the segmentation better or worse than "
            "labels alone."
        )
    return f"Compared with labels alone, the segmentation is {' and '.join(said)}."


def _at_ratio(
    comparison: Comparison,
    ratio: float,
    judged: Sequence[tuple[str, Sequence[Arm], Estimate | None]],
) -> str:
    arms = comparison.arms
    start = f"With {labelled_text(arms, ratio)} of the training data labelled, "
    name = next(
        (
            reference_name(arm, arms)
            for _, group, _ in judged
            for arm in group
            if arm.reference is not None
        ),
        BASELINE,
    )
    done = finished(arms, ratio_percent=ratio, strategy=name).values()
    score = mean_of(arm.value(comparison.headline) for arm in done)
    if score is None:
        return f"{start}no supervised baseline has finished."
    which = (
        "the supervised baseline"
        if name == BASELINE
        else f"{name}, the better baseline on {chosen_on(settings_of(arms))},"
    )
    first = f"{start}{which} reached a test F1 of {100 * score:.1f}% ({seeds_text(len(done))}"
    first += f", by {comparison.words})" if comparison.second else ")"
    said = [
        _gain(strategy, group, guess, metric=comparison.headline)
        for strategy, group, guess in judged
    ]
    if len(said) > MOST_NAMED:
        known = sorted(
            (float(against_baseline(group, metric=comparison.headline).differences.mean()), place)
            for place, (_, group, guess) in enumerate(judged)
            if guess
        )
        said = [
            f"of {len(said)} strategies the {word} is {said[place]}"
            for word, (_, place) in zip(
                ("highest", "lowest"), (*known[-1:], *known[:1]), strict=False
            )
        ]
    against = _against_naive(comparison, ratio)
    return (
        "; ".join([first, *said, *([against] if against else [])])
        + "."
        + _by_second(comparison, ratio)
    )


def _by_second(comparison: Comparison, ratio: float) -> str:
    """The gains by the second scoring, or "" where there is none."""
    second = comparison.second
    if second is None:
        return ""
    found = [
        (strategy, against_baseline(group, metric=second.metric))
        for strategy, group in at_ratio(second.arms, ratio)
        if not without_pseudo_labels(strategy)
    ]
    texts = [
        f"{strategy} {_change(contrast, guess.interval)}"
        for strategy, contrast in found
        if contrast.pairs
        for guess in [estimate(contrast, second.counts, metric=second.metric)]
    ]
    return f" By {second.words}: {listed(texts)}." if 0 < len(texts) <= MOST_NAMED else ""


def _gain(strategy: str, group: Sequence[Arm], guess: Estimate | None, *, metric: str) -> str:
    contrast = against_baseline(group, metric=metric)
    if guess is None:
        return f"{strategy} has no finished run"
    every = seeds_text(len(group))
    lost = len(group) - len(contrast.pairs)
    collapsed = sum(arm.collapsed for arm in group)
    remarks = [f"{lost} of {every} missing"] if lost else []
    remarks += [f"a training collapsed in {collapsed} of {every}"] if collapsed else []
    tail = f" ({', '.join(remarks)})" if remarks else ""
    if not any(model.iteration for _, _, model in contrast.pairs):
        return f"{strategy}: no student was accepted{tail}"
    return f"{strategy}: {_change(contrast, guess.interval)}{tail}"


def _change(contrast: Contrast, interval: Interval | None) -> str:
    """The difference in points, with its interval if known."""
    if interval is None:
        return f"{100 * float(contrast.differences.mean()):+.1f} points"
    return "{:+.1f} points [{:+.1f}, {:+.1f}]".format(*interval.points)


def _against_naive(comparison: Comparison, ratio: float) -> str:
    *_, last = contrasts(comparison.arms, ratio=ratio, metric=comparison.headline)
    naive_stayed = all(model.iteration == 0 for _, model, _ in last.pairs)
    if not last.pairs or naive_stayed:  # then the gain of class_balanced says it already
        return ""
    interval = estimate(last, comparison.counts, metric=comparison.headline).interval
    return f"class_balanced against naive: {_change(last, interval)}"


def _rules(arms: Sequence[Arm], settings: Mapping[str, str]) -> list[str]:
    """How the two strategies of the note choose, as far as their kind was run."""
    names = " ".join(arm.strategy for arm in arms)
    rules = {
        "naive": "naive keeps every image with mean confidence of {selection.naive_threshold} or "
        "more.",
        "class_balanced": "class_balanced calls a pixel particle from "
        "{selection.particle_threshold}, background from {selection.background_threshold}, and "
        "keeps the {selection.max_pseudo_per_labelled} best images per labelled one by "
        "{selection.quality_particle} particle + {selection.quality_background} background + "
        "{selection.quality_balance} balance against the target ratio "
        "({selection.target_particle_ratio}). Doubtful pixels: {selection.uncertain_pixels}.",
    }
    own = logged_settings(settings.get("selection.strategy_settings", ""))
    texts = [
        _sentence(text, {**settings, **_own_of(name, own)})
        for name, text in rules.items()
        if name in names
    ]
    if own:
        entries = listed(f"{place}={value}" for place, value in own.items())
        texts.append(f"Settings of one strategy alone: {entries}.")
    return texts


def _own_of(strategy: str, own: Mapping[str, str]) -> dict[str, str]:
    """`selection.SETTING` -> value, of those that a strategy has for itself."""
    pairs = ([*place.rsplit(".", 1), value] for place, value in own.items())
    return {f"selection.{name}": value for owner, name, value in pairs if owner == strategy}


def _scope(guess: Estimate) -> str:
    if guess.improvement is None:
        return "It holds for other seeds on these test micrographs (Student's t)."
    return (
        f"It holds for other {' and '.join(guess.levels)} (paired bootstrap from counts per "
        "micrograph)."
    )


def _sentence(template: str, settings: Mapping[str, str]) -> str:
    """The sentence with the settings filled in, or "" if one is not known."""
    try:
        return re.sub(r"\{(.*?)\}", lambda name: settings[name[1]], template)
    except KeyError:
        return ""
