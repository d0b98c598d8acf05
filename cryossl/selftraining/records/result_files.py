"""The result files of an experiment, named as in the note; docs/results-files.md has the schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cryossl.config import deciding
from cryossl.system.digest import digest
from cryossl.system.files import write_durably

SCHEMA = "cryossl-results/1"
OUTCOME = "finished.json"


def file_prefix(strategy: str) -> str:
    """The start of a strategy's file names; for class_balanced it is `balanced`, as in the note."""
    return strategy.replace("class_balanced", "balanced", 1)


def write_arm(
    folder: Path, *, strategy: str, ratio_percent: float, seed: int, arm: Mapping[str, Any]
) -> Path:
    """Write one arm into `<prefix>_pseudolabel_ratio_<ratio>.json`; other seeds in it stay."""
    path = folder / f"{file_prefix(strategy)}_pseudolabel_ratio_{ratio_percent:g}.json"
    seeds = {**_read(path).get("seeds", {}), str(seed): dict(arm)}
    document = {
        "schema": SCHEMA,
        "strategy": strategy,
        "ratio_percent": ratio_percent,
        "seeds": {key: seeds[key] for key in sorted(seeds, key=int)},
    }
    write_durably(path, _text(document))
    return path


def is_finished(
    folder: Path,
    *,
    strategy: str,
    ratio_percent: float,
    seed: int,
    split_sha256: str,
    settings: Mapping[str, Any],
    code: str,
) -> bool:
    """Whether an arm of these settings and this code is written already.

    The results and work folders and the other strategies of the run do not matter.
    """
    name = f"{file_prefix(strategy)}_pseudolabel_ratio_{ratio_percent:g}.json"
    arm = _read(folder / name).get("seeds", {}).get(str(seed), {})
    return (arm.get("split_sha256"), arm.get("code_digest")) == (split_sha256, code) and _deciding(
        arm.get("settings", {})
    ) == _deciding(settings)


def _deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    ignored = deciding("nothing") | {"selection.strategies"}
    return {name: value for name, value in settings.items() if name not in ignored}


def write_summary(folder: Path, *, strategy: str) -> Path:
    """Write `<prefix>_pseudolabel_summary.json`: a row per ratio and seed of a strategy's files."""
    prefix = file_prefix(strategy)
    rows = []
    for path in sorted(folder.glob(f"{prefix}_pseudolabel_ratio_*.json")):
        document = _read(path)
        for seed, arm in document.get("seeds", {}).items():
            rows.append(
                {"ratio_percent": document["ratio_percent"], "seed": int(seed), **arm["summary"]}
            )
    rows.sort(key=lambda row: (row["ratio_percent"], row["seed"]))
    target = folder / f"{prefix}_pseudolabel_summary.json"
    write_durably(target, _text({"schema": SCHEMA, "strategy": strategy, "rows": rows}))
    return target


def gather(cell: Path, into: Path, *, strategies: Iterable[str]) -> None:
    """Merge the arms of a cell's folder into the ratio files and summaries of another folder."""
    into.mkdir(parents=True, exist_ok=True)
    for strategy in strategies:
        for path in sorted(cell.glob(f"{file_prefix(strategy)}_pseudolabel_ratio_*.json")):
            document = _read(path)
            for seed, arm in document.get("seeds", {}).items():
                write_arm(
                    into,
                    strategy=strategy,
                    ratio_percent=document["ratio_percent"],
                    seed=int(seed),
                    arm=arm,
                )
            write_summary(into, strategy=strategy)


def made_from(*, data: str, code: Mapping[str, str]) -> str:
    """Digest of the data set as the network sees it and of the code by kind of stage."""
    return digest({"data": data, "code": dict(code)})


def write_outcome(folder: Path, *, fingerprint: str, made_from: str) -> None:
    """Write that a run has ended, what it was made from, and its tracked runs' fingerprint."""
    facts = {"schema": SCHEMA, "fingerprint": fingerprint, "made_from": made_from}
    write_durably(folder / OUTCOME, _text(facts))


def read_outcome(folder: Path) -> tuple[str, str] | None:
    """(fingerprint, made from) of the run that ended last in this folder, or None.

    Arms may have failed.
    """
    document = _read(folder / OUTCOME)
    fingerprint, source = document.get("fingerprint"), document.get("made_from")
    if isinstance(fingerprint, str) and isinstance(source, str):
        return fingerprint, source
    return None


def forget_outcome(folder: Path) -> None:
    """Remove the outcome of an earlier run: a new one begins."""
    (folder / OUTCOME).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    """The document of an earlier run, or an empty one if there is none that can be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        return {}
    seeds = document.get("seeds", {})
    whole = isinstance(seeds, dict) and all(
        isinstance(arm, dict) and "summary" in arm for arm in seeds.values()
    )
    return document if whole else {}


def _text(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()
