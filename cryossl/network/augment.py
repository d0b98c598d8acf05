"""Augmentation: views of a batch of tiles that keep the meaning of its labels.

Particles have no preferred orientation and no preferred grey level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch.nn import functional

from cryossl.data.labels import IGNORE
from cryossl.data.levels import LARGEST_Z, LEVELS_PER_Z
from cryossl.network.device import to_device

SCALE = 1.25  # greatest factor on the size of a tile that is turned by any angle; least: 1 / SCALE
CONTRAST = 1.25  # greatest factor on the z scores, and the inverse of the least
BRIGHTNESS = 0.25  # greatest shift, in z scores; ice gradients are of that size within a micrograph
STRONG_CONTRAST = 2.0  # greatest factor of the strong view, and the inverse of the least
STRONG_NOISE = 1.0  # greatest standard deviation of the noise of the strong view, in z scores
STRONG_BLUR_PX = 2.0  # greatest standard deviation of its blur
# Strength of the strong view in a noised batch. It is weaker there, because a fixed target corrects
# less than a moving average that predicts anew.
NOISED_STRENGTH = 0.5
# Share of the tiles of a noised batch that get a strong view, and share that take another's box.
NOISED_SHARE = 0.5
CUT_SHARES = (0.25, 0.75)  # least and greatest side of CutMix's box, as a fraction of the tile's

Stack = Shaped[torch.Tensor, "batch channels side side"]
BytePictures = UInt8[torch.Tensor, "batch 1 side side"]
Pictures = Float[torch.Tensor, "batch 1 side side"]


def weak_view(
    pictures: BytePictures,
    labels: BytePictures,
    *,
    generator: np.random.Generator,
    any_angle: bool = False,
) -> tuple[Pictures, BytePictures]:
    """Turn each tile, picture and labels alike, and change the picture's contrast and brightness.

    Args:
        pictures: as stored, byte v for the z score v / 25.5 - 5; on any device.
        labels: BACKGROUND, PARTICLE, IGNORE.
        generator: of this step; the draws are the same on every device.
        any_angle: turn and scale by `turned_and_scaled` besides the eight orientations.

    Returns:
        z scores (fp32) and labels.
    """
    turned = dihedral(torch.cat((pictures, labels), dim=1), generator=generator)
    seen, found = z_scores(turned[:, :1]), turned[:, 1:]
    if any_angle:
        seen, found = turned_and_scaled(seen, found, generator=generator)
    return intensity(seen, generator=generator), found


def dihedral(tiles: Stack, *, generator: np.random.Generator) -> Stack:
    """Give each square tile one of the eight orientations of the dihedral group, equally likely.

    A flip along y, a flip along x and a transposition, each with probability 1/2, give every
    element of the group once. Each is one selection over the whole batch, so that a GPU needs six
    launches for a batch of any size.
    """
    batch = tiles.shape[0]
    flags = to_device(
        torch.from_numpy(generator.integers(0, 2, size=(3, batch)).astype(bool)), tiles.device
    )
    flip_y, flip_x, transpose = flags.view(3, batch, 1, 1, 1)
    tiles = torch.where(flip_y, tiles.flip(-2), tiles)
    tiles = torch.where(flip_x, tiles.flip(-1), tiles)
    return torch.where(transpose, tiles.transpose(-2, -1), tiles)


def turned_and_scaled(
    pictures: Pictures, labels: BytePictures, *, generator: np.random.Generator
) -> tuple[Pictures, BytePictures]:
    """Turn each tile by an angle and scale it, both around its middle.

    The angle is uniform in [-45, 45] degrees, which after `dihedral` makes any angle. The factor is
    log-uniform in [1 / SCALE, SCALE]. The picture is interpolated and mirrored at its edges; a
    label is that of the nearest pixel, and IGNORE beyond the edges. Labels are single values, so
    that codes of soft targets stay what they are.
    """
    batch, side = len(pictures), pictures.shape[-1]
    angles = generator.uniform(-np.pi / 4, np.pi / 4, batch)
    factors = np.exp(generator.uniform(-np.log(SCALE), np.log(SCALE), batch))
    drawn = np.stack((np.cos(angles) / factors, np.sin(angles) / factors)).astype(np.float32)
    cosine, sine = to_device(torch.from_numpy(drawn), pictures.device).view(2, batch, 1, 1)
    # Places of pixels as grid_sample has them: -1 and 1 are the edges of the tile. They are
    # computed one by one, because autocast would round a matrix product to bf16.
    line = (2 * torch.arange(side, device=pictures.device) + 1) / side - 1
    x, y = line.view(1, 1, side), line.view(1, side, 1)
    places = torch.stack((cosine * x - sine * y, sine * x + cosine * y), dim=-1)
    seen = functional.grid_sample(
        pictures, places, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    # 0 stands for what lies beyond the edges.
    raised = functional.grid_sample(
        labels.float() + 1, places, mode="nearest", padding_mode="zeros", align_corners=False
    ).round()
    found = torch.where(raised == 0, IGNORE + 1, raised) - 1
    return seen, found.to(torch.uint8)


def intensity(pictures: Pictures, *, generator: np.random.Generator) -> Pictures:
    """Scale and shift the z scores of each tile.

    The factor is log-uniform in [1 / CONTRAST, CONTRAST], the shift uniform in [-BRIGHTNESS,
    BRIGHTNESS].
    """
    batch = pictures.shape[0]
    spread = np.log(CONTRAST)
    drawn = np.stack(
        [
            np.exp(generator.uniform(-spread, spread, batch)),
            generator.uniform(-BRIGHTNESS, BRIGHTNESS, batch),
        ]
    ).astype(np.float32)
    contrast, brightness = to_device(torch.from_numpy(drawn), pictures.device).view(
        2, batch, 1, 1, 1
    )
    return torch.addcmul(brightness, pictures, contrast)


def strong_view(
    pictures: Pictures, *, generator: np.random.Generator, strength: float = 1.0
) -> Pictures:
    """Change contrast, blur and noise of each tile, each by a draw of its own; no pixel moves.

    After the strong branch of FixMatch (Sohn et al. 2020, arXiv 2001.07685) and UniMatch V2 (Yang
    et al. 2024, arXiv 2410.10777). In place of colours it changes what dose, defocus and ice change
    between micrographs. `strength`, in (0, 1], is that of all three changes.
    """
    batch, _, height, width = pictures.shape
    spread = strength * np.log(STRONG_CONTRAST)
    contrast = np.exp(generator.uniform(-spread, spread, batch)).astype(np.float32)
    noise = generator.uniform(0, strength * STRONG_NOISE, batch).astype(np.float32)
    blur = generator.uniform(0, strength * STRONG_BLUR_PX, batch)
    drawn = generator.standard_normal((batch, 1, height, width), dtype=np.float32)
    added = to_device(torch.from_numpy(drawn), pictures.device)
    scale = to_device(torch.from_numpy(np.stack((contrast, noise))), pictures.device).view(
        2, batch, 1, 1, 1
    )
    return _blurred(pictures, blur) * scale[0] + added * scale[1]


def noised(
    pictures: Pictures, target: Pictures, weight: Pictures, *, generator: np.random.Generator
) -> tuple[Pictures, Pictures, Pictures]:
    """Give about half of the tiles a strong view, and about half a box of another tile.

    The two halves are drawn independently. Picture, target and weight of a box move together. This
    is the input noise of Noisy Student (Xie et al. 2020, arXiv 1911.04252) with CutMix (Yun et al.
    2019, arXiv 1905.04899).
    """
    batch, device = len(pictures), pictures.device
    coins = torch.from_numpy(generator.random((2, batch)) < NOISED_SHARE).view(2, batch, 1, 1, 1)
    strong = strong_view(pictures, generator=generator, strength=NOISED_STRENGTH)
    seen = torch.where(to_device(coins[0], device), strong, pictures)
    order = to_device(torch.from_numpy(generator.permutation(batch)), device)
    box = to_device(box_mask(batch, pictures.shape[-1], generator=generator) & coins[1], device)
    mixed = [torch.where(box, each[order], each) for each in (seen, target, weight)]
    return mixed[0], mixed[1], mixed[2]


def box_mask(
    batch: int,
    side: int,
    *,
    generator: np.random.Generator,
    centres: Sequence[tuple[int, int] | None] | None = None,
) -> Bool[torch.Tensor, "batch 1 side side"]:
    """Draw a box in each tile; the mask is True inside.

    Each side of a box is between the CUT_SHARES of the tile's side.

    Args:
        batch: number of tiles.
        side: of a tile, in px.
        generator: of this step.
        centres: pixel (y, x) around which each tile's box lies, as far as the tile reaches; a tile
            whose centre is None has no box. Without centres a box may lie anywhere.
    """
    mask = torch.zeros(batch, 1, side, side, dtype=torch.bool)
    for index in range(batch):
        height, width = (round(side * float(share)) for share in generator.uniform(*CUT_SHARES, 2))
        y, x = (int(generator.integers(0, side - length + 1)) for length in (height, width))
        if centres is not None:
            centre = centres[index]
            if centre is None:
                continue
            y, x = (
                min(max(at - length // 2, 0), side - length)
                for at, length in zip(centre, (height, width), strict=True)
            )
        mask[index, 0, y : y + height, x : x + width] = True
    return mask


def _blurred(pictures: Pictures, deviations: np.ndarray) -> Pictures:
    """Blur each tile by a Gaussian of its own standard deviation, in px; edges are mirrored.

    The kernels end at 3 times the largest standard deviation.
    """
    reach = int(np.ceil(3 * STRONG_BLUR_PX))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    width = torch.from_numpy(np.maximum(deviations, 1e-3).astype(np.float32))[:, None]
    kernels = torch.exp(-0.5 * (offsets / width) ** 2)
    kernels = to_device(kernels / kernels.sum(dim=1, keepdim=True), pictures.device)
    batch = pictures.shape[0]
    # Tiles become channels, so that one call blurs all of them.
    padded = functional.pad(pictures, (reach,) * 4, mode="reflect").transpose(0, 1)
    rows = functional.conv2d(padded, kernels.view(batch, 1, 1, -1), groups=batch)
    return functional.conv2d(rows, kernels.view(batch, 1, -1, 1), groups=batch).transpose(0, 1)


def z_scores(pictures: UInt8[torch.Tensor, "*shape"]) -> Float[torch.Tensor, "*shape"]:
    """Stored bytes -> z scores in [-5, 5], fp32, on the pictures' device.

    Bytes are moved to the device and converted there: a quarter of the traffic of fp32.
    """
    return pictures.to(torch.float32).mul_(1 / LEVELS_PER_Z).sub_(LARGEST_Z)
