"""The numbers that are tracked of one selection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryossl.evaluation.metrics import Counts, Numbers, f1_cap
from cryossl.pseudolabels.selection import Assessment, Selection


@dataclass(frozen=True)
class SelectionSummary:
    """The numbers of one selection; ratios and means are None if nothing was selected.

    Attributes:
        pool: images assessed.
        candidates: images that the keep rule would keep without a quota.
        count: images kept.
        labelled_count: labelled items.
        per_labelled: images kept per labelled item.
        target_ratio: particle ratio of the labelled part.
        particle_ratio: PARTICLE / all pixels of the kept images, the ratio in `balance`. If only a
            portion of each class is labelled, PARTICLE / labelled pixels.
        particle_ratio_valid: PARTICLE / valid pixels, the ratio that the student sees.
        particle_ratio_by_source: `particle_ratio` of the kept images of each source.
        ignored_fraction: IGNORE / all pixels of the kept images.
        quality: mean over kept images, like the terms of the quality that follow.
    """

    pool: int
    candidates: int
    count: int
    labelled_count: int
    per_labelled: float
    target_ratio: float
    particle_ratio: float | None
    particle_ratio_valid: float | None
    particle_ratio_by_source: Mapping[str, float]
    ignored_fraction: float | None
    quality: float | None
    mean_confidence: float | None
    particle_confidence: float | None
    background_confidence: float | None
    balance: float | None


def summarise(
    assessments: Mapping[str, Assessment],
    chosen: tuple[str, ...],
    selection: Selection,
    *,
    labelled_count: int,
    target_ratio: float,
    sources: Mapping[str, str],
) -> SelectionSummary:
    """The numbers of the images that `select` chose.

    `labelled_count` is at least 1; `sources` maps image -> source.
    """
    kept = [assessments[item] for item in chosen]
    of_labelled = selection.portion is not None
    by_source: dict[str, list[Assessment]] = {}
    for item in chosen:
        by_source.setdefault(sources[item], []).append(assessments[item])
    pixels = sum(one.pixels for one in kept)
    particle = sum(one.particle_pixels for one in kept)
    ignored = sum(one.ignored_pixels for one in kept)
    return SelectionSummary(
        pool=len(assessments),
        candidates=selection.keep.candidates([one.quality for one in assessments.values()]),
        count=len(chosen),
        labelled_count=labelled_count,
        per_labelled=len(chosen) / labelled_count,
        target_ratio=target_ratio,
        particle_ratio=_pooled_ratio(kept, of_labelled=of_labelled),
        particle_ratio_valid=particle / (pixels - ignored) if pixels > ignored else None,
        particle_ratio_by_source={
            source: ratio
            for source, images in sorted(by_source.items())
            if (ratio := _pooled_ratio(images, of_labelled=of_labelled)) is not None
        },
        ignored_fraction=ignored / pixels if pixels else None,
        quality=_mean([one.quality for one in kept]),
        mean_confidence=_mean([one.mean_confidence for one in kept]),
        particle_confidence=_mean([one.particle_confidence for one in kept]),
        background_confidence=_mean([one.background_confidence for one in kept]),
        balance=_mean([one.balance for one in kept]),
    )


def selection_numbers(
    summary: SelectionSummary, selection: Selection, audit: Counts | None
) -> Numbers:
    """`threshold/...`, `pseudo/...` and `quality/...` of one selection.

    `audit`: counts against the hidden truth, or None if the audit is off.
    """
    ratio = summary.particle_ratio
    found: Numbers = {
        "threshold/particle": selection.particle_threshold,
        "threshold/background": selection.background_threshold,
        "pseudo/count": summary.count,
        "pseudo/candidates": summary.candidates,
        "pseudo/pool": summary.pool,
        "pseudo/per_labelled": summary.per_labelled,
        "pseudo/particle_ratio": ratio,
        "pseudo/particle_ratio_valid": summary.particle_ratio_valid,
        "pseudo/target_ratio": summary.target_ratio,
        "pseudo/f1_cap": None if ratio is None else f1_cap(ratio, summary.target_ratio),
        "pseudo/ignored_fraction": summary.ignored_fraction,
        "quality/mean": summary.quality,
        "quality/confidence": summary.mean_confidence,
        "quality/particle": summary.particle_confidence,
        "quality/background": summary.background_confidence,
        "quality/balance": summary.balance,
        **{
            f"pseudo/particle_ratio/{source}": value
            for source, value in summary.particle_ratio_by_source.items()
        },
    }
    if audit is not None:
        audited = audit.scores()
        found |= {
            "pseudo/audit_precision": audited.precision,
            "pseudo/audit_recall": audited.recall,
            "pseudo/audit_f1": audited.f1,
        }
    return found


def _pooled_ratio(images: list[Assessment], *, of_labelled: bool) -> float | None:
    """PARTICLE pixels / all pixels, or / pixels that are not ignored; None without a pixel."""
    pixels = sum(one.pixels - (one.ignored_pixels if of_labelled else 0) for one in images)
    return sum(one.particle_pixels for one in images) / pixels if pixels else None


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
