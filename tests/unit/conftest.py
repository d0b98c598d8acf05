"""Fixtures that several files share; each stands beside the makers that it needs."""

from __future__ import annotations

from served_archives import site
from small_stores import dataset

__all__ = ["dataset", "site"]
