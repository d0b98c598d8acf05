"""The temperature against scipy's general minimiser, and the calibration error against scikit-learn's curve."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, special
from sklearn.calibration import calibration_curve

from cryossl.network.calibration import (
    BINS,
    COMPRESSION,
    expected_calibration_error,
    fit_temperature,
)


def drawn(seed: int) -> np.ndarray:
    """A histogram by (true class, p8) whose log odds have noise, so that some temperature other than 1 is best."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.5, 2.0, 20_000)
    truth = rng.random(logits.size) < 1 / (1 + np.exp(-logits / rng.uniform(0.5, 4.0)))
    p8 = np.clip(np.round(255 / (1 + np.exp(-logits / COMPRESSION))), 1, 254).astype(int)
    return np.stack(
        [np.bincount(p8[truth == kind], minlength=256) for kind in (False, True)]
    ).astype(np.int64)


@pytest.mark.parametrize("seed", range(10))
def test_the_temperature_is_where_scipys_nelder_mead_finds_the_least_likelihood_loss(seed):
    counts = drawn(seed)
    p8 = np.arange(1, 255)
    logits = COMPRESSION * (np.log(p8) - np.log(255 - p8))

    def loss(log_temperature: np.ndarray) -> float:
        scaled = logits / np.exp(log_temperature[0])
        return float(
            -(
                counts[0, 1:255] @ special.log_expit(-scaled)
                + counts[1, 1:255] @ special.log_expit(scaled)
            )
        )

    found = optimize.minimize(
        loss, x0=[0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-8}
    )
    assert found.success
    assert fit_temperature(counts) == pytest.approx(float(np.exp(found.x[0])), rel=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_the_error_is_that_of_scikit_learns_reliability_curve(seed):
    counts = drawn(seed)
    # scikit-learn's bins are closed on the right; a p8 lies on the edge of a 15th whenever 17
    # divides it.
    inside = np.arange(256) % 17 != 0
    kept = np.where(inside, counts, 0)
    truth, p = (
        np.repeat([0, 1], kept.sum(axis=1)),
        np.concatenate([np.repeat(np.arange(256) / 255, row) for row in kept]),
    )
    frequency, mean = calibration_curve(truth, p, n_bins=BINS)
    sizes = np.bincount((p * BINS).astype(int), minlength=BINS)
    expected = (sizes[sizes > 0] * np.abs(frequency - mean)).sum() / sizes.sum()
    assert expected_calibration_error(kept) == pytest.approx(expected)
