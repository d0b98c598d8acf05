"""The pages beside docs/ become pages of the site too: README is its start. A hook of MkDocs."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""File of the project -> its page in the site."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages, with links that lead to the same pages in the site."""
    for name, page in PAGES.items():
        text = (PROJECT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_relinked(text)))
    return files


def _relinked(text: str) -> str:
    text = re.sub(r"\]\(docs/", "](", text)
    for name, page in PAGES.items():
        text = text.replace(f"]({name}", f"]({page}")
    return text
