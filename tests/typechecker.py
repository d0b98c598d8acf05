"""The decorator that checks types while tests run."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

# An int is welcome where a float is asked for, as it is to mypy.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
