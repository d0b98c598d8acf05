"""The part of JSON Schema (2020-12) that docs/schemas use, checked strictly: a keyword that is not known here is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

KNOWN = {
    "$schema",
    "$id",
    "$defs",
    "$ref",
    "title",
    "description",
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "pattern",
    "minimum",
    "maximum",
    "minItems",
}
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
}


def faults(
    value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None, where: str = "$"
) -> Iterator[str]:
    """What of the value is not as the schema has it, with its place."""
    root = root if root is not None else schema
    if set(schema) - KNOWN:
        raise ValueError(f"the checker does not know {sorted(set(schema) - KNOWN)}")
    if "$ref" in schema:
        yield from faults(
            value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, where
        )
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(is_of(value, kind) for kind in kinds):
        yield f"{where}: {type(value).__name__}, wanted {' or '.join(kinds)}"
        return
    yield from plain_faults(value, schema, where)
    if isinstance(value, dict):
        yield from object_faults(value, schema, root, where)
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"{where}: too short"
        for index, item in enumerate(value):
            yield from faults(item, schema.get("items", {}), root, f"{where}[{index}]")


def is_of(value: Any, kind: str) -> bool:
    if kind in ("number", "integer"):
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and (kind == "number" or float(value).is_integer())
        )
    return isinstance(value, TYPES[kind])


def plain_faults(value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    if "const" in schema and value != schema["const"]:
        yield f"{where}: {value!r}, wanted {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r}, wanted one of {schema['enum']}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{where}: {value!r} does not match {schema['pattern']}"
    if is_of(value, "number") and not schema.get("minimum", value) <= value <= schema.get(
        "maximum", value
    ):
        yield f"{where}: {value} is out of range"


def object_faults(
    value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], where: str
) -> Iterator[str]:
    known = schema.get("properties", {})
    yield from (
        f"{where}: {name} is missing" for name in schema.get("required", []) if name not in value
    )
    rest = schema.get("additionalProperties", True)
    for name, item in value.items():
        if name in known:
            yield from faults(item, known[name], root, f"{where}.{name}")
        elif rest is False:
            yield f"{where}: {name} is not known"
        elif isinstance(rest, dict):
            yield from faults(item, rest, root, f"{where}.{name}")
