"""Completion in a shell: what is offered, and a real bash that loads it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from typed_commands import call

import cli
from cryossl.commands.completion import SHELLS

PROJECT = Path(__file__).resolve().parents[3]


def offered(*words: str) -> list[str]:
    """What is offered for the last word after the others."""
    found = ShellComplete(cli.cli, {}, "cryossl", "_CRYOSSL_COMPLETE").get_completions(
        list(words[:-1]), words[-1]
    )
    return [item.value for item in found]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("run", "--device", ""), ["auto", "cpu", "cuda", "mps"]),
        (("run", "--device", "c"), ["cpu", "cuda"]),
        (("run", "--audit", ""), ["true", "false"]),
        (("run", "--border", ""), ["auto"]),
        (("run", "--target-particle-ratio", "m"), ["measured"]),
        (("run", "--strategies", "nai"), ["naive"]),
        (("run", "--strategies", "naive,sup"), ["naive,supervised_long", "naive,supervised_noise"]),
        (("compare", "--format", "j"), ["json"]),
        (("run", "--learning-rate", ""), []),
    ],
    ids=str,
)
def test_values_of_settings_are_offered(words, values):
    assert offered(*words) == values


def test_commands_and_options_are_offered():
    assert {"run", "compare", "data"} <= set(offered(""))
    assert "--student-epochs" in offered("run", "--stu")


@pytest.mark.parametrize("shell", SHELLS)
def test_installing_writes_the_script_and_one_line_however_often(shell, tmp_path, monkeypatch):
    if shutil.which(shell) is None and shell == "bash":
        pytest.skip("there is no bash")
    monkeypatch.setenv("HOME", str(tmp_path))
    for _ in range(2):
        done = call("--install-completion", shell)
        assert (done.code, done.err) == (0, "")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("_CRYOSSL_COMPLETE" in path.read_text() for path in written)
    profiles = [path for path in written if path.name in (".bashrc", ".zshrc")]
    assert len(profiles) == (shell != "fish")
    assert all(path.read_text().count("complete.") == 1 for path in profiles)


def test_the_shell_is_that_of_the_user_and_another_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert "completions/cryossl.fish" in call("--install-completion").out
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    refused = call("--install-completion")
    assert refused.code == 2
    assert "'tcsh'; name one: --install-completion bash|zsh|fish" in refused.err


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_real_bash_completes_a_value(tmp_path):
    program = tmp_path / "bin" / "cryossl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PROJECT / "cli.py"}" "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
    }
    script = (
        "cryossl --install-completion bash >&2; . ~/.bashrc; "
        "COMP_WORDS=(cryossl run --device c); COMP_CWORD=3; _cryossl_completion cryossl; "
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout.split(), done.returncode) == (["cpu", "cuda"], 0), done.stderr
