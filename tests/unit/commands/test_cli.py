"""The command line, MLproject, the documents and the settings say the same, and help costs next to nothing."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import typed_commands
import yaml

import cli
from analysis.run_end import command_at
from cryossl.config import fields
from cryossl.config_file import build
from cryossl.setting import default_text
from cryossl.sweep.grid import RATIOS
from scripts.make_docs import pages

PROJECT = Path(__file__).resolve().parents[3]
ENTRY_POINTS: dict[str, Any] = yaml.safe_load((PROJECT / "MLproject").read_text(encoding="utf-8"))[
    "entry_points"
]
OF_EXPERIMENTS = ("main", "baseline", "sweep", "tune")
HEAVY = ("torch", "mlflow", "pandas", "numpy", "scipy", "matplotlib")


def commands(group: click.Group = cli.cli, prefix: str = "") -> dict[str, click.Command]:
    """`data check` -> command, for all that can be called."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, f"{prefix}{name} ")
        else:
            found[f"{prefix}{name}"] = command
    return found


def options(command: click.Command) -> dict[str, click.Option]:
    return {
        flag: one for one in command.params if isinstance(one, click.Option) for flag in one.opts
    }


def command_of(entry: str) -> tuple[str, list[str]]:
    """Command that an entry point calls, and the rest of its line."""
    words = ENTRY_POINTS[entry]["command"].split()
    assert words[:2] == ["python", "cli.py"]
    name = next(
        name
        for name in sorted(commands(), key=len, reverse=True)
        if " ".join(words[2:]).startswith(name)
    )
    return name, words[2 + len(name.split()) :]


# --- settings, options, MLproject


@pytest.mark.parametrize("command", ["run", "baseline", "sweep", "tune", "doctor"])
def test_every_setting_is_an_option_with_its_meaning_and_default(command):
    given = options(commands()[command])
    for name, (_, field) in fields().items():
        option = given[f"--{name.replace('_', '-')}"]
        assert option.name == name
        assert (
            option.default is None or option.default is click.core.UNSET
        )  # the config alone knows defaults
        assert field.description in option.help
        assert (default_text(field) or "none") in option.help


@pytest.mark.parametrize("entry", OF_EXPERIMENTS)
def test_every_parameter_of_mlproject_is_a_setting_with_the_same_default(entry):
    parameters = dict(ENTRY_POINTS[entry]["parameters"])
    assert "ratios" in parameters if entry == "sweep" else "ratio" in parameters
    assert parameters.pop("config")["default"] == ""
    if entry == "sweep":
        assert (
            parameters.pop("ratios")["default"] == RATIOS == "5,10"
        )  # without it there would be one ratio only
        for name in ("seeds", "jobs"):
            assert (
                parameters.pop(name)["default"] == options(commands()["sweep"])[f"--{name}"].default
            )
    if entry == "tune":
        assert parameters.pop("space")["default"] == ""
        for name in ("trials", "seeds", "tuning_seed", "jobs"):
            flag = options(commands()["tune"])[f"--{name.replace('_', '-')}"]
            assert parameters.pop(name)["default"] == flag.default
    for name, parameter in parameters.items():
        _, field = fields()[name]
        assert build({name: str(parameter["default"])}) == build({})
        assert str(parameter["default"]) == default_text(field)
        numeric = isinstance(field.default, (int, float))
        assert parameter["type"] == ("float" if numeric else "string")


@pytest.mark.parametrize("entry", list(ENTRY_POINTS))
def test_an_entry_point_calls_a_command_with_each_of_its_parameters_once(entry):
    name, words = command_of(entry)
    known = commands()[name]
    assert sorted(re.findall(r"{(\w+)}", " ".join(words))) == sorted(
        ENTRY_POINTS[entry]["parameters"]
    )
    for flag, value in itertools.pairwise(words):
        if flag.startswith("--") and value.startswith("{"):
            assert options(known)[flag].name in (value.strip("{}"), "config_file", "form")
    assert ("--defaults-yield" in words) == (entry in OF_EXPERIMENTS)


def test_the_entry_points_that_were_promised_are_there():
    assert set(ENTRY_POINTS) >= {"main", "baseline", "sweep", "tune", "compare", "report", "data"}


