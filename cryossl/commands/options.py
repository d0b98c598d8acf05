"""Options of the command line: one for each setting, and the config that typed options make."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from cryossl.config import Config, fields
from cryossl.config_file import load
from cryossl.setting import default_text
from cryossl.system.gpus import present_gpus, single

PATH = click.Path(path_type=Path)
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
    config, overridden = load(config_file, typed, yielding=defaults)
    if overridden:
        click.echo(
            f"from {config_file}: {', '.join(overridden)} (the defaults of MLproject give way to "
            "it)"
        )
    return config


def dashes(token: str) -> str:
    """Take `--learning_rate`, as `mlflow run -P` writes it, for `--learning-rate`."""
    return token.replace("_", "-")
