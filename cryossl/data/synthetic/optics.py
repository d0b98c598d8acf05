"""The electron microscope of the simulator: from a projected potential to the contrast.

Sources: Wade, "A brief look at imaging and contrast transfer", Ultramicroscopy 46 (1992) 145, for
the weak-phase image; Mindell and Grigorieff, J. Struct. Biol. 142 (2003) 334, for this form of the
contrast transfer function; Kirkland, "Advanced Computing in Electron Microscopy" (2010), chapter 2,
for wavelength and interaction constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

_REST_ENERGY_EV = 510_998.95
_PLANCK_TIMES_LIGHT_EV_ANGSTROM = 12_398.419843


@dataclass(frozen=True)
class Optics:
    """The settings of the microscope for one micrograph.

    Underfocus is positive; particles are dark then.
    """

    defocus_angstrom: float
    b_factor_angstrom2: float
    amplitude_contrast: float = 0.07
    spherical_aberration_angstrom: float = 2.7e7
    voltage_volt: float = 300_000.0


def wavelength_angstrom(voltage_volt: float) -> float:
    """Relativistic electron wavelength in Angstrom: lambda = h c / sqrt(e U (2 m c^2 + e U)).

    300 kV: 0.0197.
    """
    return _PLANCK_TIMES_LIGHT_EV_ANGSTROM / float(
        np.sqrt(voltage_volt * (2 * _REST_ENERGY_EV + voltage_volt))
    )


def interaction_constant(voltage_volt: float) -> float:
    """Phase per projected potential, in rad / (V Angstrom).

    It is 2 pi / (lambda U) (m c^2 + e U) / (2 m c^2 + e U). At 300 kV it is 6.5e-4: a column of 50
    Angstrom with a potential 3 V above ice shifts the phase by 0.1 rad.
    """
    relativistic = (_REST_ENERGY_EV + voltage_volt) / (2 * _REST_ENERGY_EV + voltage_volt)
    return 2 * float(np.pi) / (wavelength_angstrom(voltage_volt) * voltage_volt) * relativistic


def transfer(
    frequency: Float64[np.ndarray, "*shape"], optics: Optics
) -> Float64[np.ndarray, "*shape"]:
    """Contrast transfer function times its envelope at spatial frequencies s in 1 / Angstrom.

    CTF(s) = sqrt(1 - A^2) sin chi + A cos chi with chi = pi lambda z s^2 - pi/2 Cs lambda^3 s^4, z
    the underfocus and A the amplitude contrast; the result is in [-1, 1]. The envelope exp(-B s^2 /
    4) stands for drift and partial coherence. A dense object is dark where the function is
    positive, which holds from s = 0 (where it is A) to the first zero.
    """
    wavelength = wavelength_angstrom(optics.voltage_volt)
    squared = frequency**2
    chi = (
        np.pi * wavelength * optics.defocus_angstrom * squared
        - np.pi / 2 * optics.spherical_aberration_angstrom * wavelength**3 * squared**2
    )
    amplitude = optics.amplitude_contrast
    oscillation = np.sqrt(1 - amplitude**2) * np.sin(chi) + amplitude * np.cos(chi)
    envelope: Float64[np.ndarray, "*shape"] = np.exp(-optics.b_factor_angstrom2 * squared / 4)
    product: Float64[np.ndarray, "*shape"] = oscillation * envelope
    return product


def contrast(
    phase: Float64[np.ndarray, "height width"], optics: Optics, *, pixel_size_angstrom: float
) -> Float64[np.ndarray, "height width"]:
    """Relative change of intensity behind a weak phase object.

    I / I0 - 1 = -2 F^-1[CTF(s) F[phase](s)]. `phase` is the object's phase shift in rad, much
    smaller than 1 and periodic, so the caller pads it.
    """
    height, width = phase.shape
    s_y = np.fft.fftfreq(height, pixel_size_angstrom)[:, None]
    s_x = np.fft.rfftfreq(width, pixel_size_angstrom)[None, :]
    spectrum = np.fft.rfft2(phase) * transfer(np.hypot(s_y, s_x), optics)
    seen: Float64[np.ndarray, "height width"] = -2 * np.fft.irfft2(spectrum, s=(height, width))
    return seen
