"""The report and MLflow's own comparison of its arms, as a person sees them in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import browser
import pytest
from counted_frames import grid
from light_server import Server
from mlflow import MlflowClient
from recorded_grid import record_grid

PROJECT = Path(__file__).resolve().parents[2]
PHONE_PX, SCREEN_PX = 400, 1280
EVIL = "<script>alert(1)</script><img src=http://outside.invalid/x onerror=alert(2)>"
# The rows of a table; where a line heads several rows, what it says is the first cell of each.
FOR_PROGRAMS = ("ratio", "labelled_count", "finished_seeds")  # columns of CSV and JSON alone
TABLE = """[...document.querySelectorAll('.scroll')].filter(one => one.ariaLabel === %s).map(
    one => [...one.querySelectorAll('tbody tr:not(:has(.group))')].map(row => [
        ...[...row.parentNode.querySelectorAll('.group')].map(head => head.textContent.replace(/ labelled$/, '')),
        ...[...row.cells].map(cell => cell.textContent)]))"""
# Colours of a figure as it is drawn: a blank or broken one has next to none.
COLOURS = """[...document.querySelectorAll('.figures img, .main img')].map(drawn => {
    const canvas = document.createElement('canvas'), pen = canvas.getContext('2d');
    [canvas.width, canvas.height] = [drawn.naturalWidth, drawn.naturalHeight];
    pen.drawImage(drawn, 0, 0);
    return new Set(new Uint32Array(pen.getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size })"""

GRIDS = """[...document.querySelectorAll('[role=grid]')].map(
    one => [...one.querySelectorAll('[role=rowgroup] > *')].map(cell => cell.textContent))"""
# How many points each curve has, a colour per run: MLflow draws it twice, smoothed and pale.
CORNERS = """[...new Map([...document.querySelectorAll('.scatterlayer .js-line')].map(
    line => [line.style.stroke, line.getAttribute('d').split('L').length])).values()]"""
# a server without accounts has no such page, and MLflow's own asks for it
NO_ACCOUNTS = "mlflow/users/current"


@dataclass(frozen=True)
class Scene:
    """A server with runs, the report of them, and what `compare` says of them."""

    server: str
    report: Path
    compared: Mapping[str, Any]
    ids: Mapping[str, str]


def typed(uri: str, *words: str, cwd: Path) -> str:
    return subprocess.run(
        [sys.executable, str(PROJECT / "cli.py"), *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"MLFLOW_TRACKING_URI": uri},
    ).stdout


@pytest.fixture(scope="module")
def program() -> str:
    found = browser.installed()
    if found is None:
        pytest.skip("no browser: apt-get install chromium")
    return found


@pytest.fixture(scope="module")
def scene(program, store_template, tmp_path_factory) -> Iterator[Scene]:
    """Words from outside (data set, settings, micrographs, proteins, run names) try to run a script."""
    rows, documents = grid(seeds=[0, 1], micrographs=10)
    rows = [
        row | {"cryossl.dataset": f"data {EVIL}", "network.encoder": EVIL, f"test/f1/{EVIL}": 0.5}
        for row in rows
    ]
    for document in documents.values():
        for one in document["test"]:
            one |= {"id": one["id"] + EVIL, "source": one["source"] + EVIL}
    folder = tmp_path_factory.mktemp("scene")
    shutil.copyfile(store_template, folder / "mlflow.db")
    served = Server(f"sqlite:///{folder}/mlflow.db", folder)
    served.start()
    try:
        ids = record_grid(served.uri, folder, rows, documents)
        typed(served.uri, "report", cwd=folder)
        compared = json.loads(typed(served.uri, "compare", "--format", "json", cwd=folder))
        yield Scene(served.uri, folder / "report.html", compared, ids)
    finally:
        served.kill()


@pytest.fixture
def page(program, tmp_path) -> Iterator[browser.Page]:
    opened = browser.Page(program, tmp_path / "profile", width=SCREEN_PX)
    yield opened
    opened.close()


def test_the_browser_tells_of_a_request_an_error_and_a_script_that_ran(page, tmp_path):
    (tmp_path / "bad.html").write_text(f"<p>bad</p>{EVIL}<script>nothing_of_this_name()</script>")
    page.open((tmp_path / "bad.html").as_uri())
    page.wait("document.images[0].complete")
    assert page.hosts == {"outside.invalid"}
    assert page.dialogs[0] == "1"
    assert any("nothing_of_this_name" in error for error in page.errors)


def test_the_report_asks_nobody_and_runs_nothing_that_it_was_given(scene, page):
    page.open(scene.report.as_uri())
    page.ask("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert page.ask(
        "[document.scripts.length, document.querySelectorAll('[onerror], iframe, object, "
        "link').length]"
    ) == [0, 0]
    assert EVIL in page.text()
    assert (page.hosts, page.errors, page.dialogs) == (set(), [], [])


def test_the_tables_on_the_page_are_those_of_compare(scene, page):
    page.open(scene.report.as_uri())
    tables = scene.compared["tables"]
    assert {"note", "by_ratio", "evidence", "aspects", "iterations", "sources"} <= set(tables)
    for table in tables.values():
        (seen,) = page.ask(TABLE % json.dumps(table["title"]))
        assert len(seen) == len(table["rows"])
        for full_row, cells in zip(table["rows"], seen, strict=True):
            row = {name: cell for name, cell in full_row.items() if name not in FOR_PROGRAMS}
            for name, text in zip(row, cells, strict=True):
                mark = r"(?:[✓~✗·?] )?" if name == "verdict" else ""
                assert re.fullmatch(mark + re.escape(row[name]["text"]), text), (
                    table["name"],
                    name,
                )
                if isinstance(row[name]["value"], float):
                    number = re.match(r"[-+]?[\d.]+", text)
                    assert number
                    digits = len(number[0].partition(".")[2])
                    assert float(number[0]) == pytest.approx(
                        row[name]["value"], abs=0.51 * 10**-digits
                    )


def test_every_figure_of_the_report_is_drawn(scene, page):
    page.open(scene.report.as_uri())
    page.ask("document.querySelectorAll('details').forEach(one => { one.open = true })")
    page.ask(
        "[...document.images].forEach(one => one.scrollIntoView())"
    )  # those far below load when they are come near
    page.wait("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    colours = page.ask(COLOURS)
    assert len(colours) == len(re.findall("<figcaption>", scene.report.read_text())) - page.ask(
        "document.querySelectorAll('.pictures img').length"
    )
    assert min(colours) > 20


def test_small_pictures_are_not_enlarged_and_large_ones_are_not_cut(scene, page):
    page.open(scene.report.as_uri())
    page.ask("document.querySelectorAll('details').forEach(one => { one.open = true })")
    page.ask("[...document.images].forEach(one => one.scrollIntoView())")
    page.wait("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    sizes = page.ask(
        "[...document.querySelectorAll('.pictures img')].map(one => [one.width, one.naturalWidth, "
        "one.parentNode.clientWidth])"
    )
    assert sizes
    for width, natural, room in sizes:
        assert width == min(natural, room)


@pytest.mark.parametrize("width", [PHONE_PX, SCREEN_PX])
def test_the_command_that_made_the_report_is_read_to_its_end(scene, page, width):
    page.resize(width)
    page.open(scene.report.as_uri())
    assert page.ask("(one => one.scrollWidth <= one.clientWidth)(document.querySelector('pre'))")


def test_the_contents_lead_to_their_headings(scene, page):
    page.open(scene.report.as_uri())
    missing = page.ask(
        "[...document.querySelectorAll('nav a')].filter(one => "
        "document.querySelector(one.getAttribute('href'))?.tagName !== 'H2').length"
    )
    assert missing == 0
    assert page.ask("document.querySelectorAll('nav a').length") >= 5


@pytest.mark.parametrize("width", [PHONE_PX, SCREEN_PX])
def test_the_report_does_not_scroll_sideways(scene, page, width):
    page.resize(width)
    page.open(scene.report.as_uri())
    page.ask("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert page.ask("innerWidth") == width
    assert page.ask("document.scrollingElement.scrollWidth") <= width


def test_mlflow_shows_the_arms_side_by_side_with_their_curves(scene, page):
    names = ["naive 5% seed 0", "class_balanced 5% seed 0"]
    arms = [scene.ids[name.replace("% seed ", "-").replace(" ", "-")] for name in names]
    client = MlflowClient(scene.server)
    recorded = [client.get_run(arm).data.metrics for arm in arms]

    page.open(
        f"{scene.server}/#/compare-runs?runs={json.dumps(arms, separators=(',', ':'))}&experiments=%5B%221%22%5D"
    )
    page.wait("document.querySelectorAll('.js-plotly-plot .axis').length > 0")
    page.wait("document.querySelectorAll('[role=grid]').length > 1")
    assert all(name in page.text() for name in names)
    keys, values = page.ask(GRIDS)[:2]
    row = keys.index("test/f1")
    assert [float(one) for one in values[2 * row : 2 * row + 2]] == [
        round(one["test/f1"], 3) for one in recorded
    ]

    page.ask(
        "[...document.querySelectorAll('[role=grid] a')].find(one => one.textContent === "
        "'test/f1').click()"
    )
    page.wait("document.querySelectorAll('.scatterlayer .js-line').length > 1")
    steps = [len(client.get_metric_history(arm, "test/f1")) for arm in arms]
    assert page.ask(CORNERS) == steps
    assert all(f"{name} (test/f1)" in page.text() for name in names)
    assert all(str(one["test/f1"]) in page.text() for one in recorded)
    assert page.hosts == {urlsplit(scene.server).netloc}
    assert [error for error in page.errors if NO_ACCOUNTS not in error] == []
    assert page.dialogs == []


def test_a_number_of_the_report_leads_to_its_runs_in_mlflow(scene, page):
    page.open(scene.report.as_uri())
    page.ask("window.one = document.querySelector('td a[href*=compare-runs]')")
    address, title = page.ask("[one.href, one.closest('td').title]")
    runs = re.findall("[0-9a-f]{32}", title)
    assert address.startswith(scene.server)
    page.open(address)
    page.wait(f"document.body.innerText.includes('Comparing {len(runs)} Runs')")
    assert (
        page.ask(
            f"{json.dumps(runs)}.filter(run => !document.querySelector(`a[href*='runs/${{run}}']`))"
        )
        == []
    )
