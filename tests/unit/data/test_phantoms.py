"""The simulated particles: projected against a sum in three dimensions, turned in every direction, different in kind."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import center_of_mass
from scipy.stats import kstest

from cryossl.data.synthetic.optics import interaction_constant
from cryossl.data.synthetic.phantoms import SPECIES, Species, projected_phase, random_rotations


@pytest.mark.parametrize("species", SPECIES, ids=lambda species: species.name)
def test_a_projection_is_the_sum_along_the_beam(species: Species) -> None:
    """Against the density summed on a grid in three dimensions."""
    rotation = random_rotations(1, rng=np.random.default_rng(1))
    size, radius, step = 24, species.diameter_px / 2, 0.25
    y = x = np.arange(size) + 0.5
    z = np.arange(-2.5 * radius, 2.5 * radius, step)
    density = np.zeros((len(z), size, size))
    for blob in np.array(species.blobs) * radius @ rotation[0].T:
        squared = (
            (z - blob[0])[:, None, None] ** 2
            + (y - 12.5 - blob[1])[:, None] ** 2
            + (x - 11.5 - blob[2]) ** 2
        )
        density += species.peak_volt * np.exp(-squared / (2 * (species.blob_sigma * radius) ** 2))
    expected = density.sum(axis=0) * step * 8.0 * interaction_constant(3e5)
    found = projected_phase(
        species,
        np.array([[12.5, 11.5]]),
        rotation,
        shape_px=(size, size),
        pixel_size_angstrom=8.0,
        voltage_volt=3e5,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("species", SPECIES, ids=lambda species: species.name)
def test_a_projection_is_centred_and_its_disc_holds_nearly_all_of_it(species: Species) -> None:
    y, x = np.mgrid[:48, :48] + 0.5
    inside = np.hypot(y - 20.5, x - 27.0) <= species.diameter_px / 2
    for rotation in random_rotations(20, rng=np.random.default_rng(2)):
        phase = projected_phase(
            species,
            np.array([[20.5, 27.0]]),
            rotation[None],
            shape_px=(48, 48),
            pixel_size_angstrom=8.0,
            voltage_volt=3e5,
        )
        np.testing.assert_allclose(np.array(center_of_mass(phase)) + 0.5, (20.5, 27.0), atol=0.01)
        assert phase[inside].sum() / phase.sum() > 0.8


def test_rotations_are_proper_and_uniform() -> None:
    """The angle of a uniform rotation has the density (1 - cos a) / pi; each axis lands anywhere on the sphere."""
    rotations = random_rotations(4_000, rng=np.random.default_rng(3))
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1),
        np.broadcast_to(np.eye(3), (4_000, 3, 3)),
        atol=1e-12,
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    angles = np.arccos(np.clip((np.trace(rotations, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert kstest(angles, lambda a: (a - np.sin(a)) / np.pi).pvalue > 0.01
    for entry in rotations.reshape(-1, 9).T:
        assert kstest(entry, "uniform", args=(-1, 2)).pvalue > 1e-3


def test_the_species_differ_in_size_in_density_and_in_shape() -> None:
    assert [species.diameter_px for species in SPECIES] == [9, 12, 16]
    assert len({species.peak_volt for species in SPECIES}) == 3
    lengths = [np.linalg.svd(np.array(species.blobs), compute_uv=False) for species in SPECIES]
    tetramer, dumbbell, barrel = [values[0] / values[-1] for values in lengths]
    assert tetramer < barrel < dumbbell
