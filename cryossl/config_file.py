"""Config from a config file and options; options win.

A config file is YAML without aliases or tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from cryossl.config import Config, fields, sections
from cryossl.errors import ConfigError, nearest
from cryossl.setting import allowed_text
from cryossl.strategy_settings import normal_entries
from cryossl.system.user_files import read_text

_LARGEST_BYTES = 2**20


class _PlainLoader(yaml.SafeLoader):
    """Loads scalars, lists and mappings only, and no name twice.

    An alias could expand without bound; a tag could fail in any way.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ConfigError(
                "aliases are not allowed in a config file", cure="write the value out"
            )
        if getattr(self.peek_event(), "tag", None):  # type: ignore[no-untyped-call]
            raise ConfigError(
                "tags are not allowed in a config file",
                cure="write the value alone, in quotes if it has a !",
            )
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in names:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value:.80} is set twice", problem_mark=key.start_mark
                )
            names.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node


def load(
    path: Path | None,
    options: Mapping[str, Any],
    *,
    yielding: Mapping[str, str],
    preset: Mapping[str, Any] | None = None,
) -> tuple[Config, list[str]]:
    """The config of a file and options, and the names of options that gave way to the file.

    Args:
        path: config file, or None. Settings stand at the top level or below their section's name.
        options: field name -> text as typed; these win over the file.
        yielding: field name -> text of options that were not typed by a user but filled in with
            their defaults by the project file; they give way to the config file.
        preset: field name -> value of a named set of settings, over which the file wins.

    Raises:
        ConfigError: unreadable file, unknown setting, value out of range.
    """
    filed = {**(preset or {}), **(_read(path) if path is not None else {})}
    overridden = [
        name for name, text in options.items() if name in filed and yielding.get(name) == text
    ]
    typed = {name: text for name, text in options.items() if name not in overridden}
    return build({**filed, **typed}), overridden


def _read(path: Path) -> dict[str, Any]:
    """Setting -> value of a config file, without its sections.

    A relative path `labelled` starts at the file's own folder.
    """
    document = read_document(path, name=f"config file {path}")
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"config file {path} must hold `setting: value` lines")
    values: dict[str, Any] = {}
    for name, value in document.items():
        group = value if name in sections() and isinstance(value, dict) else {name: value}
        for setting, given in group.items():
            if setting in values:
                raise ConfigError(f"config file {path} sets {setting} twice")
            values[str(setting)] = given
    if isinstance(values.get("labelled"), str) and values["labelled"]:
        values["labelled"] = str(path.parent / values["labelled"])
    return values


def read_document(path: Path, *, name: str) -> object:
    """The document of a YAML file without aliases and tags.

    Raises ConfigError that calls the file by `name` and gives the line.
    """
    text = read_text(path, name=name, fault=ConfigError, max_bytes=_LARGEST_BYTES)
    try:
        # The loader is a SafeLoader without aliases: it builds plain values only.
        return yaml.load(text, Loader=_PlainLoader)  # noqa: S506
    except RecursionError:
        raise ConfigError(f"{name} is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        where = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{name}{where}: {error.problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{name} is not YAML") from None
    except ValueError as error:  # of a date or number that YAML takes for one and Python does not
        raise ConfigError(f"{name} holds a date or number that is none ({error})") from None


def build(values: Mapping[str, Any]) -> Config:
    """Config from field name -> value; fields without a value have their defaults.

    A value is text as typed, or of the field's own type. Raises ConfigError.
    """
    known = fields()
    unknown = sorted(set(values) - set(known))
    if unknown:
        names = ", ".join(f"{name!r:.80}" for name in unknown)
        likely = nearest(unknown[0], [*known, *sections()])
        raise ConfigError(
            f"unknown setting{'s' * (len(unknown) > 1)} {names}",
            cure=f"{likely}`cryossl run --help` lists the settings",
        )
    nested: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, field = known[name]
        if isinstance(value, bool) and not isinstance(field.default, bool):
            # A field of numbers would take it as 1 or 0.
            raise ConfigError(
                f"{name}: {value} is a truth value, as YAML reads yes and no too",
                cure="put a name in quotes",
            )
        nested.setdefault(section, {})[name] = _typed(value, field)
    try:
        config = Config.model_validate(nested)
    except ValidationError as error:
        # A setting of several kinds has a fault for each.
        faults = {_name(fault): _fault(fault) for fault in reversed(error.errors())}
        raise ConfigError("; ".join(reversed(faults.values()))) from None
    entries = normal_entries(config)
    if entries == config.selection.strategy_settings:
        return config
    selection = config.selection.model_copy(update={"strategy_settings": entries})
    return config.model_copy(update={"selection": selection})


def _typed(value: object, field: FieldInfo) -> object:
    """Split a comma-separated text where the field is a tuple.

    An empty text becomes None where that is the default.
    """
    if isinstance(field.default, tuple):
        # Of texts; an EMPIAR entry without quotes is a number in YAML.
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        entries = value if isinstance(value, (list, tuple)) else (value,)
        return tuple(str(entry) if type(entry) is int else entry for entry in entries)
    return None if value == "" and field.default is None else value


def _name(fault: Any) -> str:
    return str(fault["loc"][1] if len(fault["loc"]) > 1 else fault["loc"][0])


def _fault(fault: Any) -> str:
    """What is wrong with the value of a setting, and all that it may be."""
    name = _name(fault)
    # An address may hold a password.
    got = "" if name == "tracking_uri" else f"{fault['input']!r:.200}"
    if fault["type"] == "value_error":  # of a check of our own, which says it
        message = fault["msg"].removeprefix("Value error, ")
        return f"{name}: {message}{got and f', got {got}'}"
    return f"{name}: {got or 'this'} is not allowed, it may be {allowed_text(fields()[name][1])}"
