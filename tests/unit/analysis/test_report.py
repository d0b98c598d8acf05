"""The report: what it says, that words from outside stay words, and that nothing leaves or enters the file."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from counted_frames import counted, grid
from tracked_frames import frame, note_runs, run

from analysis.report import document
from analysis.report.abstract import abstract, methods
from analysis.report.explanation import explain
from analysis.report.origin import Origin
from analysis.report.report import Picture, Report, build_report
from analysis.tables.comparison import compare
from analysis.tables.table import Cell

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"
VOID = {"meta", "img", "br"}


def origin(uri: str = "sqlite:///mlflow.db", **experiments: str) -> Origin:
    return Origin(
        "2026-01-01 00:00 UTC",
        "python cli.py report",
        uri,
        experiments,
        "commit abc",
        {"python": "3.11"},
    )


def report_of(
    rows: list[dict[str, Any]],
    documents: dict[str, Any] | None = None,
    pictures: tuple[Picture, ...] = (),
    where: Origin | None = None,
) -> Report:
    comparison = counted(rows, documents or {})
    return build_report(comparison, frame(*rows), pictures, where or origin())


class Page(HTMLParser):
    """Tags, and whether each that was opened is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def six() -> Report:
    return report_of(
        *grid(seeds=range(6)), pictures=(Picture("run-1", "worst micrograph", b"\xff\xd8jpeg"),)
    )


def test_the_page_is_well_formed_and_loads_nothing(six: Report) -> None:
    text = document.html(six)
    page = Page(text)
    assert page.open == []
    sources = [attributes["src"] for tag, attributes in page.tags if "src" in attributes]
    assert len(sources) == 9
    assert all(source and source.startswith("data:image/") for source in sources)
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert [
        attributes
        for _, attributes in page.tags
        if any(name.startswith("on") or name == "style" for name in attributes)
    ] == []