def test_an_option_may_be_written_as_mlflow_writes_it():
    command = commands()["run"]
    parent = click.Context(cli.cli, token_normalize_func=cli.dashes)
    context = command.make_context("run", ["--baseline_epochs", "3"], parent=parent)
    assert context.params["baseline_epochs"] == "3"


def test_the_next_command_repeats_every_setting_at_the_other_ratio():
    assert command_at(build({"ratio": 5}), 10) == "make run RATIO=10"
    config = build(
        {
            "ratio": 5,
            "data": "my data",
            "strategies": "naive,soft",
            "tile_px": 64,
            "audit": True,
            "border": 3,
            "learning_rate": 0.0012345678,
        }
    )
    program, script, name, *words = shlex.split(command_at(config, 10))
    assert (program, script, name) == ("python", "cli.py", "run")
    typed = commands()["run"].make_context("run", words).params
    again = cli.config_of(None, defaults_yield=False, options={key: typed[key] for key in fields()})
    assert again == config.model_copy(
        update={"split": config.split.model_copy(update={"ratio": 10.0})}
    )
    assert "secret" not in command_at(build({"tracking_uri": "http://me:secret@host"}), 10)


# --- documents


@pytest.mark.parametrize("name", list(pages()))
def test_the_generated_documents_are_up_to_date(name):
    assert (PROJECT / name).read_text(encoding="utf-8") == pages()[name], (
        "run `python -m scripts.make_docs`"
    )


def test_the_documents_name_every_setting_and_every_command():
    written = pages()
    for name in fields():
        assert f"`{name}`" in written["docs/settings.md"]
    for name in commands():
        assert f"cryossl {name}" in written["docs/cli.md"]


@pytest.mark.parametrize("name", list(commands()))
def test_every_command_and_every_option_has_help(name):
    command = commands()[name]
    assert command.help
    assert re.match(r"[A-Z].*\.$", command.help.splitlines()[0])
    assert [
        one.name
        for one in command.params
        if isinstance(one, click.Option) and not one.help and one.name != "seed"
    ] == []


@pytest.mark.parametrize(
    "text",
    [
        "README.md",
        "docs/data.md",
        "docs/method.md",
        "docs/results-files.md",
        "docs/sweep.md",
        "CONTRIBUTING.md",
    ],
)
def test_the_commands_and_options_in_the_documents_exist(text):
    """Every `cli.py ...` or `cryossl ...` in a document, and every `-P name=`, is something that can be typed."""
    content = (PROJECT / text).read_text(encoding="utf-8")
    for call in re.findall(r"(?:python cli\.py|`cryossl) ([^`\n#]+)", content):
        name = next(
            (
                name
                for name in sorted(commands(), key=len, reverse=True)
                if f"{call} ".startswith(f"{name} ")
            ),
            None,
        )
        assert name, call
        flags = re.findall(r"(?<!\S)--[a-z-]+", call)
        assert [
            flag for flag in flags if flag not in options(commands()[name]) and flag != "--help"
        ] == []
    for name in re.findall(r"-P ([a-z_]+)=", content):
        assert name in fields() or any(
            name in {*entry.get("parameters", {}), *(one.name for one in commands()[point].params)}
            for point, entry in ENTRY_POINTS.items()
            if point in commands()
        )


# --- what is typed


