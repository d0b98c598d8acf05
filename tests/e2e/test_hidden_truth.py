"""The labels that an experiment hides reach no number: not training, not selection, not a score; only the audit and `full`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cryossl.config_file import build
from cryossl.progress.events import silent
from cryossl.selftraining import prepare as preparation

OPTIONS = ("--max-iterations", "2", "--particle-diameter-px", "12")
STRATEGIES = (
    "--strategies",
    "naive,class_balanced,stability,ema_consistency+labelled_paste+prior_match",
)


def micrographs_of(lab, kind: str) -> set[str]:
    """The micrographs that a run's split calls labelled or unlabelled."""
    (split,) = (lab.folder / "mlruns").rglob("split.json")
    return set(json.loads(split.read_text())[kind])


def with_noise_for_labels(data: Path, hidden: set[str], to: Path) -> Path:
    """A copy in which the particles of the hidden micrographs lie anywhere and have any size.

    Their number stays, and the source of each micrograph is stated: what may be known of a
    micrograph that nobody annotated does not change.
    """
    shutil.copytree(data, to)
    sources = json.loads((data / "simulation.json").read_text())["micrographs"]
    (to / "sources.csv").write_text(
        "file,source\n" + "".join(f"{name},{one['source']}\n" for name, one in sources.items())
    )
    file = to / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    names = {image["id"]: f"train/{image['file_name']}" for image in content["images"]}
    rng = np.random.default_rng(0)
    for record in content["annotations"]:
        if names[record["image_id"]] in hidden and any(record["bbox"]):
            x, y = (float(place) for place in rng.uniform(0, 48, 2))
            width, height = (float(side) for side in rng.uniform(2, 40, 2))
            record.update(bbox=[x, y, width, height], area=width * height, segmentation=[])
    file.write_text(json.dumps(content))
    return to


def without_sources(data: Path) -> Path:
    """Take away all that names a source: the table, and the beginnings of the file names."""
    (data / "sources.csv").unlink()
    for part in ("train", "val", "test"):
        file = data / "annotations" / f"instances_{part}.json"
        content = json.loads(file.read_text())
        for number, image in enumerate(content["images"]):
            plain = f"mic_{number:04d}.png"
            (data / part / image["file_name"]).rename(data / part / plain)
            image["file_name"] = plain
        file.write_text(json.dumps(content))
    return data


@pytest.fixture(scope="module")
def labs(new_lab, tiny_data, tmp_path_factory):
    """The same experiment on true labels and on noise in place of all hidden ones, with and without the audit."""
    folder = tmp_path_factory.mktemp("truth")
    true = new_lab(with_noise_for_labels(tiny_data, set(), folder / "true"))
    options = (*OPTIONS, *STRATEGIES)
    assert true.run(*options).code == 0
    noise = new_lab(
        with_noise_for_labels(true.data, micrographs_of(true, "unlabelled"), folder / "noise")
    )
    assert noise.run(*options).code == 0
    for lab in (true, noise):
        assert lab.run(*options, "--audit", "true", "--name", "audited").code == 0
    return true, noise


def weights(lab) -> list[bytes]:
    return sorted(path.read_bytes() for path in lab.work.glob("stages/train/*/*.safetensors"))


def test_the_hidden_labels_differ(labs):
    true, noise = (
        json.loads((lab.data / "annotations" / "instances_train.json").read_text()) for lab in labs
    )
    changed = sum(
        a["bbox"] != b["bbox"]
        for a, b in zip(true["annotations"], noise["annotations"], strict=True)
    )
    assert changed >= 8


def test_noise_in_place_of_the_hidden_labels_changes_no_number_and_no_weight(labs):
    true, noise = labs
    assert len(true.numbers()) >= 8
    assert noise.numbers() == true.numbers()
    assert weights(noise) == weights(true)


def test_noise_changes_no_tracked_number_either(labs):
    def tracked(lab):
        return sorted(
            lab.asked(
                "SELECT t.value, m.key, m.step, m.value FROM metrics m JOIN tags t USING "
                "(run_uuid) "
                "WHERE t.key = 'mlflow.runName' AND m.key NOT LIKE 'time/%' AND m.key NOT LIKE "
                "'%/seconds' "
                "AND m.key NOT LIKE 'pseudo/audit%'"
            )
        )

    true, noise = map(tracked, labs)
    assert len(true) > 100
    assert noise == true


def test_the_audit_sees_the_hidden_truth_and_moves_nothing_else(labs):
    moved: dict[str, list] = {}
    for lab in labs:
        plain, audited = lab.numbers(), lab.numbers(of="audited")
        assert plain.keys() == audited.keys()
        for model, numbers in plain.items():
            added = {name: value for name, value in audited[model].items() if name not in numbers}
            assert {name: audited[model][name] for name in numbers} == numbers
            students = {"pseudo/audit_precision", "pseudo/audit_recall", "pseudo/audit_f1"}
            assert set(added) == (set() if model.endswith(" 0") else students)
            moved.setdefault(model, []).append(added)
    assert [model for model, (a, b) in moved.items() if a != b] != []


def test_noise_changes_neither_sources_nor_measures_nor_the_split_where_nothing_names_a_source(
    tiny_data, tmp_path
):
    """The last resort, when a source has to be guessed, must not look at hidden labels either."""
    drawn = []
    every = {f"train/{path.name}" for path in (tiny_data / "train").iterdir()}
    for name, hidden in (("true", set()), ("noise", every)):
        data = without_sources(with_noise_for_labels(tiny_data, hidden, tmp_path / name))
        config = build({"data": str(data), "ratio": 30})
        dataset = preparation.load(config, silent)
        store_plan = preparation.sketch(config, dataset)
        drawn.append(
            (
                preparation.draw(config, store_plan.micrographs, tile_px=store_plan.tile_px),
                dataset.border_px,
                dataset.diameter_px,
                dataset.notes,
                [(one.id, one.source) for one in store_plan.micrographs],
            )
        )
        assert any("picture size alone" in note for note in dataset.notes)
    assert drawn[0] == drawn[1]


def test_the_ceiling_alone_learns_from_them(labs):
    for lab in labs:
        assert lab.run(*OPTIONS, "--strategies", "full", "--name", "ceiling").code == 0
    true, noise = (lab.numbers(of="ceiling") for lab in labs)
    assert true["full 0"] == noise["full 0"]
    assert true["full 1"] != noise["full 1"]