def test_the_policy_forbids_all_but_its_own_style(six: Report) -> None:
    page = Page(document.html(six))
    policy = next(
        attributes["content"]
        for _, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


def test_words_from_outside_stay_words() -> None:
    rows = [
        one | {"cryossl.dataset": EVIL, "run_id": f"{EVIL}{index}"}
        for index, one in enumerate(note_runs())
    ]
    rows += [
        one | {"cryossl.dataset": EVIL, "cryossl.strategy": EVIL, "run_id": f"evil-{index}"}
        for index, one in enumerate(note_runs(seed=1))
        if one["cryossl.strategy"] == "naive"
    ]
    rows[0] |= {
        f"test/f1/{EVIL}": 0.5,
        "mlflow.source.git.commit": EVIL,
        "cryossl.git_dirty": EVIL,
        f"dataset {EVIL}": EVIL,
    }
    made = report_of(
        [row | {"network.encoder": EVIL} for row in rows],
        pictures=(Picture(EVIL, EVIL, b"x"),),
        where=origin("http://host", **{row["run_id"]: EVIL for row in rows}),
    )
    text = document.html(made)
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert [
        attributes
        for _, attributes in page.tags
        if any(name.startswith("on") for name in attributes)
    ] == []
    assert "<img src=x" not in text
    assert "{{7*7}}" in text  # not read as a template either
    assert "<script" not in document.markdown(made, figures="f")


def test_a_cell_links_to_its_run_and_several_to_mlflows_comparison() -> None:
    where = origin("http://host:5000/", a="1", b="1", c="2/x")
    assert (
        document.run_link(Cell(1, "1", ("a",)), where) == "http://host:5000/#/experiments/1/runs/a"
    )
    assert (
        document.run_link(Cell(1, "1", ("c",)), where)
        == "http://host:5000/#/experiments/2%2Fx/runs/c"
    )
    assert document.run_link(Cell(1, "1", ("a", "b")), where) == (
        "http://host:5000/#/compare-runs?runs=%5B%22a%22%2C%22b%22%5D&experiments=%5B%221%22%5D"
    )
    assert document.run_link(Cell(1, "1", ("unknown",)), where) == ""
    assert document.run_link(Cell(1, "1", ()), where) == ""


@pytest.mark.parametrize(
    "uri", ["sqlite:///mlflow.db", "javascript:alert(1)", "postgresql://host/db"]
)
def test_without_a_server_there_are_ids_and_no_links(uri: str) -> None:
    assert document.run_link(Cell(1, "1", ("a",)), origin(uri, a="1")) == ""
    text = document.html(report_of(note_runs(), where=origin(uri, **{"naive-5-0-1": "1"})))
    assert 'title="runs class_balanced-5-0-1, supervised-5-0-0"' in text
    assert "<a " not in text


def test_the_abstract_has_the_numbers_of_the_tables(six: Report) -> None:
    row = six.sections[0].comparison.evidence.records()[1]
    assert row["contrast"].text == "class_balanced - baseline"
    numbers = f"{row['estimate'].text} points [{row['lower'].text}, {row['upper'].text}]"
    assert f"class_balanced: {numbers} over the baseline (6 seeds, claim)." in six.abstract[0]


def test_the_abstract_of_one_seed_has_no_interval_and_claims_nothing() -> None:
    words = " ".join(
        sentence for paragraph in abstract(compare(frame(*note_runs()))) for sentence in paragraph
    )
    assert "class_balanced: +2.50 points over the baseline (1 seed, single run)." in words
    assert "no student was accepted on validation in any of 1 seed" in words
    assert "[" not in words


def test_what_was_chosen_on_the_labelled_micrographs_is_not_said_to_be_chosen_on_validation() -> (
    None
):
    runs = [
        row | {"split.validation_from": "labelled", "loop.accept": "improved"}
        for row in (*note_runs(), run("supervised_long", 1, f1=0.71))
    ]
    comparison = compare(frame(*runs))
    better = "supervised_long, the better baseline on the labelled micrographs"
    assert comparison.by_ratio.notes == (f"at 5% gains are over {better}",)
    assert "student not better on the labelled micrographs" in {
        row["stopped"].text for row in comparison.iterations.records()
    }
    explained = explain(comparison, strategy="naive", ratio=None)
    assert f"{better}, of the same seed" in explained
    text = " ".join(
        [
            *methods(comparison),
            *(sentence for paragraph in abstract(comparison) for sentence in paragraph),
        ]
    )
    assert "accepts it on the labelled micrographs" in text
    assert "on validation" not in text
    assert "validation chose" not in text


def test_the_abstract_says_that_no_student_was_accepted_also_where_gains_are_over_another_baseline() -> (
    None
):
    runs = [*note_runs(), run("supervised_long", 1, f1=0.71, accepted=True)]
    sentences = abstract(compare(frame(*runs)))[0]
    assert (
        "naive: -1.00 points over the baseline (1 seed, single run); no student was accepted in 1 "
        "of 1 seed." in sentences
    )


def test_the_abstract_counts_the_seeds_that_it_lacks() -> None:
    runs = [one for seed in range(4) for one in note_runs(seed=seed)]
    for gone, said in (
        (("naive-5-3-1",), "1 of 4 seeds is not in it"),
        (("naive-5-3-1", "naive-5-2-1"), "2 of 4 seeds are not in it"),
    ):
        words = " ".join(
            abstract(compare(frame(*(one for one in runs if one["run_id"] not in gone))))[0]
        )
        assert said in words


def test_the_method_says_what_a_found_particle_is_where_particles_were_counted(six: Report) -> None:
    assert "matched one to one with the labelled ones within the stated fraction" in " ".join(
        six.methods
    )
    runs = [
        one | {"test/particle_f1": 0.8, "evaluation.match_distance": "0.3"} for one in note_runs()
    ]
    assert "within 0.3 of the particle's diameter" in " ".join(methods(compare(frame(*runs))))
    assert "particle's diameter" not in " ".join(methods(compare(frame(*note_runs()))))


def test_the_method_speaks_of_no_setting_that_was_not_recorded(six: Report) -> None:
    words = " ".join(six.methods)
    assert (
        "2.0 best images per labelled one by 0.3 particle + 0.2 background + 0.5 balance" in words
    )
    assert "AdamW" not in words  # network and learning rate are not in these runs
    assert "{" not in words


@pytest.mark.parametrize(
    "rows",
    [
        note_runs()[:1],
        note_runs()[:2],
        [*note_runs(), *note_runs(seed=1)[:2]],
        [*note_runs(), run("naive", 1, f1=0.7, seed=1, status="FAILED")],
        [note_runs()[0], note_runs()[1] | {"test/f1": float("nan")}, *note_runs()[2:]],
        [*note_runs(), {"run_id": "foreign", "status": "FINISHED"}],
        note_runs()[1:],
    ],
    ids=[
        "one arm",
        "one strategy",
        "unequal seeds",
        "a failed run",
        "a NaN",
        "a foreign run",
        "no baseline",
    ],
)
def test_a_broken_store_still_makes_a_report_in_every_form(rows: list[dict[str, Any]]) -> None:
    if not any(row.get("cryossl.strategy") == "supervised" for row in rows):
        rows = [*rows, run("supervised", 0, f1=0.7, seed=5)]
    made = report_of(rows)
    assert Page(document.html(made)).open == []
    assert made.missing
    for text in (document.markdown(made, figures="f"), document.latex(made, figures="f")):
        assert not re.search(r"\bnan\b|None", text)


def test_markdown_and_latex_point_at_the_files_that_are_written(six: Report) -> None:
    files = document.figure_files(six)
    named = re.findall(r"\]\(f/([^)]+)\)", document.markdown(six, figures="f"))
    assert set(named) <= set(files)
    assert len(named) == 9
    assert set(re.findall(r"\{f/([^}]+)\}", document.latex(six, figures="f"))) <= set(files)


def test_latex_opens_and_closes_what_it_opens(six: Report) -> None:
    text = document.latex(six, figures="f")
    begun, ended = (re.findall(rf"\\{word}\{{(\w+)\}}", text) for word in ("begin", "end"))
    assert sorted(begun) == sorted(ended)
    assert text.count(r"\toprule") == text.count(r"\bottomrule") > 5
    assert (
        max(len(table.split(r"\\")) for table in text.split(r"\midrule"))
        <= document.ROWS_PER_PAGE + 10
    )


def test_several_settings_get_a_section_each() -> None:
    other = [
        one
        | {
            "loop.max_iterations": "2",
            "run_id": one["run_id"] + "b",
            "cryossl.experiment_fingerprint": "other",
        }
        for one in note_runs()
    ]
    made = report_of([*note_runs(), *other])
    assert {section.subject for section in made.sections} == {
        "synthetic, loop.max_iterations=2",
        "synthetic, loop.max_iterations=3",
    }
    assert {name for name in document.figure_files(made) if name.startswith("gains")} == {
        "gains.png",
        "gains.svg",
        "gains-2.png",
        "gains-2.svg",
    }


def test_the_report_says_which_code_and_data_made_the_runs() -> None:
    rows = [
        one | {"mlflow.source.git.commit": "0123456789abcdef", "cryossl.git_dirty": "true"}
        for one in note_runs()
    ]
    experiment = {"run_id": "e", "cryossl.kind": "experiment", "dataset synthetic": "d1g35t"}
    comparison = compare(frame(*rows))
    facts = dict(build_report(comparison, frame(*rows, experiment), (), origin()).facts)
    assert facts["Runs made with"] == "commit 0123456789ab, with uncommitted changes (4 runs)"
    assert facts["Data synthetic"] == "digest d1g35t"


def test_the_report_says_which_runs_reused_stages_of_other_code() -> None:
    rows = [one | {"cryossl.kept_stages": "false"} for one in note_runs()]
    plain = build_report(compare(frame(*rows)), frame(*rows), (), origin())
    assert "Stages" not in dict(plain.facts)
    kept = [*rows[:-1], rows[-1] | {"cryossl.kept_stages": "true"}]
    facts = dict(build_report(compare(frame(*kept)), frame(*kept), (), origin()).facts)
    assert facts["Stages"] == "1 model is reused from trainings by other code (keep_stages)"
