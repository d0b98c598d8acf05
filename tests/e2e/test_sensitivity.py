"""`compare --by`, `report --by` and `--where` over real runs: three values of a threshold, two seeds."""

from __future__ import annotations

import base64
import csv
import io
import json
import signal
import socket
import statistics
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from mlflow import MlflowClient

from cryossl.tracking.store.views import CURVES, SETTINGS
from cryossl.tracking.tracker import Tracker

PROJECT = Path(__file__).resolve().parents[2]
VALUES = ("0.5", "0.6", "0.9")
BY = "selection.particle_threshold"


@pytest.fixture(scope="module")
def swept(new_lab):
    """A lab with the runs; that of 0.6, the default, has a group of its own as the others."""
    lab = new_lab()
    for value in VALUES:
        for seed in ("0", "1"):
            done = lab.run(
                *("--particle-threshold", value, "--seed", seed),
                *("--accept", "always", "--baseline-epochs", "4", "--student-epochs", "2"),
            )
            assert done.code == 0, done.err
    return lab


def asked(lab, command: str, *words: str):
    return lab.call(command, *words, "--tracking-uri", f"sqlite:///{lab.database}")


def test_the_table_holds_the_numbers_of_the_runs(swept):
    done = asked(swept, "compare", "--by", "particle_threshold", "--format", "csv")
    assert (done.code, done.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    rows = {(row["strategy"], row["particle_threshold"]): row for row in rows}
    assert set(rows) >= {("supervised", "all"), ("naive", "all"), ("class_balanced", "0.6")}
    client = MlflowClient(f"sqlite:///{swept.database}")
    final: dict[str, dict[str, float]] = {}
    for arm in client.search_runs(["1"], "tags.`cryossl.kind` = 'arm'"):
        if arm.data.tags["cryossl.strategy"] == "class_balanced":
            scores = final.setdefault(arm.data.params[BY], {})
            scores[arm.data.tags["cryossl.seed"]] = 100 * arm.data.metrics["accepted/test_f1"]
    assert {value: set(scores) for value, scores in final.items()} == {
        value: {"0", "1"} for value in VALUES
    }
    for value, scores in final.items():
        row = rows["class_balanced", value]
        assert float(row["score_percent"]) == pytest.approx(statistics.mean(scores.values()))
        if value != "0.6":
            change = statistics.mean(scores[seed] - final["0.6"][seed] for seed in ("0", "1"))
            assert float(row["change_points"]) == pytest.approx(change, abs=1e-6)
    assert rows["class_balanced", "0.6"]["default"] == "True"


def test_the_text_for_a_person_and_two_conditions(swept):
    done = asked(swept, "compare", "--by", "particle-threshold")
    assert done.code == 0, done.err
    assert "0.6 (default)" in done.out
    assert "particle_threshold has no effect on supervised and naive" in " ".join(done.out.split())
    words = ["--where", "particle_threshold=0.50", "--where", "particle_threshold=0.6"]
    less = asked(swept, "compare", "--by", "particle_threshold", *words, "--format", "json")
    assert less.code == 0, less.err
    content = json.loads(less.out)
    assert content["by"][0]["values"] == ["0.5", "0.6"]
    listed = asked(swept, "compare", "--group", "list", "--where", "particle_threshold=0.9")
    assert len([line for line in listed.out.splitlines() if "tiny" in line]) == 1


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("html", '<h2 id="sensitivity">Sensitivity to particle_threshold</h2>'),
        ("markdown", "](report_figures/sensitivity.png)"),
        ("latex", r"\section{Sensitivity to particle\_threshold}"),
    ],
)
def test_the_report_has_the_figure_and_one_section_for_the_family(swept, tmp_path, form, wanted):
    path = tmp_path / "report"
    words = ["--by", "particle_threshold", "--format", form, "--output", str(path)]
    done = asked(swept, "report", *words)
    assert done.code == 0, done.err
    text = path.read_text(encoding="utf-8")
    assert wanted in text
    assert "no effect" in text
    assert "Other settings (" not in text  # the other groups of the family have no section
    assert "--by particle" in text.replace("\\_", "_").replace("-{}", "-")
    if form != "html":
        assert (tmp_path / "report_figures" / "sensitivity.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("compare", ["--by", "partcle_threshold"], "did you mean particle_threshold"),
        ("compare", ["--by", "tile_px"], "one value only: 256"),
        ("compare", ["--by", "ratio"], "one value only: 30"),
        ("compare", ["--by", "particle_threshold", "--explain", "f1", "--arm", "naive"], "no use"),
        ("compare", ["--by", "particle_threshold", "--group", "list"], "no use"),
        ("compare", ["--by", "particle_threshold", "--external", "x.csv"], "no use"),
        ("compare", ["--where", "encoder=resnet18"], "there are: tu-test_resnet"),
        ("report", ["--where", "encoder"], "is not SETTING=VALUE"),
        ("report", ["--by", "ratio", "--by", "loss", "--by", "accept"], "2 settings at most"),
    ],
)
def test_bad_input_is_one_line(swept, tmp_path, command, words, said):
    more = ["--output", str(tmp_path / "r.html")] if command == "report" else []
    done = asked(swept, command, *words, *more)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_page_of_mlflow_groups_the_arms_by_the_setting(swept, tmp_path):
    before = dict(kept_views(swept))
    tags = dict(
        swept.asked(
            "SELECT DISTINCT key, value FROM tags "
            "WHERE key IN ('cryossl.data_digest', 'cryossl.code_digest')"
        )
    )
    tracker = Tracker(f"sqlite:///{swept.database}", "cryossl", Path(tmp_path))
    link = tracker.keep_views(tags, by=[BY])
    assert f"viewStateShareKey={SETTINGS}" in link
    after = dict(kept_views(swept))
    assert {**after, **before} == after  # the other views are as they were
    (added,) = after.keys() - before.keys()
    view = json.loads(after[added])
    assert view["name"] == "F1 by particle_threshold"
    form, _, packed = view["state"].partition(";")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert form == "deflate"
    assert state["groupBy"]["groupByKeys"] == [
        {"mode": "param", "groupByData": BY},
        {"mode": "tag", "groupByData": "cryossl.arm"},
    ]
    metrics = {chart["metricKey"] for chart in state["compareRunCharts"]}
    assert {"accepted/test_f1", "accepted/gain_f1", "test/f1", "gain/f1"} <= metrics
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} <= sections
    assert f"params.`{BY}`" in state["selectedColumns"]
    # every arm has the param and every metric of the bars
    client = MlflowClient(f"sqlite:///{swept.database}")
    arms = client.search_runs(["1"], state["searchFilter"])
    assert {arm.data.params[BY] for arm in arms} == set(VALUES)
    assert any({"accepted/test_f1", "accepted/gain_f1"} <= arm.data.metrics.keys() for arm in arms)
    assert f"viewStateShareKey={CURVES}" in tracker.keep_views(tags)
    assert dict(kept_views(swept)) == after


