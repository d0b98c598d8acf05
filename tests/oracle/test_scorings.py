"""Both F1 of one network, computed anew with numpy and scikit-learn from the maps of its views."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score

from cryossl.config_file import build
from cryossl.data.labels import IGNORE, PARTICLE
from cryossl.data.levels import LARGEST_Z, LEVELS_PER_Z, NEUTRAL
from cryossl.data.synthetic.dataset import synthesise
from cryossl.evaluation.picking import pick
from cryossl.network import architecture as networks
from cryossl.network.checkpoints import load_weights
from cryossl.progress.events import silent
from cryossl.selftraining import prepare
from cryossl.selftraining.arms import experiment_of
from cryossl.selftraining.stage_code import stage_code

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that finds something, scored on three micrographs of two tiles each way."""
    folder = tmp_path_factory.mktemp("scored")
    synthesise(folder / "data", seed=0, train=6, validation=3, test=3, size_px=64, report=silent)
    config = build(
        {
            "data": str(folder / "data"),
            "work": folder / "work",
            "ratio": 100,
            "tile_px": 32,
            "decoder_width": 4,
            "batch_size": 4,
            "least_steps": 150,
            "learning_rate": 0.01,
            "validations": 1,
        }
    )
    loaded = prepare.load(config, silent)
    split = prepare.draw(config, prepare.sketch(config, loaded).micrographs, tile_px=32)
    code = stage_code(config.run.code_file, keep=False)
    experiment, scoring = experiment_of(
        config,
        prepare.store_of(loaded, config, code, silent),
        split,
        code,
        device=CPU,
        precision="fp32",
        report=silent,
        notice=lambda _: None,
    )
    model = experiment.fit(split.labelled, None, iteration=0, on_epoch=lambda _: None)
    network = networks.build(config.network, seed=0)
    network.load_state_dict(load_weights(model.stage.folder / "last.safetensors"))
    return experiment, network.eval(), scoring.score(model)


def turned(picture: np.ndarray) -> list[tuple[np.ndarray, object]]:
    """The eight orientations of a square, each with the function that turns it back."""
    seen = []
    for turns, mirrored in product(range(4), (False, True)):
        view = np.rot90(np.fliplr(picture) if mirrored else picture, turns)

        def back(found, turns=turns, mirrored=mirrored):
            straight = np.rot90(found, -turns)
            return np.fliplr(straight) if mirrored else straight

        seen.append((view.copy(), back))
    return seen


def probability(network, square: np.ndarray) -> np.ndarray:
    z = torch.from_numpy(square.astype(np.float32) / LEVELS_PER_Z - LARGEST_Z)[None, None]
    with torch.inference_mode():
        return torch.sigmoid(network(z.contiguous(memory_format=torch.channels_last)))[0, 0].numpy()


def whole_map(experiment, network, name: str, *, views: int) -> np.ndarray:
    """p8 of a micrograph, tile by tile, in float64 but for the network itself."""
    store = experiment.store
    picture = store.picture(name)
    p = np.zeros(picture.shape)
    for tile in store.tiles(name):
        square = np.full((store.tile_px, store.tile_px), NEUTRAL, np.uint8)
        cut = picture[tile.y : tile.y + store.tile_px, tile.x : tile.x + store.tile_px]
        square[: cut.shape[0], : cut.shape[1]] = cut
        found = [back(probability(network, view)) for view, back in turned(square)[:views]]
        mean = np.mean(found, axis=0, dtype=np.float64)
        y0, y1, x0, x1 = tile.own
        p[y0:y1, x0:x1] = mean[y0 - tile.y : y1 - tile.y, x0 - tile.x : x1 - tile.x]
    return np.rint(255 * p).astype(np.uint8)


def pixels(experiment, maps: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """True classes and p8 of all valid pixels of all micrographs."""
    found = [
        (truth[truth != IGNORE] == PARTICLE, p8[truth != IGNORE])
        for name, p8 in maps.items()
        for truth in [experiment.store.truth(name, border=True)]
    ]
    there, p8 = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return there, p8


def particle_f1(experiment, maps: dict[str, np.ndarray], threshold16: int) -> float:
    store, counts = experiment.store, np.zeros(3, int)
    for name, p8 in maps.items():
        stored, diameter = store.micrographs[name], store.diameter_px(name)
        found = pick(p8, radius_px=diameter / 2)
        chosen = found.centres[found.scores >= threshold16].astype(float)
        band, sides = stored.border_px, np.array([stored.height_px, stored.width_px])
        chosen, truths = (
            places[((places >= band) & (places < sides - band)).all(axis=1)]
            for places in (chosen, store.centres(name))
        )
        near = cdist(chosen, truths) <= 0.3 * diameter
        hits = int((maximum_bipartite_matching(csr_array(near), perm_type="column") >= 0).sum())
        counts += (hits, len(chosen) - hits, len(truths) - hits)
    tp, fp, fn = counts
    return float(2 * tp / (2 * tp + fp + fn))


@pytest.mark.parametrize("views", [1, 8])
def test_both_f1_of_pixels_and_particles_are_those_of_an_independent_computation(trained, views):
    """A rounding of the last bit moves single pixels by one level: F1 agrees to its third digit."""
    experiment, network, scorings = trained
    scored = scorings.single if views == 1 else scorings.eight
    validation, test = (
        {name: whole_map(experiment, network, name, views=views) for name in part}
        for part in (experiment.split.validation, experiment.split.test)
    )
    there, p8 = pixels(experiment, validation)
    f1 = {level: f1_score(there, p8 >= level, zero_division=0.0) for level in range(1, 256)}
    numbers = scored.numbers()
    assert numbers["validation/f1"] == pytest.approx(max(f1.values()), abs=2e-3)
    assert f1[scored.threshold8] == pytest.approx(max(f1.values()), abs=2e-3)
    there, p8 = pixels(experiment, test)
    assert numbers["test/f1"] == pytest.approx(f1_score(there, p8 >= scored.threshold8), abs=2e-3)
    found = particle_f1(experiment, test, scored.pick_threshold16)
    assert numbers["test/particle_f1"] == pytest.approx(found, abs=0.03)
    assert min(numbers["test/f1"], found) > 0.3


def test_the_two_scorings_differ_so_that_one_cannot_stand_for_the_other(trained):
    *_, scorings = trained
    single, eight = (one.numbers()["test/f1"] for one in (scorings.single, scorings.eight))
    assert abs(single - eight) > 5e-3
