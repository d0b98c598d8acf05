"""Every command that a page shows exists: its options, its choices, its parameters, its target."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest
import yaml

import cli
from cryossl.config import fields

PROJECT = Path(__file__).parents[2]
PAGES = [
    page
    for page in (
        *PROJECT.glob("*.md"),
        *(PROJECT / "docs").glob("*.md"),
        *(PROJECT / "presets").glob("*.yaml"),
    )
    # What was measured on a day stays with the command of that day; cli.md is written from the commands.
    if page.name not in ("log.md", "CHANGELOG.md", "cli.md")
]
PROGRAMS = ("cryossl", "mlflow run", "make", "python cli.py", "python -m")
ENTRY_POINTS = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]


def commands(text: str) -> Iterator[str]:
    """The commands of a page: lines of its code blocks, and code within its lines."""
    text = text.replace("\\\n#", "\\\n")
    blocks = re.findall(r"^```(?:\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in re.sub(r"\\\n", " ", block).splitlines()]
    lines += [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    lines += re.findall(r"^# (python cli\.py .*)", text, flags=re.MULTILINE)
    for line in lines:
        command = re.split(r"\s+#\s|\s*[|;]\s|\s*&&\s", line)[0].strip().removeprefix("$ ")
        command = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", command.removeprefix(".venv/bin/"))
        if command.startswith(tuple(f"{program} " for program in PROGRAMS)):
            yield command


CASES = [
    pytest.param(command, id=f"{page.relative_to(PROJECT)}: {command[:60]}")
    for page in PAGES
    for command in dict.fromkeys(commands(page.read_text(encoding="utf-8")))
]


def fault(command: str) -> str | None:
    """What is wrong with a command of a page; None if it could be typed."""
    words = shlex.split(command.replace("…", "...").replace("[", "").replace("]", ""))
    words = [word for word in words if word != "..."]
    if words[-1].startswith("-"):
        words.append("1")  # the page speaks of an option, without a value
    if words[0] == "cryossl" or words[1:2] == ["cli.py"]:
        return _parsed(cli.cli, words[1 if words[0] == "cryossl" else 2 :], ["cryossl"])
    if words[:2] == ["mlflow", "run"]:
        return _project_run(words[2:])
    if words[0] == "make":
        wanted = [word for word in words[1:] if "=" not in word]
        targets = re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), flags=re.MULTILINE)
        return next((f"no target {word}" for word in wanted if word not in targets), None)
    return None if importlib.util.find_spec(words[2]) else f"no module {words[2]}"


def _parsed(command: click.Command, words: Sequence[str], path: list[str]) -> str | None:
    if isinstance(command, click.Group):
        if not words or words[0].startswith("-"):
            return None
        below = command.commands.get(words[0])
        return _parsed(below, words[1:], [*path, words[0]]) if below else f"no command {words[0]}"
    context = click.Context(command, info_name=" ".join(path), resilient_parsing=False)
    try:
        values, _, _ = command.make_parser(context).parse_args(args=list(words))
        for one in command.params:
            value = values.get(one.name or "")
            if isinstance(one.type, (click.Choice, click.IntRange, click.FloatRange)) and (
                isinstance(value, str) and not value.isupper()
            ):
                one.type_cast_value(context, value)
    except click.UsageError as error:
        return error.format_message()
    return None


def _project_run(words: Sequence[str]) -> str | None:
    words = list(words)
    entry = words[words.index("-e") + 1] if "-e" in words else "main"
    if words[-2:] == ["-e", "1"]:
        return None  # the page speaks of the option
    if entry not in ENTRY_POINTS:
        return f"no entry point {entry}"
    options = (one.name for one in cli.cli.commands["run" if entry == "main" else entry].params)
    known = {*ENTRY_POINTS[entry].get("parameters", {}), *fields(), *options}
    names = re.findall(r"(?<=-P )(\w+)=", " ".join(words))
    return next((f"no parameter {name}" for name in names if name not in known), None)


@pytest.mark.parametrize("command", CASES)
def test_a_command_of_a_page_can_be_typed(command: str) -> None:
    assert fault(command) is None


@pytest.mark.parametrize(
    "command",
    [
        "cryossl runn",
        "cryossl run --rato 5",
        "cryossl compare --format excel",
        "cryossl data synth --to x --train two",
        "mlflow run . -e sweeep",
        "mlflow run . -P rato=5",
        "mlflow run . -P vary=views=1,8",
        "make tests",
        "python -m benchmarks_of_old",
    ],
)
def test_a_command_that_does_not_exist_is_found(command: str) -> None:
    assert fault(command) is not None


def test_the_pages_show_many_commands() -> None:
    assert len(CASES) > 60
