"""A changed line of the code that computes a stage computes it anew; a changed comment does not."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CONSTANT = "LARGEST_GRADIENT_NORM = "
OPTIONS = (
    *("--ratio", "30", "--batch-size", "2", "--decoder-width", "4", "--threads", "1"),
    *("--least-steps", "0", "--baseline-epochs", "4", "--validations", "1"),
)


class Copy:
    """A copy of the program's sources whose files a test may change, and one place to run it in."""

    def __init__(self, folder: Path, data: Path, template: Path) -> None:
        self.folder, self._data = folder, data
        for name in ("cryossl", "analysis"):
            shutil.copytree(
                PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copyfile(PROJECT / "cli.py", folder / "cli.py")
        shutil.copyfile(template, folder / "mlflow.db")

    def change(self, module: str, old: str, new: str) -> None:
        path = self.folder / module
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), encoding="utf-8")

    def run(self, *options: str) -> str:
        """What `baseline` prints."""
        places = ("--data", str(self._data), "--tracking-uri", f"sqlite:///{self.folder}/mlflow.db")
        done = subprocess.run(
            [sys.executable, "cli.py", "baseline", *places, *OPTIONS, *options],
            cwd=self.folder,
            env={**os.environ, "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stages(self) -> set[str]:
        stages = self.folder / "work" / "stages"
        return {
            path.parent.relative_to(stages).as_posix() for path in stages.glob("*/*/stage.json")
        }

    def stores(self) -> set[str]:
        return {path.name for path in (self.folder / "work" / "stores").glob("store-*/")}

    def tag(self, name: str, *, kind: str = "experiment") -> set[str]:
        """The values of a tag of the runs of a kind."""
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            return {
                value
                for (value,) in database.execute(
                    "SELECT t.value FROM tags t JOIN tags k USING (run_uuid) WHERE t.key = ? AND "
                    "k.key = 'cryossl.kind' AND k.value = ?",
                    (name, kind),
                )
            }


@pytest.fixture(scope="module")
def copy(tmp_path_factory, tiny_data, store_template):
    made = Copy(tmp_path_factory.mktemp("copy").resolve(), tiny_data, store_template)
    made.run()
    return made


def kinds(stages: set[str]) -> set[str]:
    return {stage.split("/")[0] for stage in stages}


def test_changed_code_is_computed_anew_unless_stages_are_kept_and_a_comment_changes_nothing(copy):
    first, stores = copy.stages(), copy.stores()
    (code,) = copy.tag("cryossl.code_digest")
    assert kinds(first) == {"train", "evaluate"}

    copy.change("cryossl/network/step.py", CONSTANT, f"# A comment.\n{CONSTANT}")
    copy.run()
    assert copy.stages() == first

    old = (copy.folder / "cryossl/network/step.py").read_text(encoding="utf-8")
    value = next(line for line in old.splitlines() if line.startswith(CONSTANT)).split()[2]
    copy.change("cryossl/network/step.py", f"{CONSTANT}{value}", f"{CONSTANT}0.001")

    printed = copy.run("--keep-stages", "true")
    assert copy.stages() == first
    assert f"finished stages of other code are reused ({code})" in printed
    assert copy.tag("cryossl.kept_stages", kind="iteration") == {"false", "true"}

    printed = copy.run()
    assert kinds(copy.stages() - first) == {"train", "evaluate"}
    assert copy.stores() == stores
    assert len(copy.tag("cryossl.code_digest")) == 2

    second = copy.stages()
    copy.change("cryossl/evaluation/picking.py", "def pick(", "CHANGED = 1\n\n\ndef pick(")
    copy.run()
    assert kinds(copy.stages() - second) == {"evaluate"}

    # What is tracked beside the stages is another experiment, computed from the same stages.
    third, codes = copy.stages(), copy.tag("cryossl.code_digest")
    copy.change("cryossl/selftraining/acceptance.py", "RESAMPLES = 4999", "RESAMPLES = 999")
    copy.run()
    assert copy.stages() == third
    assert len(copy.tag("cryossl.code_digest") - codes) == 1


def test_the_record_of_a_stage_names_the_code_that_computed_it(copy):
    versions = json.loads((copy.folder / "work" / "code.json").read_text())
    for kind in ("train", "evaluate"):
        stages = [stage for stage in copy.stages() if stage.startswith(kind)]
        recorded = {
            json.loads((copy.folder / "work/stages" / stage / "stage.json").read_text())["code"]
            for stage in stages
        }
        assert recorded == {version[kind] for version in versions}
