"""Write docs/settings.md and docs/cli.md from the settings and the commands.

`python -m scripts.make_docs`
"""

from __future__ import annotations

import re
from pathlib import Path

import click

import cli
from cryossl.config import fields, sections
from cryossl.setting import allowed_text, default_text

PROJECT = Path(__file__).resolve().parents[1]
NOTICE = (
    "<!-- Written by `python -m scripts.make_docs`; change cryossl/config.py or cli.py instead. -->"
)
WIDTH = 110


def pages() -> dict[str, str]:
    """Path below the project -> content of every generated page."""
    return {"docs/settings.md": settings_page(), "docs/cli.md": cli_page()}


def settings_page() -> str:
    """A table for each section: setting, default, allowed values, meaning."""
    lines = [
        "# Settings",
        "",
        NOTICE,
        "",
        "Each can be given as an option (`--learning-rate 0.001`), to `mlflow run` (`-P "
        "learning_rate=0.001`), or "
        "in a YAML file (`--config FILE`; `-P config=FILE`), at the top level or below the name of "
        "its section. "
        "Options win over the file. `cryossl run --dry-run` prints what a run would use. The "
        "tracked parameter is "
        "`section.setting`.",
    ]
    for section, model in sections().items():
        lines += [
            "",
            f"## {section}",
            "",
            (model.__doc__ or "").strip(),
            "",
            "| setting | default | may be | meaning |",
            "|---|---|---|---|",
        ]
        for name, (owner, field) in fields().items():
            if owner == section:
                default = f"`{default_text(field)}`" if default_text(field) else "none"
                lines.append(
                    f"| `{name}` | {default} | {_cell(allowed_text(field))} | "
                    f"{_cell(field.description or '')} |"
                )
    return "\n".join(lines) + "\n"


def cli_page() -> str:
    """The help of each command; settings have their own page."""
    lines = [
        "# Commands",
        "",
        NOTICE,
        "",
        "`python cli.py` in the project, or `cryossl` with its environment active, is the same "
        "program. Exit "
        "codes: 0 done, 2 usage or data, 3 tracking store, 4 data that changed meanwhile, 5 a "
        "number is not finite, "
        "6 storage, 130 interrupted.",
        "",
        "`cryossl --install-completion` lets bash, zsh or fish complete commands, options and the "
        "values of settings: it writes a file below the home folder and, for bash and zsh, a line "
        "in `.bashrc` or `.zshrc` that reads it.",
    ]
    for path, command in _commands(cli.cli, ("cryossl",)):
        lines += ["", f"## `{' '.join(path)}`", "", "```", _help(path, command), "```"]
        if _is_setting(command.params):
            lines += ["", "Every [setting](settings.md) is an option as well."]
    return "\n".join(lines) + "\n"


def _commands(
    command: click.Command, path: tuple[str, ...]
) -> list[tuple[tuple[str, ...], click.Command]]:
    below = command.commands.items() if isinstance(command, click.Group) else ()
    return [
        (path, command),
        *(one for name, child in below for one in _commands(child, (*path, name))),
    ]


def _help(path: tuple[str, ...], command: click.Command) -> str:
    """What `--help` prints, without the settings."""
    context = click.Context(
        command,
        info_name=" ".join(path),
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    every, kept = (
        command.params,
        [
            one
            for one in command.params
            if one.name not in fields() or not _is_setting(command.params)
        ],
    )
    command.params = kept
    try:
        return re.sub(r"[ \t]+$", "", command.get_help(context), flags=re.MULTILINE)
    finally:
        command.params = every


def _is_setting(parameters: list[click.Parameter]) -> bool:
    """Whether a command takes all settings.

    Other commands may have an option with the name of a setting.
    """
    return set(fields()) <= {one.name for one in parameters}


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the pages."""
    for name, content in pages().items():
        (PROJECT / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
