"""Names as a reader sees them: data sets without their folders, several names in a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


def short_names(datasets: Iterable[str]) -> Mapping[str, str]:
    """Data set -> its last folder, with as many folders above as keep different ones apart."""
    parts = {one: [part for part in re.split(r"[/\\]+", one) if part] for one in datasets}
    most = max((len(found) for found in parts.values()), default=0)
    for number in range(1, most + 1):
        names = {one: "/".join(found[-number:]) or one for one, found in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {one: one for one in parts}


def data_text(dataset: str) -> str:
    """A data set in a sentence."""
    if not dataset:
        return "unnamed data"
    return (
        "the embedded synthetic data" if dataset == "synthetic" else short_names([dataset])[dataset]
    )


def listed(names: Iterable[str]) -> str:
    """`a, b and c`."""
    *most, last = list(names) or [""]
    return f"{', '.join(most)} and {last}" if most else last
