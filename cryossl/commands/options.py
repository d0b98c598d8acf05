"""Options of the command line: one for each setting, and the config that typed options make."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from cryossl.commands.completion import completer
from cryossl.config import Config, fields, sections
from cryossl.config_file import load
from cryossl.presets import QUICK, QUICK_SAYS
from cryossl.progress.terminal import echo
from cryossl.setting import default_text, limits_text, placeholder
from cryossl.system.gpus import present_gpus, single


class _Path(click.Path):
    """A path; an empty text, which would be the current folder, is refused."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        if not os.fspath(value):
            self.fail("a path is missing; the current folder is `.`", param, ctx)
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path)
_SECOND_NAMES = {"particle-diameter-angstrom": "diameter-angstrom"}
option = partial(click.option, show_default=True)
_SHORTER = {"register_as": ["--register"]}  # pydantic has an attribute of this name
json_option = partial(option, "--json", "as_json", is_flag=True)


class Number(click.FloatRange):
    """A finite number in a range; click's own takes `nan` for a number in any range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Fails for text that is none, and outside of the range."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return number


class SettingsCommand(click.Command):
    """A command that takes all settings: `--help` shows them below the names of their sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then the settings of each section."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        groups |= {section: [] for section in sections()}
        for one in self.get_params(ctx):
            record = one.get_help_record(ctx)
            if record is not None:
                section = fields()[one.name][0] if one.name in fields() else "Options"
                groups[section].append(record)
        for section, records in groups.items():
            if records:
                with formatter.section(section.capitalize()):
                    if section in sections():
                        formatter.write_text((sections()[section].__doc__ or "").splitlines()[0])
                        formatter.write_paragraph()
                    formatter.write_dl(records)


def setting_option(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option of a setting; the command gets its text, or None where it was not typed."""
    _, field = fields()[name]
    # `--follow-links` alone means `--follow-links true`.
    alone: dict[str, Any] = {"is_flag": False, "flag_value": "true"}
    facts = "; ".join(filter(None, (default_text(field) or "none", limits_text(field))))
    return option(
        f"--{name.replace('_', '-')}",
        *_SHORTER.get(name, ()),
        name,
        metavar=placeholder(field),
        **(alone if field.annotation is bool else {}),
        shell_complete=completer(name, field),
        help=f"{field.description}  [default: {facts}]",
    )


def quick_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the preset of a demonstration."""
    return option(
        "--quick",
        metavar="[true|false]",
        type=click.BOOL,
        is_flag=False,
        flag_value="true",
        default=False,
        show_default=False,
        help="a demonstration on the embedded data: about two minutes on two cores, "
        f"{QUICK['least_steps']} steps a training, one student per strategy; other options win",
    )(command)


def some_settings(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of these settings, in this order."""

    def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names):
            command = setting_option(name)(command)
        return command

    return with_options


def executor_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where its parts run, and how many at a time."""
    command = option(
        "--slurm",
        metavar="LIST",
        help="with --executor slurm: options of sbatch, NAME=VALUE,...",
    )(command)
    command = option(
        "--executor",
        type=click.Choice(("local", "slurm")),
        default="local",
        help="where they run: processes here, or jobs of a cluster",
    )(command)
    return option(
        "--jobs",
        metavar="COUNT",
        type=click.IntRange(1, 1000),
        default=1,
        help="processes or jobs at a time",
    )(command)


def settings_options(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give a command an option for each setting; it is called with the config that they make."""

    @wraps(command)
    def configured(config_file: Path | None, *, defaults_yield: bool, **options: Any) -> int | None:
        typed = {name: options.pop(name) for name in fields()}
        quick = options.get("quick", False)
        if quick:
            echo(QUICK_SAYS)
        config = config_of(
            config_file,
            defaults_yield=defaults_yield,
            options=typed,
            preset=QUICK if quick else None,
        )
        return command(config, **options)

    for name in reversed(fields()):
        setting_option(name)(configured)
    option(
        "--defaults-yield",
        is_flag=True,
        hidden=True,
        help="an option at its default gives way to the config file (used by MLproject)",
    )(configured)
    return option(
        "--config",
        "config_file",
        metavar="FILE",
        type=click.Path(path_type=Path),  # MLproject passes an empty text
        help="YAML file of settings; options win over it",
    )(configured)


def store_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the two options that say which tracked runs are meant."""
    command = option("--experiment", metavar="NAME", help="MLflow experiment  [cryossl]")(command)
    return option(
        "--tracking-uri", metavar="URI", help="MLflow tracking store  [sqlite:///mlflow.db]"
    )(command)


def place_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which tracking store and which work folder are meant."""
    command = option("--work", help="work folder, whose journals hold what was recorded  [work]")(
        command
    )
    return store_options(command)


def choice_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what is compared."""
    command = option(
        "--where",
        metavar="SETTING=VALUE",
        multiple=True,
        help="only runs with this value; may be repeated, values of one setting are alternatives",
    )(command)
    command = option(
        "--by",
        metavar="SETTING",
        multiple=True,
        help="what the values of a setting do to the score, e.g. particle_threshold, "
        "class_balanced.particle_threshold, ratio; may be repeated",
    )(command)
    command = option(
        "--group",
        metavar="NAME",
        default="",
        show_default=False,
        help="group of comparable runs by its short name; `list` lists them  [the newest that "
        "holds what is asked]",
    )(command)
    command = option(
        "--views",
        type=click.Choice((1, 8)),
        help="scoring that all is by: one view or the mean over eight  [the runs' headline]",
    )(command)
    command = option(
        "--metric", metavar="METRIC", default="test/f1", help="metric of the comparison"
    )(command)
    return option(
        "--ratio",
        metavar="PERCENT",
        type=Number(0, 100, min_open=True),
        help="only this labelled part, in percent",
    )(command)


def config_of(
    config_file: Path | None,
    *,
    defaults_yield: bool,
    options: Mapping[str, str | None],
    preset: Mapping[str, Any] | None = None,
) -> Config:
    """The config of a file and options; prints which filled-in defaults gave way to the file.

    `--device cuda:1` lets this process, and those that it starts, see that GPU alone. Which of the
    GPUs it was moves no number and is no part of the config.
    """
    typed = {name: text for name, text in options.items() if text is not None}
    if typed.get("device", "").startswith("cuda:"):
        narrowed = single(typed["device"], os.environ, present_gpus())
        if narrowed is not None:
            os.environ.update(narrowed)
            typed["device"] = "cuda"
    defaults = (
        {name: default_text(field) for name, (_, field) in fields().items()}
        if defaults_yield
        else {}
    )
    if config_file is not None and not str(config_file).strip("."):
        config_file = None  # MLproject passes an empty text where no file was named
    config, overridden = load(config_file, typed, yielding=defaults, preset=preset or {})
    if overridden:
        given = [str(config_file)] if config_file is not None else []
        source = " and ".join([*given, *(["--quick"] if preset else [])])
        click.echo(
            f"from {source}: {', '.join(overridden)} (the defaults of MLproject give way to it)"
        )
    return config


def dashes(token: str) -> str:
    """Take `--learning_rate`, as `mlflow run -P` writes it, for `--learning-rate`.

    An option may have a second name, which no page shows.
    """
    name = token.replace("_", "-")
    return _SECOND_NAMES.get(name, name)
