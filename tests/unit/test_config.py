"""Settings: the note's numbers are the defaults; each check refuses with one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import pytest

from cryossl.config import Config, deciding, fields
from cryossl.config_file import build, load
from cryossl.errors import ConfigError
from cryossl.run_settings import RunSettings
from cryossl.setting import Decides, default_text

PRESETS = Path(__file__).resolve().parents[2] / "presets"


def test_every_setting_is_marked_with_what_it_decides_and_the_marks_are_those_that_exist() -> None:
    marks = get_args(Decides)
    parts = [deciding(mark) for mark in marks]
    assert sorted(name for part in parts for name in part) == sorted(Config().flat())
    assert all(parts)


def test_what_only_places_things_decides_nothing_and_the_cell_is_ratio_seed_and_strategies() -> (
    None
):
    assert {f"run.{name}" for name in RunSettings.model_fields} < deciding("nothing")
    assert deciding("cell") == {"split.ratio", "split.seed", "selection.strategies"}
    assert deciding("content") == {"input.data", "split.labelled", "split.test_half"}


def test_the_defaults_are_the_notes_numbers() -> None:
    config = Config()
    assert (
        config.split.ratio,
        config.training.baseline_epochs,
        config.training.student_epochs,
    ) == (5, 100, 50)
    assert config.loop.max_iterations == 3
    selection = config.selection
    assert (
        selection.naive_threshold,
        selection.particle_threshold,
        selection.background_threshold,
    ) == (0.7, 0.6, 0.8)
    assert (
        selection.quality_particle,
        selection.quality_background,
        selection.quality_balance,
    ) == (0.3, 0.2, 0.5)
    assert selection.max_pseudo_per_labelled == 2
    assert selection.strategies == ("naive", "class_balanced")


def test_field_names_are_unique_over_all_sections() -> None:
    assert len(fields()) == sum(
        len(type(section).model_fields) for section in Config().__dict__.values()
    )


@pytest.mark.parametrize("name", list(fields()))
def test_the_default_typed_as_an_option_is_the_default(name: str) -> None:
    _, field = fields()[name]
    assert build({name: default_text(field)}) == Config()


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, (_, field) in fields().items() if not field.description] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ratio", "abc"),
        ("ratio", "0"),
        ("ratio", "101"),
        ("ratio", "nan"),
        ("strategies", "nonsense"),
        ("strategies", ""),
        ("strategies", "naive,naive"),
        ("strategies", "naive-quota"),
        ("strategies", "class_balanced+quota"),
        ("border", "-1"),
        ("target_particle_ratio", "0"),
        ("target_particle_ratio", "sometimes"),
        ("label_unit", "picture"),
        ("seed", "-1"),
        ("name", "../up"),
        ("name", "a b"),
        ("uncertain_pixels", "maybe"),
        ("nonsense", "1"),
        ("batch_size", "0"),
        ("learning_rate", "inf"),
        ("audit", "perhaps"),
        ("labelled", "a\0b"),
        ("data", "a\nb"),
        ("work", "a\x1bb"),
        ("sources", "a,b\x7f"),
        ("experiment", "a\tb"),
        *(
            (name, "9" * 400)
            for name in (
                "border",
                "image_px",
                "baseline_epochs",
                "student_epochs",
                "least_steps",
                "batch_size",
                "validations",
            )
        ),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_it(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build({name: value})
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_options_win_over_the_config_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("ratio: 10\nselection:\n  strategies: [naive]\n  naive_threshold: 0.9\n")
    config, _ = load(file, {"naive_threshold": "0.8"}, yielding={})
    assert (config.split.ratio, config.selection.strategies, config.selection.naive_threshold) == (
        10,
        ("naive",),
        0.8,
    )


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("10017", ("10017",)),
        ("[10017]", ("10017",)),
        ("'10017'", ("10017",)),
        ("[]", ()),
        ("[10017, '10028']", ("10017", "10028")),
        ("10017,10028", ("10017", "10028")),
    ],
)
def test_numbers_of_sources_need_no_quotes_in_a_config_file(
    tmp_path: Path, text: str, sources: tuple[str, ...]
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"sources: {text}\n")
    assert load(file, {}, yielding={})[0].input.sources == sources


@pytest.mark.parametrize("text", ["true", "1.5", "[1.5]", "{a: 1}", "[[10017]]", "null"])
def test_what_is_no_name_of_a_source_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"sources: {text}\n")
    with pytest.raises(ConfigError, match="sources"):
        load(file, {}, yielding={})


def test_a_filled_in_default_gives_way_to_the_config_file_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("ratio: 10\n")
    config, overridden = load(
        file, {"ratio": "5", "seed": "3"}, yielding={"ratio": "5", "seed": "0"}
    )
    assert (config.split.ratio, config.split.seed, overridden) == (10, 3, ["ratio"])


def test_a_relative_list_starts_at_the_config_file_that_names_it_and_an_option_at_the_working_directory(
    tmp_path: Path,
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("split:\n  labelled: lists/mine.txt\n")
    assert load(file, {}, yielding={})[0].split.labelled == tmp_path / "lists/mine.txt"
    assert load(file, {"labelled": "mine.txt"}, yielding={})[0].split.labelled == Path("mine.txt")
    file.write_text(f"labelled: {tmp_path / 'other.txt'}\n")
    assert load(file, {}, yielding={})[0].split.labelled == tmp_path / "other.txt"
    file.write_text('labelled: ""\n')
    assert load(file, {}, yielding={})[0].split.labelled is None


@pytest.mark.parametrize(
    "file",
    [file for file in sorted(PRESETS.glob("*.yaml")) if file.stem != "space"],  # no settings
    ids=lambda file: file.stem,
)
def test_a_preset_works_from_any_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labelled = load(file, {}, yielding={})[0].split.labelled
    assert labelled is None or labelled.is_file()


@pytest.mark.parametrize(
    "text",
    [
        "ratio: [",
        "- 1\n- 2",
        "a: &x 1\nratio: *x",
        "ratio: 5\nsplit:\n  ratio: 6",
        "ratio: !!python/object:os.system 5",
        "\x00",
        "nonsense: 1",
        "split: 7",
        "[" * 5000,
        "seed: 2020-99-99",
        "seed: 0b_",
        f"seed: {'9' * 5000}",
        "audit: !!bool maybe",
        "name: yes",
        "seed: !!int a",
        "ratio: 5\nratio: 6",
        "split: {ratio: 5}\nsplit: {seed: 1}",
        "split: {ratio: 5, ratio: 6}",
        "ratio: true",
        "max_iterations: no",
        "views: yes",
        "border: on",
        f"device: {'a' * 10**5}",
        f"{'a' * 1000}: 5",
    ],
)
def test_a_wrong_config_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {}, yielding={})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_pipe_for_a_config_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="no regular file"):
        load(tmp_path / "pipe", {}, yielding={})


def test_a_missing_config_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "absent.yaml", {}, yielding={})


def test_what_is_written_down_of_the_settings_has_no_password():
    config = build({"tracking_uri": "http://somebody:secret@host:5000"})
    assert config.run.tracking_uri == "http://somebody:secret@host:5000"
    assert (
        config.flat()["run.tracking_uri"]
        == config.model_dump(mode="json")["run"]["tracking_uri"]
        == "http://host:5000"
    )


def test_the_folders_of_a_run_follow_from_its_settings():
    run = build({"name": "n", "results": "r", "work": "w"}).run
    assert run.folder == Path("r/n")
    assert run.threads_file == Path("w/threads.json")
    assert (run.stages, run.stores, run.journals, run.data_sets) == (
        Path("w/stages"),
        Path("w/stores"),
        Path("w/journals"),
        Path("w/data"),
    )
