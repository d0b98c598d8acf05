"""The benchmarks measure functions that exist: they name them as text."""

from __future__ import annotations

from benchmarks.guards import GUARDS
from benchmarks.tracking import WRITING


def test_every_function_that_is_measured_by_name_exists() -> None:
    named = [pair for group in GUARDS.values() for pair in group]
    named += [(owner, name) for owner, names in WRITING.items() for name in names]
    assert [(owner, name) for owner, name in named if not hasattr(owner, name)] == []
