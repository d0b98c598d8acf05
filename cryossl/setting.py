"""What a setting is: a default, what its value decides, a meaning with unit, and checks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic.fields import FieldInfo

Decides = Literal["training", "result", "cell", "content", "machine", "record", "nothing"]
"""What the value of a setting decides; the annotation of each setting says it once."""


@dataclass(frozen=True)
class Mark:
    """Says in the annotation of a setting what its value decides."""

    decides: Decides


@dataclass(frozen=True)
class Unit:
    """The unit of a setting's number, or what kind of text it is: `px`, `seconds`, `folder`."""

    word: str


FAR = str(2**31)
"""A limit of the machine, not of the matter: no help text names it."""

Value = TypeVar("Value")
Training = Annotated[Value, Mark("training")]
"""The weights of one training."""
Result = Annotated[Value, Mark("result")]
"""Another number of a result."""
Cell = Annotated[Value, Mark("cell")]
"""Which of several compared runs it is, and nothing else."""
Content = Annotated[Value, Mark("content")]
"""It names data, and their content decides: a file, a folder, a part of the split."""
Machine = Annotated[Value, Mark("machine")]
"""The last bits of a number."""
Record = Annotated[Value, Mark("record")]
"""What is recorded beside the results."""
Nothing = Annotated[Value, Mark("nothing")]
"""No number."""


class Section(BaseModel):
    """A frozen group of settings; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _without_control_characters(cls, value: object) -> object:
        """Names, paths and addresses have none: a NUL in a path fails in every system call."""
        texts = value if isinstance(value, tuple) else (value,)
        if any(
            re.search(r"[\x00-\x1f\x7f]", str(text))
            for text in texts
            if isinstance(text, (str, Path))
        ):
            raise ValueError("control characters are not allowed")
        return value


def default_text(field: FieldInfo) -> str:
    """The default of a setting as it is typed on the command line; empty if there is none."""
    return value_text(field.default)


def value_text(value: object) -> str:
    """The value of a setting as it is typed on the command line; empty for none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def choices_of(annotation: Any) -> tuple[str, ...]:
    """The texts that a setting of this type can be, as far as they can be listed."""
    if annotation is bool:
        return "true", "false"
    if get_origin(annotation) is Literal:
        return tuple(map(str, get_args(annotation)))
    if get_origin(annotation) in (None, tuple):
        return ()
    inner = (annotation.__origin__,) if _is_annotated(annotation) else get_args(annotation)
    return tuple(text for one in inner for text in choices_of(one))


def placeholder(field: FieldInfo) -> str:
    """What stands for the value of a setting in `--help`: `[cpu|cuda]`, `PX`, `[auto|PX]`."""
    choices, word = choices_of(field.annotation), _word(field.annotation, field.metadata)
    if not choices:
        return word
    return f"[{'|'.join([*choices, *([word] if word else [])])}]"


def limits_text(field: FieldInfo) -> str:
    """The limits of a setting's number that a person may meet: `>= 0, <= 1`; empty without any."""
    inner = [
        one for kind in get_args(field.annotation) for one in getattr(kind, "__metadata__", ())
    ]
    limits = (_limits([one]) for one in (*field.metadata, *inner) if not hasattr(one, "pattern"))
    return ", ".join(text for text in limits if text and not text.endswith(FAR))


def _word(annotation: Any, metadata: Any) -> str:
    """The unit, else the kind of a value that cannot be listed; empty if all values can."""
    units = [one.word for one in metadata if isinstance(one, Unit)]
    if _is_annotated(annotation):
        return _word(annotation.__origin__, annotation.__metadata__)
    if get_origin(annotation) is tuple:
        return "LIST"
    if get_origin(annotation) is Literal or annotation in (bool, type(None)):
        return ""
    if get_args(annotation):
        return next(filter(None, (_word(one, metadata) for one in get_args(annotation))), "")
    kinds = {int: "NUMBER", float: "NUMBER", str: "TEXT", Path: "PATH"}
    return units[0].upper() if units else kinds[annotation]


def _is_annotated(annotation: Any) -> bool:
    return hasattr(annotation, "__metadata__")


def allowed_text(field: FieldInfo) -> str:
    """The allowed values of a setting, in words; texts to type stand in backquotes."""
    units = [one.word for one in field.metadata if isinstance(one, Unit)]
    if isinstance(field.default, tuple) and units:
        return f"`{units[0]}`, separated by commas"
    return " ".join(filter(None, (_kind(field.annotation), _limits(field.metadata))))


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(annotation))
    if hasattr(annotation, "__metadata__"):
        return " ".join(
            filter(None, (_kind(annotation.__origin__), _limits(annotation.__metadata__)))
        )
    if (
        get_origin(annotation) is not None
        and get_args(annotation)
        and get_origin(annotation) is not tuple
    ):
        return " or ".join(_kind(one) for one in get_args(annotation) if one is not type(None))
    names = {
        int: "whole number",
        float: "number",
        bool: "`true`, `false`",
        str: "text",
        Path: "path",
    }
    return names.get(annotation, "names, separated by commas")


def _limits(metadata: Any) -> str:
    """`>= 0, < 1` from pydantic's constraints, those of an Annotated type included."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    flat = [part for one in metadata for part in (getattr(one, "metadata", None) or [one])]
    limits = [
        f"{sign} {getattr(one, name):.10g}"
        for one in flat
        for name, sign in signs.items()
        if getattr(one, name, None) is not None
    ]
    patterns = [getattr(one, "pattern", None) for one in flat]
    return ", ".join([*limits, *(f"that matches `{pattern}`" for pattern in patterns if pattern)])
