"""What a person sees in MLflow's own pages: `cryossl ui`, its links, the run of an invocation; in a browser."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import browser
import psutil
import pytest
from mlflow import MlflowClient

PROJECT = Path(__file__).resolve().parents[2]
NO_ACCOUNTS = "mlflow/users/current"  # a server without accounts has no such page
NO_ASSISTANT = """try {
    localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')
    localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false') } catch {}"""
# How many corners each line of the first chart has: a colour per group, and the bands.
CORNERS = """(() => { const chart = document.querySelector('.js-plotly-plot')
    const lines = [...chart.querySelectorAll('.scatterlayer .js-line')].filter(one => one.getAttribute('d'))
    return [...new Map(lines.map(
        one => [one.style.stroke, one.getAttribute('d').split('L').length])).values()] })()"""


@dataclass(frozen=True)
class Served:
    """A store with two arms of two iterations, and what `cryossl ui` printed of it."""

    address: str
    curves: str
    axes: str
    database: Path


@pytest.fixture(scope="module")
def program() -> str:
    found = browser.installed()
    if found is None:
        pytest.skip("no browser: apt-get install chromium")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def recorded(new_lab):
    """A lab, its run of two iterations, and the views that the run kept."""
    made = new_lab()
    done = made.run("--max-iterations", "2", "--accept", "always")
    assert done.code == 0, done.err
    return made, done, dict(views(made))


@pytest.fixture(scope="module")
def served(program, recorded) -> Iterator[Served]:
    """`cryossl ui` as a process, ended as Ctrl-C ends it."""
    lab, *_ = recorded
    port = free_port()
    words = ["ui", "--port", str(port), "--tracking-uri", f"sqlite:///{lab.database}"]
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "cli.py"), *words],
        cwd=lab.folder,
        stdout=subprocess.PIPE,
        text=True,
        env={name: one for name, one in os.environ.items() if name != "MLFLOW_TRACKING_URI"},
    )
    assert process.stdout is not None
    links = []
    for line in process.stdout:
        links += re.findall(r"http\S+", line)
        if "Ctrl-C" in line:
            break
    try:
        assert len(links) == 2, "ui ended before it printed its links"
        yield Served(f"http://127.0.0.1:{port}", *links, lab.database)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        process.stdout.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def test_ctrl_c_ends_the_pages_while_their_server_still_starts(recorded):
    lab, *_ = recorded
    words = ["ui", "--port", str(free_port()), "--tracking-uri", f"sqlite:///{lab.database}"]
    with subprocess.Popen(
        [sys.executable, str(PROJECT / "cli.py"), *words],
        cwd=lab.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while process.poll() is None and not any(
            "mlflow" in child.cmdline() for child in psutil.Process(process.pid).children()
        ):
            time.sleep(0.05)
        time.sleep(0.3)  # it waits for an answer of the server now
        process.send_signal(signal.SIGINT)
        said, complaint = process.communicate(timeout=60)
    assert (process.returncode, said, complaint) == (0, "", "")


@pytest.fixture
def page(program, tmp_path) -> Iterator[browser.Page]:
    opened = browser.Page(program, tmp_path / "profile", width=1440, height=1000)
    opened.call("Page.addScriptToEvaluateOnNewDocument", source=NO_ASSISTANT)
    yield opened
    opened.close()


def run_named(served: Served, name: str):
    (found,) = MlflowClient(served.address).search_runs(["1"], f"attributes.run_name = '{name}'")
    return found


def clean(page: browser.Page, served: Served) -> None:
    """Nobody else was asked for anything, and nothing went wrong."""
    assert page.hosts == {urlsplit(served.address).netloc}
    assert [error for error in page.errors if NO_ACCOUNTS not in error] == []


def test_the_first_link_shows_f1_by_iteration_with_a_curve_for_each_strategy(served, page):
    page.open(served.curves)
    page.wait("document.querySelectorAll('.js-plotly-plot .scatterlayer .js-line').length > 1")
    text = page.text()
    assert all(f"Group: {name} 30%" in text for name in ("naive", "class_balanced"))
    assert all(f"{name} 30% (test/f1)" in text for name in ("naive", "class_balanced"))
    titles = (
        "Test F1 by iteration",
        "Gain over the supervised baseline",
        "Test F1 and gain by eight views",
        "Pseudo-labels",
        "Particle ratio of the pseudo-labels",
        "accepted",
        "best_step",
    )
    places = [text.find(f"\n{title}\n(") for title in titles]
    assert -1 not in places
    assert places == sorted(places)
    assert text.rfind("\n(") == text.find("\n(", places[-1] + 1)  # best_step is the last section
    assert set(page.ask(CORNERS)) == {3}  # the baseline and two students
    assert len(page.ask(CORNERS)) >= 2
    clean(page, served)


def test_the_second_link_has_the_strategy_among_the_axes(served, page):
    page.open(served.axes)
    page.wait("document.body.innerText.includes('Showing all runs')")
    page.wait("/naive[\\s\\S]*strategy[\\s\\S]*ratio_percent/.test(document.body.innerText)")
    assert "No charts in this section" not in page.text()
    assert all(f"{name} 30% s0" in page.text() for name in ("naive", "class_balanced"))
    clean(page, served)


def test_the_run_of_the_invocation_shows_the_table_and_the_verdicts(served, page):
    run = run_named(served, "pseudolabel_balanced 30% s0")
    page.open(
        f"{served.address}/#/experiments/1/runs/{run.info.run_id}?workflowType=machine_learning"
    )
    page.wait("document.querySelectorAll('table').length > 0")
    rows = page.ask("""[...document.querySelectorAll('table')].map(one =>
        [...one.rows].map(row => [...row.cells].map(cell => cell.textContent.trim())))""")
    shown = next(table for table in rows if table[0][0] == "strategy")
    assert [row[0] for row in shown[1:]] == ["supervised", "naive", "class_balanced"]
    for row in shown[1:]:
        f1 = run.data.metrics[f"f1/{row[0]}"]
        assert float(row[shown[0].index("test F1 (%)")]) == pytest.approx(100 * f1, abs=0.006)
        if row[0] != "supervised":
            gain = row[shown[0].index("gain over supervised (points)")]
            expected = run.data.metrics[f"f1/{row[0]}"] - run.data.metrics["f1/supervised"]
            assert float(gain) == pytest.approx(100 * expected, abs=0.011)
            assert run.data.metrics[f"gain/{row[0]}"] == pytest.approx(expected)
    arm = run_named(served, "naive 30% s0")
    assert f"naive: {arm.data.tags['cryossl.verdict']}" in page.text()
    files = {one.path for one in MlflowClient(served.address).list_artifacts(run.info.run_id)}
    assert "comparison.json" in files
    images = MlflowClient(served.address).list_artifacts(run.info.run_id, "images")
    assert any("f1_by_iteration" in one.path and one.path.endswith(".png") for one in images)
    clean(page, served)


@pytest.mark.parametrize("name", ["naive 30% s0", "naive 30% s0 it1", "supervised 30% s0"])
def test_a_run_notes_its_data_in_contexts_and_what_it_is_as_params(served, page, name):
    run = run_named(served, name)
    page.open(f"{served.address}/#/experiments/1/runs/{run.info.run_id}")
    page.wait("/Datasets[\\s\\S]*training/.test(document.body.innerText)")
    assert "tiny training" in page.text()
    contexts = {
        entry.dataset.name: [tag.value for tag in entry.tags if tag.key == "mlflow.data.context"]
        for entry in run.inputs.dataset_inputs
        if entry.dataset.name != "tiny"  # that of the model's scores
    }
    assert contexts == {f"tiny {one}": [one] for one in ("training", "validation", "test")}
    strategy, _, _, *iteration = name.split()
    params = run.data.params
    assert (params["strategy"], params["ratio_percent"], params["seed"]) == (strategy, "30", "0")
    assert params.get("iteration") == (
        iteration[0][2:] if iteration else "0" if strategy == "supervised" else None
    )
    assert (params["resolved.device"], params["resolved.threads"]) == ("cpu", "1")
    assert not [one for one in params if one.startswith("run.")]


def test_a_final_value_of_a_model_is_a_bar_and_an_epoch_a_curve(served, page):
    run = run_named(served, "naive 30% s0 it1")
    page.open(f"{served.address}/#/experiments/1/runs/{run.info.run_id}/model-metrics")
    page.wait("document.querySelectorAll('.js-plotly-plot .barlayer .point').length > 2")
    page.ask("[...document.querySelectorAll('.js-plotly-plot')].at(-1).scrollIntoView()")
    alone = page.ask("""[...document.querySelectorAll('.js-plotly-plot')].filter(one =>
        one.querySelectorAll('.barlayer .point').length === 0
        && one.querySelectorAll('.scatterlayer .point').length === 1).length""")
    assert alone == 0


def test_a_run_prints_the_link_and_ui_prints_the_same_page(recorded, served):
    _, done, _ = recorded
    (link,) = re.findall(r"http://127\.0\.0\.1:5000\S+", done.out)
    assert link == served.curves.replace(served.address, "http://127.0.0.1:5000")
    assert f"`cryossl ui --tracking-uri sqlite:///{recorded[0].database}` serves" in done.out


def test_ui_finds_the_views_as_the_run_kept_them(recorded, served):
    lab, _, kept = recorded
    assert len(kept) == 2
    assert dict(views(lab)) == kept


def test_a_port_in_use_and_a_store_that_is_not_there_are_one_line(recorded, tmp_path):
    lab, *_ = recorded
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        done = lab.call("ui", "--port", port, "--tracking-uri", f"sqlite:///{lab.database}")
    assert done.code == 2
    assert f"port {port}" in done.err
    missing = lab.call("ui", "--tracking-uri", f"sqlite:///{tmp_path}/none.db")
    assert missing.code == 3
    assert "there is no tracking store" in missing.err
    assert not (tmp_path / "none.db").exists()


def test_both_views_show_the_arms_of_the_newest_data_and_code(recorded):
    lab, _, kept = recorded
    assert sorted(kept) == [
        "mlflow.sharedViewState.cryossl-axes",
        "mlflow.sharedViewState.cryossl-curves",
    ]
    digests = lab.asked(
        "SELECT DISTINCT key, value FROM tags WHERE key IN ('cryossl.data_digest', 'cryossl.code_digest')"
    )
    assert len(digests) == 2
    for value in kept.values():
        form, _, packed = json.loads(value)["state"].partition(";")
        state = json.loads(zlib.decompress(base64.b64decode(packed)))
        assert form == "deflate"
        assert "tags.`cryossl.kind` = 'arm'" in state["searchFilter"]
        for name, digest in digests:
            assert f"tags.`{name}` = '{digest}'" in state["searchFilter"]


def views(lab) -> list[tuple[str, str]]:
    return lab.asked(
        "SELECT key, value FROM experiment_tags WHERE key LIKE 'mlflow.sharedViewState%'"
    )