def kept_views(lab) -> list[tuple[str, str]]:
    return lab.asked(
        "SELECT key, value FROM experiment_tags WHERE key LIKE 'mlflow.sharedViewState%'"
    )


@pytest.fixture
def address(swept) -> Iterator[str]:
    """The lab's store as `cryossl ui` serves it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["ui", "--port", str(port), "--tracking-uri", f"sqlite:///{swept.database}"]
    with subprocess.Popen(
        [sys.executable, str(PROJECT / "cli.py"), *words],
        cwd=swept.folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any("Ctrl-C" in line for line in process.stdout)
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


def test_a_browser_shows_a_bar_for_each_value_and_strategy(swept, tmp_path, request):
    program = browser.installed()
    if program is None:
        pytest.skip("no browser: apt-get install chromium")
    link = Tracker(f"sqlite:///{swept.database}", "cryossl", tmp_path).keep_views({}, by=[BY])
    start, _, rest = link.partition("/#/")
    served = request.getfixturevalue("address")
    page = browser.Page(program, tmp_path / "profile", width=1440, height=1000)
    page.open(f"{served}/#/{rest}")
    page.wait("document.querySelectorAll('.js-plotly-plot .barlayer .point').length >= 6")
    text = page.text()
    page.close()
    assert start == "http://127.0.0.1:5000"
    assert "F1 by particle_threshold" in text
    assert "Test F1 of the accepted model" in text
    for value in VALUES:
        for strategy in ("naive", "class_balanced"):
            assert f"{BY}: {value}, cryossl.arm: {strategy} 30%" in text
