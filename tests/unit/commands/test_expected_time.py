"""How long a run takes, in words that claim no more than an estimate knows."""

from __future__ import annotations

import pytest

from cryossl.commands.expected_time import range_text


@pytest.mark.parametrize(
    ("least", "most", "text"),
    [
        (100.0, 110.0, "about 2 min"),
        (62.0, 70.0, "about 70 s"),
        (3.0, 4.0, "about 10 s"),
        (480.0, 1_700.0, "about 8 to 28 min"),
        (50.0, 80.0, "about 50 to 80 s"),
        (80.0, 600.0, "about 80 s to 10 min"),
        (3_000.0, 8_000.0, "about 50 min to 2 h 15 min"),
    ],
)
def test_a_time_is_one_number_or_a_range(least: float, most: float, text: str):
    assert range_text(least, most) == text
