"""PNG and JPEG: depths, colour tables, alpha, and what is refused."""

from __future__ import annotations

import itertools
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from cryossl.data.images import read_picture, read_size
from cryossl.errors import DataError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (20, 40), dtype=np.uint8)
RGB = RNG.integers(0, 255, (20, 40, 3), dtype=np.uint8)
WEIGHTS = np.array([0.299, 0.587, 0.114])


def read(path):
    picture = read_picture(path, max_megapixels=1)
    assert picture.shape == read_size(path, max_megapixels=1)
    return picture


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_png_keeps_its_depth_with_colours_and_alpha(tmp_path, depth):
    grey, rgb = ((part.astype(depth) * (257 if depth is np.uint16 else 1)) for part in (GREY, RGB))
    if depth is np.uint16:
        grey, rgb = grey + 3, rgb + 5  # what the upper 8 bits alone would lose
    alpha = np.full_like(grey, 7)
    for samples, expected in (([grey], grey), ([rgb], rgb @ WEIGHTS)):
        for more in ([], [alpha]):
            stored = np.dstack([*samples, *more])
            (tmp_path / "p.png").write_bytes(imagecodecs.png_encode(stored))
            np.testing.assert_allclose(read(tmp_path / "p.png"), expected, rtol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_png_of_few_bits_is_spread_over_0_to_255(tmp_path, bits):
    picture = Image.fromarray(GREY).convert("P").quantize(2**bits)
    levels = np.linspace(0, 255, 2**bits).astype(np.uint8)
    picture.putpalette(np.repeat(levels, 3).tobytes())
    picture.save(tmp_path / "palette.png", bits=bits)
    indices = np.asarray(picture)
    np.testing.assert_allclose(read(tmp_path / "palette.png"), levels[indices], atol=1e-4)
    rows = ["".join(f"{value:0{bits}b}" for value in row) for row in indices]
    packed = b"".join(b"\0" + int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 40, 20, bits, 0, 0, 0, 0),
        b"IDAT": zlib.compress(packed),
        b"IEND": b"",
    }
    (tmp_path / "grey.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks.items()
        )
    )
    np.testing.assert_allclose(read(tmp_path / "grey.png"), levels[indices], atol=1e-4)


def test_gamma_profile_and_transparency_of_a_png_are_not_applied(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", struct.pack(">I", 22_000))
    Image.fromarray(GREY).save(
        tmp_path / "p.png", pnginfo=info, transparency=3, icc_profile=b"no profile"
    )
    np.testing.assert_array_equal(read(tmp_path / "p.png"), GREY)


def test_equal_colours_give_exactly_their_value(tmp_path):
    Image.fromarray(np.dstack([GREY] * 3)).save(tmp_path / "p.png")
    np.testing.assert_array_equal(read(tmp_path / "p.png"), GREY)


def test_inks_have_no_grey_value_and_are_refused(tmp_path):
    Image.fromarray(np.dstack([GREY] * 4), "CMYK").save(tmp_path / "p.jpg")
    with pytest.raises(DataError, match="CMYK"):
        read_size(tmp_path / "p.jpg", max_megapixels=1)


def test_a_cut_or_altered_png_of_16_bit_colours_is_refused(tmp_path):
    content = imagecodecs.png_encode(RGB.astype(np.uint16) * 99)
    altered = bytearray(content)
    altered[len(content) // 2] ^= 255
    for damaged in (content[: len(content) // 2], bytes(altered)):
        (tmp_path / "p.png").write_bytes(damaged)
        with pytest.raises(DataError, match=r"p\.png"):
            read_picture(tmp_path / "p.png", max_megapixels=1)


def test_jpeg_colours_become_luma(tmp_path):
    for colour, quality in itertools.product(([200, 10, 90], [0, 0, 255]), (50, 95)):
        Image.new("RGB", (40, 20), tuple(colour)).save(tmp_path / "p.jpg", quality=quality)
        np.testing.assert_allclose(read(tmp_path / "p.jpg"), np.dot(colour, WEIGHTS), atol=3)
