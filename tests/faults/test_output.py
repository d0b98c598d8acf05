"""Real commands whose output goes to places that are not UTF-8, closed or full."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from faults.apart import environment

CLI = Path(__file__).resolve().parents[2] / "cli.py"


def shell(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """A line of a shell in which `$cryossl` is the command."""
    return subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        env=environment(cryossl=f"{sys.executable} {CLI}", **variables),
        capture_output=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A data set that is not as it should be, and the live file of a run that has failed."""
    folder = tmp_path_factory.mktemp("output")
    done = shell(
        "$cryossl data synth --to data --size-px 64 --train 6 --validation 2 --test 1", folder
    )
    assert done.returncode == 0
    (folder / "experiments" / "x").mkdir(parents=True)
    (folder / "experiments" / "x" / "status.json").write_text(
        '{"run": "x", "pid": 1, "host": "h", "process_started": 0, "started": 0, "updated": 1, '
        '"state": "failed", "messages": ["✅ 5% ± 1 → é"]}',
        encoding="utf-8",
    )
    return folder


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252:strict"])
@pytest.mark.parametrize("words", ["data check data", "status --name x"])
def test_a_command_prints_in_any_encoding(note, folder, encoding, words):
    done = shell(f"$cryossl {words}", folder, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert ("[ok]" if "data" in words else "[failed]") in done.stdout.decode(encoding.split(":")[0])
    note(
        f"output in {encoding}: {words}",
        ran="the command in a process of its own",
        found="exit code 0, marks as [ok] and [failed]",
        bar="no UnicodeEncodeError",
    )


def test_a_locale_without_utf8_prints_ascii(folder):
    done = shell(
        "$cryossl status --name x", folder, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"[ok] 5% +- 1 -> \\xe9" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line(folder):
    done = shell("$cryossl status --name x > /dev/full", folder)
    assert done.returncode == 6
    assert done.stderr.decode().splitlines() == [
        "cryossl: error: a file or standard output: No space left on device; check the path and "
        "its permissions"
    ]


def test_closed_streams_are_no_fault_and_no_file_is_taken_for_them(folder):
    """A file that is opened while descriptor 2 is free would get what is meant for people."""
    done = shell(
        "$cryossl data synth --to other --size-px 64 --train 6 --validation 2 --test 1 "
        "<&- >&- 2>&-; echo $?",
        folder,
    )
    assert (done.stdout, done.stderr) == (b"0\n", b"")
    for path in (folder / "data").rglob("*.*"):
        if path.is_file():
            assert (folder / "other" / path.relative_to(folder / "data")).read_bytes() == (
                path.read_bytes()
            )


def test_a_name_that_is_not_utf8_is_shown_escaped(folder):
    name = os.fsdecode(b"b\xffd.png")
    (folder / "experiments" / name).mkdir(exist_ok=True)
    done = shell(f"$cryossl status --name {name}", folder)
    assert done.returncode == 6
    assert b"no run has written experiments/b\\xffd.png/status.json" in done.stderr
    done = shell(f"$cryossl data check {name}", folder)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    pictures = folder / "bad"
    shutil.copytree(folder / "data", pictures)
    annotations = pictures / "annotations" / "instances_train.json"
    document = json.loads(annotations.read_text(encoding="utf-8"))
    picture = document["images"][0]["file_name"]
    document["images"][0]["file_name"] = name
    annotations.write_text(json.dumps(document), encoding="utf-8")
    (picture,) = pictures.rglob(Path(picture).name)
    picture.rename(picture.with_name(name))
    for words in ("data check bad", "run --data bad --tracking-uri sqlite:///none.db"):
        done = shell(f"$cryossl {words}", folder)
        assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    done = shell("$cryossl data check bad", folder)
    assert b"the file name 'b\\udcffd.png' is not a relative path" in done.stdout
