"""The report: what it says, that words from outside stay words, and that nothing leaves or enters the file."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from counted_frames import counted, grid
from tracked_frames import frame, note_runs, run

from analysis.report import document
from analysis.report.abstract import abstract, methods
from analysis.report.explanation import explain
from analysis.report.origin import Origin
from analysis.report.report import Picture, Report, build_report
from analysis.report.verdict_table import verdict_table
from analysis.tables.comparison import compare
from analysis.tables.table import Cell

NAMES = sorted(
    [
        "gains",
        "f1_by_iteration",
        "particle_ratio",
        "precision_recall",
        "source_gains",
        "cost",
        "calibration",
        "quality",
    ]
)
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"
VOID = {"meta", "img", "br", "wbr"}


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
    assert len(sources) == len(NAMES) + 1
    assert all(source and source.startswith("data:image/") for source in sources)
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert [
        attributes
        for _, attributes in page.tags
        if any(name.startswith("on") or name == "style" for name in attributes)
    ] == []


def test_a_page_shows_every_table_of_the_comparison() -> None:
    both = [one | {"test/f1_views8": 0.8, "validation/f1_views8": 0.8} for one in note_runs()]
    report = report_of([one | {"test/f1/a": 0.5} for one in both])
    (section,) = report.sections
    titles = [table.title for table in section.comparison.tables]
    assert "What a gain is made of" in titles
    text = document.html(report)
    assert [title for title in titles if title not in text] == []


@pytest.mark.parametrize(("count", "folds"), [(document.LONG_SOURCES, False), (22, True)])
def test_a_long_table_of_sources_is_folded(count: int, *, folds: bool) -> None:
    scored = {f"test/f1/source-{number:02d}": 0.5 for number in range(count)}
    text = document.html(report_of([one | scored for one in note_runs()]))
    folded = f"<summary>Gain by source ({count} rows)</summary>" in text
    assert (folded, "source-11" in text) == (folds, True)


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
    assert [one for one in re.findall('<a href="([^"]*)"', text) if not one.startswith("#")] == []


def test_the_abstract_has_the_numbers_of_the_tables(six: Report) -> None:
    row = six.sections[0].comparison.evidence.records()[1]
    assert row["contrast"].text == "class_balanced - baseline"
    values = [row[name].value for name in ("estimate", "lower", "upper")]
    assert "class_balanced: {:+.1f} points [{:+.1f}, {:+.1f}]".format(*values) in six.abstract[1]
    assert values[1] > 0
    assert "the segmentation is better with class_balanced at 5%" in six.abstract[0]


def test_the_abstract_of_one_seed_has_no_interval_and_claims_nothing() -> None:
    words = " ".join(abstract(compare(frame(*note_runs()))))
    assert "These runs do not show that pseudo-labels make the segmentation better" in words
    assert "a test F1 of 70.0% (1 seed)" in words
    assert "class_balanced: +2.5 points" in words
    assert "naive: no student was accepted" in words
    assert "[" not in words


def test_the_abstract_of_many_strategies_names_the_highest_and_the_lowest() -> None:
    others = [
        run(name, iteration, f1=f1, accepted=iteration == 1, pseudo=(516, 0.03))
        for name, f1 in (("soft", 0.75), ("quantile", 0.71), ("stability", 0.66))
        for iteration in (1, 2)
    ]
    words = " ".join(abstract(compare(frame(*note_runs(), *others))))
    assert "of 5 strategies the highest is soft: +5.0 points; " in words
    assert "of 5 strategies the lowest is stability: -4.0 points." in words
    assert "quantile" not in words


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
            *abstract(comparison),
        ]
    )
    assert "accepts it on the labelled micrographs" in text
    assert "on validation" not in text
    assert "validation chose" not in text


def test_the_abstract_counts_from_the_better_baseline_and_says_so() -> None:
    runs = [*note_runs(), run("supervised_long", 1, f1=0.71, accepted=True)]
    words = " ".join(abstract(compare(frame(*runs))))
    assert "supervised_long, the better baseline on validation, reached a test F1 of 71.0%" in words
    assert "naive: no student was accepted; class_balanced: +1.5 points" in words


def test_the_abstract_counts_the_seeds_that_it_lacks() -> None:
    runs = [one for seed in range(4) for one in note_runs(seed=seed)]
    for gone in (("naive-5-3-1",), ("naive-5-3-1", "naive-5-2-1")):
        words = " ".join(
            abstract(compare(frame(*(one for one in runs if one["run_id"] not in gone))))
        )
        assert f"naive: no student was accepted ({len(gone)} of 4 seeds missing)" in words


def test_the_method_is_grammatical_in_the_singular_and_without_pretrained_weights() -> None:
    known = {
        "network.architecture": "unet",
        "network.encoder": "tu-test_resnet",
        "network.encoder_weights": "none",
        "training.learning_rate": "0.003",
        "training.batch_size": "4",
        "training.baseline_epochs": "100",
        "loop.accept": "improved",
    }
    for most, said in (("1", "after at most 1 iteration."), ("3", "after at most 3 iterations.")):
        runs = [row | known | {"loop.max_iterations": most} for row in note_runs()]
        words = " ".join(methods(compare(frame(*runs))))
        assert said in words
        assert "with encoder tu-test_resnet, with random initial weights, trained" in words
        runs = [row | {"network.encoder_weights": "imagenet"} for row in runs]
        assert "pretrained on imagenet" in " ".join(methods(compare(frame(*runs))))


def test_the_method_describes_only_strategies_that_have_run() -> None:
    runs = [row for row in note_runs() if row["cryossl.strategy"] != "class_balanced"]
    words = " ".join(methods(compare(frame(*runs))))
    assert "naive keeps" in words
    assert "class_balanced" not in words


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
    assert len(named) == len(NAMES) + 1
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
    assert [section.name for section in made.sections] == [
        "synthetic, settings 1 of 2",
        "synthetic, settings 2 of 2",
    ]
    text = document.html(made)
    for section in made.sections:
        assert section.comparison.settings in ("loop.max_iterations=2", "loop.max_iterations=3")
    assert made.sections[1].comparison.settings in text
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


def test_titles_and_headings_are_no_paths_and_the_path_stands_in_the_provenance() -> None:
    rows = [one | {"cryossl.dataset": "/mnt/data/cryoppp/lite"} for one in note_runs()]
    made = report_of(rows)
    assert made.title == "Self-training on lite"
    text = document.html(made)
    headings = re.findall(r"<h[1-6][^>]*>(.*?)</h[1-6]>", text)
    assert [heading for heading in headings if "/" in heading] == []
    assert ("Data of lite", "/mnt/data/cryoppp/lite") in made.facts
    assert "/mnt/data/cryoppp/lite" in text


def test_headings_are_in_order_and_each_entry_of_the_contents_leads_to_one(six: Report) -> None:
    page = Page(document.html(six))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    places = {attributes["id"] for tag, attributes in page.tags if tag == "h2"}
    entries = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert {f"#{place}" for place in places} == set(entries)


def test_nothing_is_headed_twice_and_all_that_is_seen_has_words(six: Report) -> None:
    text = document.html(six)
    titles = re.findall(r"<(?:h\d|summary)[^>]*>(.*?)</", text) + re.findall(
        r'class="caption">(.*?)</p>', text
    )
    assert len(titles) == len(set(titles))
    numbers = re.findall(r"<b>((?:Figure|Table) \d+)\.", text)
    for word in ("Figure", "Table"):
        mine = [int(one.split()[1]) for one in numbers if one.startswith(word)]
        assert mine == list(range(1, len(mine) + 1))
    for tag, attributes in Page(text).tags:
        if tag == "img":
            assert attributes["alt"]
        if tag == "th":
            assert attributes["scope"] in ("col", "row", "rowgroup")


def test_the_main_figure_says_in_words_what_it_shows(six: Report) -> None:
    text = document.html(six)
    (alt,) = re.findall(r'alt="Gain in F1 over the baseline: (.*?)"', text)
    row = six.sections[0].comparison.evidence.records()[1]
    assert (
        f"class_balanced at 5%: {row['estimate'].text} [{row['lower'].text}, {row['upper'].text}]"
        in alt
    )


def test_an_arm_that_accepted_nothing_shows_no_interval_of_nothing() -> None:
    made = report_of([one for seed in range(2) for one in note_runs(seed=seed)])
    text = document.html(made)
    assert "[+0.00, +0.00]" not in text
    evidence = made.sections[0].comparison.evidence.records()[0]
    assert evidence["interval"].text == "no student accepted"
    assert evidence["probability"].value is None
    naive = made.sections[0].comparison.by_ratio.records()[1]
    assert (naive["gain"].value, naive["gain"].text) == (0.0, "0")
    assert "gain 0: no student of naive at 5% was accepted" in text


def test_the_verdicts_say_the_same_once() -> None:
    rows = [one for ratio in ("5", "10") for one in note_runs(ratio=ratio)]
    table = verdict_table(compare(frame(*rows)).verdicts)
    assert [record["strategy"].text for record in table.records()] == [
        "naive",
        "class_balanced",
    ] * 2
    assert len(table.notes) == len(set(table.notes))
    steps = [note for note in table.notes if "Next: Report the supervised result" in note]
    assert len(steps) == 1
    assert steps[0].startswith("naive at 5% and naive at 10%: ")


def test_files_of_pictures_are_named_by_what_they_show() -> None:
    title = "5% labelled, seed 0, naive, iteration 1, worst micrograph"
    pictures = tuple(Picture(run, title, b"x") for run in ("a", "b"))
    names = [
        name
        for name in document.figure_files(report_of(note_runs(), pictures=pictures))
        if name.endswith(".jpg")
    ]
    stem = "micrograph-5-labelled-seed-0-naive-iteration-1-worst-micrograph"
    assert names == [f"{stem}.jpg", f"{stem}-2.jpg"]
