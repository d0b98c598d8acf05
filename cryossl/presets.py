"""Named sets of settings; options and config files win over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

QUICK: Mapping[str, Any] = {
    "baseline_epochs": 1,
    "student_epochs": 1,
    "least_steps": 150,
    "max_iterations": 1,
    "name": "quick",
}
"""`run --quick`: a verdict on the embedded data in about two minutes on two cores."""

QUICK_SAYS = (
    "--quick: a demonstration. Its trainings are short and each strategy has one student, so its "
    "verdict says how a run looks, not whether self-training helps"
)
