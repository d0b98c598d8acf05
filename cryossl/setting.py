"""What a setting is: a default, what its value decides, a meaning with unit, and checks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo

Decides = Literal["training", "result", "cell", "content", "machine", "record", "nothing"]
"""What the value of a setting decides.

training: the weights of one training. result: another number of a result. cell: nothing but which
of several compared runs it is. content: it names a file or folder whose content decides. machine:
the last bits of a number. record: what is recorded beside the results. nothing: no number.
"""


def setting(default: Any, *, decides: Decides, description: str, **checks: Any) -> Any:
    """A field of a section: its default, what it decides, its meaning with unit, and its checks."""
    return Field(default, description=description, json_schema_extra={"decides": decides}, **checks)


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
    value = field.default
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def redacted(uri: str) -> str:
    """A URI, or a text with URIs in it, without user and password.

    An @ in a path or a file's name stays.
    """
    return re.sub(r"(?<=://)[^/\s]*@", "", uri)