def typed(*words: str) -> tuple[int, str, str, list[str]]:
    """Exit code, standard output, standard error, and which heavy modules were imported on the way."""
    code = (
        "import sys, cli\n"
        "try: cli.main()\n"
        "finally: print('LOADED', *(name for name in sys.argv[0].split(',') if name in "
        "sys.modules))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.argv = [{','.join(HEAVY)!r}, *{list(words)!r}]\n{code}",
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    said, _, loaded = done.stdout.rpartition("LOADED")
    return done.returncode, said, done.stderr, loaded.split()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2),
        (["--help"], 0),
        (["--version"], 0),
        (["run", "--help"], 0),
        (["sweep", "--help"], 0),
        (["data"], 2),
        (["data", "fetch", "--help"], 0),
        (["run", "--ratio", "abc"], 2),
        (["run", "--nonsense"], 2),
        (["nonsense"], 2),
        (["run", "--config", "absent.yaml"], 2),
        (["compare", "--format", "word"], 2),
        (["sweep", "--seeds", "0"], 2),
        (["sweep", "--executor", "cloud"], 2),
    ],
)
def test_help_and_usage_errors_answer_without_anything_heavy(words, code):
    ended, said, complaint, loaded = typed(*words)
    assert ended == code
    assert loaded == []
    if code == 0:
        assert said.strip()
        assert complaint == ""
    elif words in ([], ["data"]):  # asked for nothing: the help is the answer
        assert "Commands:\n" in said + complaint
    else:
        assert said == ""
        assert re.fullmatch(r"cryossl: error: [^\n]+\n", complaint)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--metric", "test/f1"), ("--format", "table"), ("--external", "other.csv")],
)
def test_an_explanation_refuses_the_options_that_it_would_ignore(option, value):
    done = typed_commands.call("compare", "--explain", "F1", "--arm", "naive", option, value)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"has no use for {option}" in done.err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--metric", "test/f1"), ("--ratio", "5"), ("--views", "8"), ("--external", "other.csv")],
)
def test_a_list_of_groups_refuses_the_options_that_it_would_ignore(option, value):
    done = typed_commands.call("compare", "--group", "list", option, value)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"has no use for {option}" in done.err


def numbers() -> list[tuple[str, str]]:
    """Each option of a command that takes a number which may have a fraction."""
    return [
        (name, flag)
        for name, command in commands().items()
        for flag, one in options(command).items()
        if isinstance(one.type, click.types.FloatParamType)
    ]


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize(("name", "flag"), numbers())
def test_no_option_takes_a_number_that_is_not_finite(name, flag, value):
    done = typed_commands.call(*name.split(), flag, value)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"Invalid value for '{flag}'" in done.err


def test_a_report_names_the_command_that_lists_groups():
    done = typed_commands.call("report", "--group", "list")
    assert (done.code, "`cryossl compare --group list` lists them" in done.err) == (2, True)


@pytest.mark.parametrize("inside", [".", "picks"])
def test_masks_are_not_written_among_the_micrographs(inside, tmp_path):
    to = tmp_path / inside
    done = typed_commands.call("pick", str(tmp_path), "--to", str(to), "--format", "star,mask")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"masks in {to} would be micrographs" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["run", "baseline", "sweep"])
def test_the_help_of_settings_has_sections_with_choices_and_units(name):
    said = typed_commands.call(name, "--help").out
    for part in (
        "\nTraining:\n",
        "--tile-px PX",
        "--ratio PERCENT",
        "--device [auto|cpu|cuda|mps]",
    ):
        assert part in said
    assert "--border [auto|PX]" in said
    assert re.search(r"--\S+ VALUE", said) is None


def test_a_folder_is_no_output_of_a_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = typed_commands.call("report", "--output", ".")
    assert (done.code, done.err) == (
        6,
        "cryossl: error: . is a folder; name a file in it as --output\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_what_gives_way_to_the_config_file_is_said(tmp_path, capsys):
    file = tmp_path / "settings.yaml"
    file.write_text("ratio: 10\n")
    config = cli.config_of(file, defaults_yield=True, options={"ratio": "5", "seed": "7"})
    assert (config.split.ratio, config.split.seed) == (10, 7)
    assert "ratio (the defaults of MLproject give way to it)" in capsys.readouterr().out
    assert (
        cli.config_of(Path(), defaults_yield=True, options={}).split.ratio == 5
    )  # `--config ''`, as MLproject passes it


@pytest.mark.parametrize(
    "words",
    [
        ("data", "synth", "--to", ""),
        ("data", "check", ""),
        ("pick", "", "--to", "picks"),
        ("pick", "mics", "--to", ""),
        ("report", "--output", ""),
    ],
)
def test_an_empty_path_is_not_the_current_folder(words):
    done = typed_commands.call(*words)
    assert (done.code, done.err.strip().count("\n")) == (2, 0)
    assert "the current folder is `.`" in done.err
