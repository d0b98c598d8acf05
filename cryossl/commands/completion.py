"""Completion of commands, options and values in a shell: Click's own, and its installation."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class
from pydantic.fields import FieldInfo

from cryossl.errors import ConfigError, StorageError
from cryossl.progress.terminal import echo
from cryossl.setting import choices_of
from cryossl.strategy_names import BASES

PROGRAM = "cryossl"
VARIABLE = "_CRYOSSL_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
OF_USER = "auto"
FOLDERS = frozenset({"data", "results", "work"})

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def completer(name: str, field: FieldInfo) -> Completer:
    """What a shell offers as values of a setting: its words, names of strategies, or files."""

    def complete(
        _context: click.Context, _parameter: click.Parameter, typed: str
    ) -> list[CompletionItem]:
        if name in FOLDERS:
            return [CompletionItem(typed, type="dir")]
        if name == "labelled":
            return [CompletionItem(typed, type="file")]
        if name == "strategies":
            return _of_list(("best", *BASES), typed)
        return [
            CompletionItem(text) for text in choices_of(field.annotation) if text.startswith(typed)
        ]

    return complete


def _of_list(names: Sequence[str], typed: str) -> list[CompletionItem]:
    """The names that the last entry of a list with commas can become."""
    before, comma, last = typed.rpartition(",")
    taken = set(before.split(","))
    return [
        CompletionItem(f"{before}{comma}{name}")
        for name in names
        if name.startswith(last) and name not in taken
    ]


def install_option(group: Callable[..., Any]) -> Callable[..., Any]:
    """Give a group of commands `--install-completion`."""
    return click.option(
        "--install-completion",
        metavar=f"[{'|'.join(SHELLS)}]",
        type=click.Choice((*SHELLS, OF_USER)),
        is_flag=False,
        flag_value=OF_USER,
        expose_value=False,
        is_eager=True,
        callback=_install,
        help="let the shell complete commands, options and values; without a name, the shell of "
        "$SHELL",
    )(group)


def _install(context: click.Context, _parameter: click.Parameter, shell: str | None) -> None:
    if shell is None or context.resilient_parsing:
        return
    named = Path(os.environ.get("SHELL", "")).name if shell == OF_USER else shell
    echo(installed(context.command, named))
    context.exit()


def installed(command: click.Command, shell: str) -> str:
    """Write the completion of a shell below the home folder; returns what was done, in words.

    Raises ConfigError for another shell, StorageError if a file cannot be written.
    """
    kind = get_completion_class(shell) if shell in SHELLS else None
    if kind is None:
        raise ConfigError(
            f"there is no completion for the shell {shell!r}",
            cure=f"name one: --install-completion {'|'.join(SHELLS)}",
        )
    home = Path.home()
    script, profile = {
        "bash": (home / ".local/share/cryossl/complete.bash", home / ".bashrc"),
        "zsh": (home / ".local/share/cryossl/complete.zsh", home / ".zshrc"),
        # fish reads this folder by itself
        "fish": (home / ".config/fish/completions/cryossl.fish", None),
    }[shell]
    text = kind(command, {}, PROGRAM, VARIABLE).source()
    try:
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(text, encoding="utf-8")
        done = f"wrote {script}"
        line = f'. "{script}"  # completion of {PROGRAM}'
        if profile is not None and (not profile.exists() or line not in profile.read_text()):
            with profile.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}\n")
            done += f" and a line in {profile} that reads it"
    except OSError as error:
        raise StorageError(
            f"{error.filename or script} cannot be written: {error.strerror}",
            cure="check its permissions",
        ) from None
    return f"{done}; a new shell completes `{PROGRAM}`"
