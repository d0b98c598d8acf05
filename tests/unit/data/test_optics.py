"""The simulated microscope against the tables and other formulas."""

from __future__ import annotations

import numpy as np
import pytest

from cryossl.data.synthetic.optics import (
    Optics,
    contrast,
    interaction_constant,
    transfer,
    wavelength_angstrom,
)
from cryossl.data.synthetic.phantoms import SPECIES, projected_phase


@pytest.mark.parametrize(("kilovolt", "angstrom"), [(100, 0.03701), (200, 0.02508), (300, 0.01969)])
def test_the_wavelength_is_the_one_in_the_tables(kilovolt: int, angstrom: float) -> None:
    assert wavelength_angstrom(1_000.0 * kilovolt) == pytest.approx(angstrom, rel=1e-3)


@pytest.mark.parametrize(
    ("kilovolt", "constant"), [(100, 9.244e-4), (200, 7.288e-4), (300, 6.526e-4)]
)
def test_the_interaction_constant_is_the_one_in_the_tables(kilovolt: int, constant: float) -> None:
    assert interaction_constant(1_000.0 * kilovolt) == pytest.approx(constant, rel=1e-3)


def test_without_frequency_only_amplitude_contrast_is_left() -> None:
    optics = Optics(20_000.0, 300.0)
    assert transfer(np.array([0.0]), optics)[0] == pytest.approx(optics.amplitude_contrast)


def test_the_first_zero_lies_where_the_phase_shift_reaches_half_a_turn() -> None:
    optics = Optics(20_000.0, 0.0, spherical_aberration_angstrom=0.0)
    shift = np.pi - np.arcsin(optics.amplitude_contrast)
    zero = np.sqrt(
        shift / (np.pi * wavelength_angstrom(optics.voltage_volt) * optics.defocus_angstrom)
    )
    around = transfer(np.array([zero * 0.999, zero, zero * 1.001]), optics)
    assert around[0] > 0 > around[2]
    assert around[1] == pytest.approx(0, abs=1e-9)


def test_a_wave_keeps_its_frequency_and_is_scaled_by_the_transfer_function() -> None:
    optics = Optics(15_000.0, 400.0)
    pixels = np.arange(64)
    wave = 0.01 * np.cos(2 * np.pi * 6 * pixels / 64)[None, :] * np.ones((64, 1))
    expected = -2 * transfer(np.array([6 / (64 * 8.0)]), optics)[0] * wave
    np.testing.assert_allclose(
        contrast(wave, optics, pixel_size_angstrom=8.0), expected, atol=1e-12
    )


def test_more_underfocus_gives_more_contrast_and_a_larger_b_factor_less() -> None:
    phase = projected_phase(
        SPECIES[1],
        np.array([[32.0, 32.0]]),
        np.eye(3)[None],
        shape_px=(64, 64),
        pixel_size_angstrom=8.0,
        voltage_volt=3e5,
    )

    def deepest(defocus: float, b_factor: float) -> float:
        return float(-contrast(phase, Optics(defocus, b_factor), pixel_size_angstrom=8.0).min())

    assert deepest(30_000, 300) > deepest(15_000, 300) > deepest(15_000, 3_000) > 0
