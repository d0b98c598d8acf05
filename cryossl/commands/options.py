"""Options of the command line: one for each setting, and the config that typed options make."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from cryossl.config import Config, fields
from cryossl.config_file import load
from cryossl.setting import default_text

PATH = click.Path(path_type=Path)
_SECOND_NAMES = {"particle-diameter-angstrom": "diameter-angstrom"}
option = partial(click.option, show_default=True)
_SHORTER = {"register_as": ["--register"]}  # pydantic has an attribute of this name
json_option = partial(option, "--json", "as_json", is_flag=True)


def setting_option(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option of a setting; the command gets its text, or None where it was not typed."""
    section, field = fields()[name]
    # `--follow-links` alone means `--follow-links true`.
    alone: dict[str, Any] = {"is_flag": False, "flag_value": "true"}
    return option(
        f"--{name.replace('_', '-')}",
        *_SHORTER.get(name, ()),
        name,
        metavar="VALUE",
        **(alone if field.annotation is bool else {}),
        help=f"{field.description}  [{section}; {default_text(field) or 'none'}]",
    )


def some_settings(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of these settings, in this order."""

    def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names):
            command = setting_option(name)(command)
        return command

    return with_options


def executor_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the two options that say where its parts run."""
    command = option(
        "--slurm",
        metavar="LIST",
        help="with --executor slurm: submitit's parameters, NAME=VALUE,...",
    )(command)
    return option(
        "--executor",
        type=click.Choice(("local", "slurm")),
        default="local",
        help="where they run: processes here, or jobs of a cluster",
    )(command)


def settings_options(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give a command an option for each setting; it is called with the config that they make."""

    @wraps(command)
    def configured(config_file: Path | None, *, defaults_yield: bool, **options: Any) -> int | None:
        typed = {name: options.pop(name) for name in fields()}
        config = config_of(config_file, defaults_yield=defaults_yield, options=typed)
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
        type=PATH,
        help="YAML file of settings; options win over it",
    )(configured)


def config_of(
    config_file: Path | None, *, defaults_yield: bool, options: dict[str, str | None]
) -> Config:
    """The config of a file and options; prints which filled-in defaults gave way to the file."""
    typed = {name: text for name, text in options.items() if text is not None}
    defaults = (
        {name: default_text(field) for name, (_, field) in fields().items()}
        if defaults_yield
        else {}
    )
    if config_file is not None and not str(config_file).strip("."):
        config_file = None  # MLproject passes an empty text where no file was named
    config, overridden = load(config_file, typed, yielding=defaults)
    if overridden:
        click.echo(
            f"from {config_file}: {', '.join(overridden)} (the defaults of MLproject give way to "
            "it)"
        )
    return config


def dashes(token: str) -> str:
    """Take `--learning_rate`, as `mlflow run -P` writes it, for `--learning-rate`.

    An option may have a second name, which no page shows.
    """
    name = token.replace("_", "-")
    return _SECOND_NAMES.get(name, name)
