"""Digests of the code and libraries that compute a result, so that a changed line is a changed key.

The parsed code is hashed: comments, docstrings and formatting do not count. Sources are followed
through their imports within the wings that compute numbers.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

from cryossl.system.digest import digest

ROOT = Path(__file__).resolve().parents[2]
NUMERIC_WINGS = ("data", "network", "pseudolabels", "evaluation", "randomness")
"""Imports are followed into these wings and files; the other ones move no number."""

KEYED_ELSEWHERE = (("cryossl.data.store.", "cryossl.data.coco."), ("cryossl.pseudolabels.pool.",))
"""Groups of modules that are followed only from within: what they make has a key of its own."""

LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "numpy": ("numpy",),
    "scipy": ("scipy",),
    "torch": ("torch",),
    "segmentation_models_pytorch": ("segmentation-models-pytorch", "timm"),
    "PIL": ("pillow",),
    "pycocotools": ("pycocotools",),
    "imagecodecs": ("imagecodecs",),
    "tifffile": ("tifffile",),
    "mrcfile": ("mrcfile",),
}
"""Imported package -> the distributions whose versions can move a number."""


def code_digest(modules: Iterable[str]) -> str:
    """Digest of some modules, of what they import in the numeric wings, and of library versions.

    Args:
        modules: dotted names, e.g. `cryossl.network.training`.

    Returns:
        16 hex digits; equal for code that differs in comments, docstrings and formatting alone, and
        the same for every Python version.
    """
    return _code_digest(tuple(sorted(modules)))


@cache
def _code_digest(modules: tuple[str, ...]) -> str:
    sources = {name: _parsed(module_path(name)) for name in _closure(modules)}
    used = {name.split(".")[0] for tree in sources.values() for name in _imported(tree)}
    versions = {
        distribution: metadata.version(distribution)
        for package in sorted(used & LIBRARIES.keys())
        for distribution in LIBRARIES[package]
    }
    return digest(
        {
            "sources": {name: structure(tree) for name, tree in sources.items()},
            "versions": versions,
        }
    )[:16]


def needed_by(module: str) -> tuple[list[str], list[str]]:
    """What a module needs: modules of cryossl, itself included, and packages of others; sorted."""
    own: set[str] = set()
    foreign: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        own.add(name)
        for other in _imported(_parsed(module_path(name))):
            package = other.partition(".")[0]
            if package != "cryossl":
                foreign.add(package)
            elif other not in own and module_path(other).is_file():
                waiting.append(other)
    return sorted(own), sorted(foreign - sys.stdlib_module_names)


def structure(tree: object) -> object:
    """A syntax tree as lists and plain values, without places, docstrings and empty fields.

    It is the same for every Python version, which `ast.dump` is not.
    """
    if isinstance(tree, ast.AST):
        fields = {}
        for name, value in ast.iter_fields(tree):
            if name == "body" and isinstance(value, list):
                value = [one for one in value if not _is_text(one)]
            shown = (
                [structure(one) for one in value] if isinstance(value, list) else structure(value)
            )
            if shown not in (None, []) and name not in ("ctx", "kind", "type_comment"):
                fields[name] = shown
        return [type(tree).__name__, fields]
    return tree if isinstance(tree, (str, int, bool, type(None))) else repr(tree)


def _is_text(statement: ast.AST) -> bool:
    """Whether a statement is a docstring, of a module, class, function or attribute."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _closure(modules: Sequence[str]) -> list[str]:
    """The modules and what they import in the numeric wings, by name."""
    keyed = tuple(
        name
        for group in KEYED_ELSEWHERE
        if not any(f"{module}.".startswith(group) for module in modules)
        for name in group
    )
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if name.split(".")[1] in NUMERIC_WINGS:
            waiting += [
                other
                for other in _imported(_parsed(module_path(name)))
                if _is_numeric(other) and not f"{other}.".startswith(keyed)
            ]
    return sorted(found)


def _is_numeric(name: str) -> bool:
    parts = name.split(".")
    numeric = parts[0] == "cryossl" and len(parts) > 1 and parts[1] in NUMERIC_WINGS
    return numeric and module_path(name).is_file()


def _imported(tree: ast.Module) -> Iterator[str]:
    """The modules that a module imports; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_path(module: str) -> Path:
    """The file of a module of cryossl; there may be none."""
    return ROOT / (module.replace(".", "/") + ".py")


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())
