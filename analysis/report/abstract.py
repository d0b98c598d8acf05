"""The result and the method in sentences, written from the numbers. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from analysis.runs.arms import (
    PARTICLE_F1,
    Arm,
    at_ratio,
    finished,
    labelled_text,
    ratios_of,
    settings_of,
)
from analysis.stats.contrasts import Contrast, Estimate, against_baseline, contrasts, estimate
from analysis.stats.statistics import Interval, grade, seeds_text
from analysis.tables.comparison import Comparison
from analysis.tables.summary import reference_notes
from cryossl.data.splits import chosen_on
from cryossl.evaluation.scorings import scored_by
from cryossl.evaluation.verdict import mean_of


def abstract(comparison: Comparison) -> tuple[tuple[str, ...], ...]:
    """A paragraph per labelled part, and one on the intervals, each a tuple of sentences.

    A paragraph has a sentence on the baseline, then one on each strategy. The numbers are always
    of test F1.
    """
    arms, methods = comparison.arms, set()
    paragraphs = []
    for ratio in ratios_of(arms):
        sentences = [_baseline(comparison, ratio)]
        for strategy, group in at_ratio(arms, ratio):
            if strategy == "supervised":
                continue
            contrast = against_baseline(group, metric=comparison.headline)
            guess = None
            if contrast.pairs:
                guess = estimate(contrast, comparison.counts, metric=comparison.headline)
                methods |= {_scope(guess)} if guess.interval else set()
            sentences.append(_gain(strategy, contrast, guess, group))
        over = reference_notes(arms).get(ratio)
        sentences += [
            _against_naive(comparison, ratio),
            _by_second(comparison, ratio),
            f"Here {over}; its own is over supervised." if over else "",
        ]
        paragraphs.append(tuple(sentence for sentence in sentences if sentence))
    if methods:
        paragraphs.append(("In brackets the 95% interval. " + " ".join(sorted(methods)),))
    return tuple(paragraphs)


def methods(comparison: Comparison) -> tuple[str, ...]:
    """How the runs were made, with the settings that they recorded.

    A sentence that needs a setting that is not known is left out.
    """
    settings = settings_of(comparison.arms)
    get = settings.get
    seeds = sorted({arm.seed for arm in comparison.arms})
    ratios = ", ".join(f"{ratio:g}%" for ratio in ratios_of(comparison.arms))
    sentences = [
        f"Particle segmentation on {comparison.dataset or 'an unnamed data set'} with {ratios} of "
        "the training "
        f"{get('split.label_unit', 'micrograph')}s labelled, {seeds_text(len(seeds))} "
        f"({', '.join(map(str, seeds))}). A seed draws the labelled part, balanced over sources, "
        "and the initial weights; all "
        "strategies of a seed share split, weights and the supervised baseline, so they are paired "
        "by seed.",
        _sentence(
            "The network is {network.architecture} with encoder {network.encoder} "
            "({network.encoder_weights} weights), "
            "trained with AdamW at learning rate {training.learning_rate}, batches of "
            "{training.batch_size}, for "
            "{training.baseline_epochs} epochs (baseline) and {training.student_epochs} epochs "
            "(students), "
            "{training.least_steps} steps at least.",
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
            + "after at most {loop.max_iterations} iterations.",
            settings,
        ),
        "Thresholds and gate are chosen on the labelled micrographs themselves; the validation "
        "part is scored."
        if get("split.validation_from") == "labelled"
        else "",
        _sentence(
            "naive keeps every image with mean confidence of {selection.naive_threshold} or more. "
            "class_balanced calls a "
            "pixel "
            "particle from {selection.particle_threshold}, background from "
            "{selection.background_threshold}, and keeps "
            "the "
            "{selection.max_pseudo_per_labelled} best images per labelled one by "
            "{selection.quality_particle} particle + "
            "{selection.quality_background} background + {selection.quality_balance} balance "
            "against the target ratio "
            "({selection.target_particle_ratio}). Doubtful pixels: {selection.uncertain_pixels}.",
            settings,
        ),
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


def _baseline(comparison: Comparison, ratio: float) -> str:
    arms = comparison.arms
    done = finished(arms, ratio_percent=ratio, strategy="supervised").values()
    score = mean_of(arm.value(comparison.headline) for arm in done)
    start = f"With {labelled_text(arms, ratio)} of the training data labelled, "
    if score is None:
        return f"{start}no supervised baseline has finished."
    return (
        f"{start}the supervised baseline reached a test F1 of {100 * score:.2f}% "
        f"({seeds_text(len(done))}{f', {comparison.words}' if comparison.second else ''})."
    )


def _by_second(comparison: Comparison, ratio: float) -> str:
    """The gains by the second scoring, or "" where there is none."""
    second = comparison.second
    if second is None:
        return ""
    found = [
        (strategy, against_baseline(group, metric=second.metric))
        for strategy, group in at_ratio(second.arms, ratio)
        if strategy != "supervised"
    ]
    texts = [
        f"{strategy} {_change(contrast, guess.interval)[0]}"
        for strategy, contrast in found
        if contrast.pairs
        for guess in [estimate(contrast, second.counts, metric=second.metric)]
    ]
    return f"By {second.words}: {', '.join(texts)}." if texts else ""


def _gain(strategy: str, contrast: Contrast, guess: Estimate | None, group: Sequence[Arm]) -> str:
    number, every = len(contrast.pairs), seeds_text(len(group))
    lost = len(group) - number
    collapsed = sum(arm.collapsed for arm in group)
    tail = f"; a training collapsed in {collapsed} of {every}" if collapsed else ""
    tail += f"; {lost} of {every} {'is' if lost == 1 else 'are'} not in it" if lost else ""
    if guess is None:
        return f"{strategy} has no finished run{tail}."
    kept = sum(model.iteration == 0 for _, _, model in contrast.pairs)
    size = f"{seeds_text(number)}, {grade(number)}"
    if all(base is model for _, base, model in contrast.pairs):
        return (
            f"{strategy}: no student was accepted on {chosen_on(settings_of(group))} in any of "
            f"{seeds_text(number)}, so the "
            f"baseline stays{tail}."
        )
    none = f"; no student was accepted in {kept} of {seeds_text(number)}" if kept else ""
    gain, zero = _change(contrast, guess.interval)
    return f"{strategy}: {gain} over the baseline ({size}){zero}{none}{tail}."


def _change(contrast: Contrast, interval: Interval | None) -> tuple[str, str]:
    """The difference in points, with its interval if known, and a remark if that includes 0."""
    if interval is None:
        return f"{100 * float(contrast.differences.mean()):+.2f} points", ""
    inside = interval.lower <= 0 <= interval.upper
    return span(interval), "; the interval includes no change" if inside else ""


def _against_naive(comparison: Comparison, ratio: float) -> str:
    *_, last = contrasts(comparison.arms, ratio=ratio, metric=comparison.headline)
    if len(last.pairs) == 0:
        return ""
    interval = estimate(last, comparison.counts, metric=comparison.headline).interval
    change, zero = _change(last, interval)
    if interval is None:
        return f"class_balanced is {change} from naive."
    return f"class_balanced against naive: {change}{zero}."


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
