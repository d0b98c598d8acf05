"""Views of a batch of tiles that leave its meaning as it is: particles have no preferred orientation or grey level."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8

CONTRAST = 1.25  # greatest factor on the z scores, and the inverse of the least
BRIGHTNESS = 0.25  # greatest shift, in z scores; ice gradients are of that size within a micrograph
_BYTES_PER_Z = 25.5
_GREATEST_Z = 5.0

Stack = Shaped[torch.Tensor, "batch channels side side"]
BytePictures = UInt8[torch.Tensor, "batch 1 side side"]
Pictures = Float[torch.Tensor, "batch 1 side side"]


def weak_view(pictures: BytePictures, labels: BytePictures, *,
              generator: np.random.Generator) -> tuple[Pictures, BytePictures]:
    """Each tile in one of its eight orientations, picture and labels alike, with changed contrast and brightness.

    Args:
        pictures: as stored, byte v for the z score v / 25.5 - 5; on any device.
        labels: BACKGROUND, PARTICLE, IGNORE.
        generator: of this step. The draws are the same on every device.

    Returns:
        z scores (fp32) and labels.
    """
    turned = dihedral(torch.cat((pictures, labels), dim=1), generator=generator)
    return intensity(z_scores(turned[:, :1]), generator=generator), turned[:, 1:]


def dihedral(tiles: Stack, *, generator: np.random.Generator) -> Stack:
    """Each square tile of the batch in one of the eight orientations of the dihedral group, all equally likely.

    A flip along y, a flip along x and a transposition, each with probability 1/2, give every element of the group once.
    Whole-batch selections instead of a loop over tiles: six launches on a GPU, whatever the batch.
    """
    batch = tiles.shape[0]
    flags = torch.from_numpy(generator.integers(0, 2, size=(3, batch)).astype(bool)).to(tiles.device, non_blocking=True)
    flip_y, flip_x, transpose = flags.view(3, batch, 1, 1, 1)
    tiles = torch.where(flip_y, tiles.flip(-2), tiles)
    tiles = torch.where(flip_x, tiles.flip(-1), tiles)
    return torch.where(transpose, tiles.transpose(-2, -1), tiles)


def intensity(pictures: Pictures, *, generator: np.random.Generator) -> Pictures:
    """The z scores times a contrast in [1 / CONTRAST, CONTRAST], log-uniform, plus a shift within +-BRIGHTNESS."""
    batch = pictures.shape[0]
    spread = np.log(CONTRAST)
    drawn = np.stack([np.exp(generator.uniform(-spread, spread, batch)),
                      generator.uniform(-BRIGHTNESS, BRIGHTNESS, batch)]).astype(np.float32)
    contrast, brightness = torch.from_numpy(drawn).to(pictures.device, non_blocking=True).view(2, batch, 1, 1, 1)
    return torch.addcmul(brightness, pictures, contrast)


def z_scores(pictures: UInt8[torch.Tensor, "*shape"]) -> Float[torch.Tensor, "*shape"]:
    """Stored bytes -> z scores in [-5, 5], fp32, on the pictures' device: a quarter of the bytes cross the bus."""
    return pictures.to(torch.float32).mul_(1 / _BYTES_PER_Z).sub_(_GREATEST_Z)
