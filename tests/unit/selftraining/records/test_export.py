"""The exported model picks without the experiment, and its file is read or refused with one line."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small_stores import dataset, make_store  # noqa: F401 (a fixture)

from cryossl.config_file import build
from cryossl.data.images import read_picture
from cryossl.data.imported import IMPORT_FILE
from cryossl.data.splits import Split
from cryossl.errors import DataError
from cryossl.evaluation.scores import Scored
from cryossl.evaluation.scorings import Scorings
from cryossl.network.calibration import Views
from cryossl.network.picking_model import PickingModel, Scale, picks_of, probabilities, read, seen
from cryossl.picking.importing.readings import Reading
from cryossl.progress.events import silent
from cryossl.selftraining.models import Committee
from cryossl.selftraining.records.export import exported, label_reading
from cryossl.selftraining.steps import Experiment
from cryossl.system.stages import Stages

FACTS = {"run_key": "k", "strategy": "supervised", "iteration": 0, "code_digest": "c"}


@pytest.fixture(params=[(1, 1), (4, 1), (4, 2)], ids=["one view", "four views", "two networks"])
def trained(dataset, tmp_path, request) -> tuple[Experiment, Scored, PickingModel]:  # noqa: F811
    views, networks = request.param
    config = build(
        {
            "decoder_width": 4,
            "batch_size": 2,
            "baseline_epochs": 1,
            "least_steps": 0,
            "validations": 1,
            "target_particle_ratio": 0.1,
            "views": views,
            "eight_views": False,
        }
    )
    split = Split(("train/a_1.png",), ("train/b_2.png",), ("val/a_3.png",), ("test/b_3.png",))
    experiment = Experiment(
        config,
        make_store(dataset, tmp_path / "stores"),
        split,
        Stages(tmp_path / "stages"),
        device=torch.device("cpu"),
        precision="fp32",
        report=silent,
    )
    members = [
        experiment.fit(
            split.labelled, None, iteration=number, on_epoch=lambda _: None, member=number
        )
        for number in range(networks)
    ]
    model = members[0] if networks == 1 else Committee(tuple(members))
    validation = experiment.evaluate(model, "validation")
    scored = Scored(validation, experiment.evaluate(model, "test"), validation.decision_threshold())
    return (
        experiment,
        scored,
        exported(experiment, model, Scorings(scored), numbers=scored.numbers(), facts=FACTS),
    )


def test_the_file_alone_gives_the_picks_that_the_experiment_scored(trained, tmp_path):
    experiment, scored, model = trained
    path = tmp_path / "model.safetensors"
    path.write_bytes(model.to_bytes())
    found = read(path)
    assert found.description == model.description
    assert isinstance(found.network(), Views) == (found.description.views > 1)
    for evaluation in (scored.validation, scored.test):
        (name,) = evaluation.ids
        stored = experiment.store.micrographs[name]
        picture = read_picture(tmp_path / "data" / name, max_megapixels=1)
        scale = found.scale_of(height_px=72, width_px=96, source=stored.source)
        ((_, p8),) = probabilities(
            found.network(),
            {"m": seen(picture, scale)},
            tile_px=found.description.tile_px,
            batch_size=2,
            device=torch.device("cpu"),
            precision="fp32",
        )
        picks = picks_of(p8, found.description, scale)
        inside = type(picks)(picks.centres * scale.scale, picks.scores).within(
            height_px=stored.height_px, width_px=stored.width_px, border_px=stored.border_px
        )
        expected = evaluation.picked[0].picks
        assert len(expected.scores) > 0
        np.testing.assert_array_equal(inside.scores, expected.scores)
        np.testing.assert_allclose(inside.centres, expected.centres, atol=1e-4)


def test_the_scale_comes_from_the_diameter_the_source_or_the_size_of_the_picture(trained):
    *_, model = trained
    sources = model.description.sources
    # 72 x 96 px were reduced to 36 x 48; particles are 8 px wide in a and 16 px in b.
    assert {name: one.diameter_px for name, one in sources.items()} == {"a": 8.0, "b": 16.0}
    assert model.scale_of(height_px=72, width_px=96, source="b") == Scale(0.5, 8.0)
    assert model.scale_of(height_px=500, width_px=96, source="b", diameter_px=32.0) == Scale(
        0.25, 8.0
    )
    assert model.scale_of(height_px=5, width_px=9, diameter_px=3.0) == Scale(2.0, 6.0)
    for message, options in {
        "several sources of the model have pictures of 96 x 72 px.*the source": {},
        "no source of the model has pictures of 10 x 72 px": {"width_px": 10},
        "knows no source 'c'.*a, b": {"source": "c"},
    }.items():
        with pytest.raises(DataError, match=message):
            model.scale_of(**{"height_px": 72, "width_px": 96, **options})


@pytest.mark.parametrize(
    ("content", "flips"),
    [
        ({"reading": dataclasses.asdict(Reading(flip_y=True, scale=2.0))}, True),
        ({"reading": dataclasses.asdict(Reading())}, False),
        ({"reading": {"flip_y": True}}, None),
        ({"reading": "as they are"}, None),
        ([], None),
        (None, None),
    ],
    ids=["flipped", "plain", "torn", "text", "list", "no file"],
)
def test_how_labels_were_read_is_taken_from_the_data_folder(tmp_path, content, flips):
    if content is not None:
        (tmp_path / IMPORT_FILE).write_text(json.dumps(content))
    found = label_reading(tmp_path)
    assert (None if found is None else found.flip_y) == flips
    assert found is None or found.model_dump() == content["reading"]


def rewritten(path: Path, change) -> None:
    with safe_open(path, framework="pt") as content:
        weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        description = json.loads(content.metadata()["cryossl"])
    metadata = change(weights, description)
    save_file(weights, path, metadata=metadata)


def put(name, value):
    def change(weights, description):
        return {"cryossl": json.dumps({**description, name: value})}

    return change


def without_a_tensor(weights, description):
    weights.pop(min(weights))
    return {"cryossl": json.dumps(description)}


@pytest.mark.parametrize("trained", [(1, 1)], indirect=True)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is no file"),
        (lambda path: os.truncate(path, 100), "is no safetensors file"),
        (lambda path: path.write_bytes(b""), "is no safetensors file"),
        (lambda path: path.write_bytes(b"\xff" * 4000), "is no safetensors file"),
        (lambda path: rewritten(path, lambda *_: None), "holds weights alone"),
        (lambda path: rewritten(path, lambda *_: {"cryossl": "["}), "Invalid JSON"),
        (lambda path: rewritten(path, put("views", 3)), "views: Input should be 1, 4 or 8"),
        (lambda path: rewritten(path, put("more", 3)), "more: Extra inputs"),
        (lambda path: rewritten(path, put("networks", 0)), "networks: Input should be greater"),
        (lambda path: rewritten(path, put("networks", 2)), "do not fit its network"),
        (lambda path: rewritten(path, put("format", "other/2")), "format: Input should be"),
        (lambda path: rewritten(path, without_a_tensor), "do not fit its network"),
    ],
    ids=[
        "gone",
        "cut",
        "empty",
        "noise",
        "bare",
        "broken JSON",
        "views",
        "foreign",
        "no network",
        "networks",
        "version",
        "tensor",
    ],
)
def test_a_file_that_is_no_whole_model_is_one_line(trained, tmp_path, damage, message):
    *_, model = trained
    path = tmp_path / "model.safetensors"
    path.write_bytes(model.to_bytes())
    damage(path)
    with pytest.raises(DataError, match=message) as caught:
        read(path).network()
    assert "\n" not in str(caught.value)
