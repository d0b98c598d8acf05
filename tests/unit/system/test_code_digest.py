"""What counts as a change of code, and what does not."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from cryossl.system import code_digest as module
from cryossl.system.code_digest import ROOT, code_digest, needed_by, structure

CODE = '''
"""A module."""
LIMIT = 0.5  # a comment


def cut(values, *, limit=LIMIT):
    """The values above a limit."""
    return [f"{value:.2f}" for value in values if value > limit]
'''


def shape(code: str) -> object:
    return structure(ast.parse(code))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # a comment", ""),
        ('"""A module."""', '"""Another sentence."""\n# and a comment'),
        ('    """The values above a limit."""\n', ""),
        ("values, *, limit=LIMIT", "\n    values,\n    *,\n    limit = LIMIT,\n"),
        ("LIMIT = 0.5", 'LIMIT = 0.50\n"""An attribute\'s docstring."""'),
        ('f"{value:.2f}"', "f'{value:.2f}'"),
    ],
)
def test_comments_docstrings_and_formatting_do_not_count(old: str, new: str) -> None:
    assert old in CODE
    assert shape(CODE.replace(old, new)) == shape(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 0.5", "LIMIT = 0.51"),
        ("LIMIT = 0.5", "LIMIT = 1"),
        ("value > limit", "value >= limit"),
        (":.2f", ":.3f"),
        ("limit=LIMIT", "limit"),
        ("return [", "yield ["),
    ],
)
def test_a_changed_constant_operator_format_or_default_counts(old: str, new: str) -> None:
    assert old in CODE
    assert shape(CODE.replace(old, new)) != shape(CODE)


def test_true_is_another_constant_than_one_and_a_float_than_an_integer() -> None:
    assert len({repr(shape(f"x = {value}")) for value in ("1", "True", "1.0", "'1'", "b'1'")}) == 5


def test_every_module_of_the_numeric_wings_can_be_parsed_and_named() -> None:
    for wing in module.NUMERIC_WINGS:
        for path in (ROOT / "cryossl").glob(f"{wing}/**/*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            assert len(code_digest([name])) == 16


def test_what_a_module_imports_counts_and_what_has_a_key_of_its_own_does_not() -> None:
    closure = module._closure(["cryossl.network.training"])
    assert {
        "cryossl.network.objectives.supervised",
        "cryossl.network.losses",
        "cryossl.data.tiling",
        "cryossl.randomness",
    } <= set(closure)
    assert not any(
        f"{name}.".startswith(group) for name in closure for group in module.KEYED_ELSEWHERE
    )
    assert "cryossl.data.coco.records" in module._closure(["cryossl.data.store.store"])


def test_the_order_of_modules_does_not_matter() -> None:
    names = ["cryossl.network.losses", "cryossl.evaluation.metrics"]
    assert code_digest(names) == code_digest(names[::-1])


def test_the_sources_are_those_that_run() -> None:
    assert (
        module.module_path("cryossl.system.code_digest") == Path(inspect.getfile(module)).resolve()
    )


def test_what_a_module_needs_is_followed_through_all_its_imports() -> None:
    own, foreign = needed_by("cryossl.picking.choice")
    assert own == ["cryossl.evaluation.picking", "cryossl.picking.choice"]
    assert foreign == ["jaxtyping", "numpy", "scipy"]
