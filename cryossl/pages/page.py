"""A template with values -> one HTML file that needs nothing beside it and runs nothing."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HERE = Path(__file__).parent


def render(template: Path, *, title: str, **values: Any) -> str:
    """The page of a template that extends `page.html.j2`; words in values stay words.

    All pages share one style sheet. A content security policy in the head makes browsers refuse
    scripts and everything from outside.
    """
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader([template.parent, _HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(
        title=title,
        style=style,
        policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'",
        **values,
    )


def data_uri(kind: str, content: bytes) -> str:
    """The address of a file that is part of the page; `kind` is its media type."""
    return f"data:{kind};base64,{b64encode(content).decode()}"
