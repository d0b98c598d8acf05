"""The named recipes: naive, class_balanced, and every step between them, as values of one `Selection`.

Three factors lead from naive to class_balanced, and each sets one part of the recipe and no other: `class_thresholds`
the rule of a pixel, `balance_quality` the quality of an image, `quota` which images are kept.
"""

from __future__ import annotations

from cryossl.config import SelectionSettings
from cryossl.recipes import parse_strategy
from cryossl.selection import AllAbove, BestPerLabelled, Quality, Selection


def rules_text(selection: Selection) -> str:
    """The rules of a strategy in words, for the page of its run."""
    quality, keep = selection.quality, selection.keep
    terms = {"mean confidence": quality.confidence, "particle confidence": quality.particle,
             "background confidence": quality.background, "balance": quality.balance}
    weighted = " + ".join(f"{weight:g} {term}" for term, weight in terms.items() if weight)
    kept = (f"the best {keep.multiple:g} images per labelled one" if isinstance(keep, BestPerLabelled)
            else f"every image of quality {keep.threshold:g} or more")
    scale = (" (naive's bar, which here lies on another scale: it was meant for the mean confidence, and is now one on balance)"
             if isinstance(keep, AllAbove) and quality.balance else "")
    return (f"A pixel is particle from {selection.particle_threshold:g}, background from {selection.background_threshold:g}; "
            f"quality = {weighted}; kept: {kept}{scale}.")


def selection_for(name: str, settings: SelectionSettings) -> Selection:
    """The rules of a strategy: `naive`, `class_balanced`, `naive+F...` or `class_balanced-F...`.

    Without `quota` the keep rule is naive's, quality >= naive_threshold, whichever quality that is.

    Raises ValueError for an unknown name and for `supervised_long`, which selects nothing; ConfigError if the
    thresholds overlap.
    """
    base, factors = parse_strategy(name)
    if base == "supervised_long":
        raise ValueError("supervised_long trains on labels alone: it has no selection")
    by_class = "class_thresholds" in factors
    balanced = Quality(
        particle=settings.quality_particle, background=settings.quality_background, balance=settings.quality_balance
    )
    return Selection(
        particle_threshold=settings.particle_threshold if by_class else settings.naive_threshold,
        background_threshold=settings.background_threshold if by_class else settings.naive_threshold,
        quality=balanced if "balance_quality" in factors else Quality(confidence=1.0),
        keep=BestPerLabelled(settings.max_pseudo_per_labelled) if "quota" in factors
        else AllAbove(settings.naive_threshold),
        uncertain_pixels=settings.uncertain_pixels,
    )
