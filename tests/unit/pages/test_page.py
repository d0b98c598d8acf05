"""Pages that need nothing beside them and run nothing, and the one look that they share."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from cryossl.pages import page, palette
from cryossl.picking.contact_sheet import page as contact_sheet

PROJECT = Path(__file__).resolve().parents[3]
EVIL = "<script>alert(1)</script>{{ 7 * 7 }}"


@pytest.fixture
def template(tmp_path: Path) -> Path:
    made = tmp_path / "one.html.j2"
    made.write_text(
        '{% extends "page.html.j2" %}{% block body %}<p>{{ word }}</p>{% endblock %}',
        encoding="utf-8",
    )
    return made


def test_words_from_outside_stay_words(template: Path) -> None:
    text = page.render(template, title=EVIL, word=EVIL)
    assert "<script" not in text
    assert text.count("{{ 7 * 7 }}") == 2


def test_the_policy_allows_the_pages_own_style_and_nothing_else(template: Path) -> None:
    text = page.render(template, title="a", word="b")
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert "default-src &#39;none&#39;" in policy
    assert f"sha256-{digest}" in policy
    assert "url(" not in style
    assert "@import" not in style


def test_a_value_that_is_missing_is_an_error_and_no_gap(template: Path) -> None:
    with pytest.raises(UndefinedError):
        page.render(template, title="a")


def test_a_file_in_a_page_is_read_back_from_its_address() -> None:
    kind, _, content = page.data_uri("image/png", b"\x00\xffpng").partition(";base64,")
    assert (kind, b64decode(content)) == ("data:image/png", b"\x00\xffpng")


def test_the_sheet_of_picks_shares_the_style_of_the_report(template: Path) -> None:
    style = r"<style>.*?</style>"
    sheet = contact_sheet("Picks", {}, [], {}, lambda _: None)
    other = page.render(template, title="a", word="b")
    assert re.findall(style, sheet, re.DOTALL) == re.findall(style, other, re.DOTALL)


def test_colours_are_read_as_red_green_and_blue() -> None:
    assert palette.rgb("#FF8001") == (255, 128, 1)


def test_the_colours_of_the_palette_are_written_in_one_module() -> None:
    names = {
        value.lower()
        for name, value in vars(palette).items()
        if name.isupper() and isinstance(value, str)
    } - {palette.BLACK}
    assert len(names) == 8
    found = [
        (path.name, colour)
        for folder in ("analysis", "cryossl", "scripts")
        for path in (PROJECT / folder).rglob("*.py")
        if path.name != "palette.py"
        for colour in re.findall("#[0-9a-fA-F]{6}", path.read_text(encoding="utf-8"))
        if colour.lower() in names
    ]
    assert found == []
