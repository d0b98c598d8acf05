"""MRC: whether integers are signed, what is refused, and which first bytes make a file an MRC."""

from __future__ import annotations

import struct

import mrcfile
import numpy as np
import pytest
from mrcfile.dtypes import HEADER_DTYPE

from cryossl.data.images import read_picture, read_size
from cryossl.errors import DataError

BYTES = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
SIGNED = BYTES.view(np.int8).astype(np.float32)
STAMP = 1146047817


@pytest.fixture
def write(tmp_path):
    """Write an MRC, with fields of its header replaced: {(offset, kind): value}."""

    def written(values, fields=None, *, order="<", tail=b""):
        path = tmp_path / "picture.mrc"
        with mrcfile.new(path, overwrite=True) as file:
            file.set_data(values.astype(values.dtype.newbyteorder(order)))
        content = bytearray(path.read_bytes())
        if values.itemsize == 1:  # numpy knows no order for them, so mrcfile has written "<"
            header = np.frombuffer(content[:1024], HEADER_DTYPE.newbyteorder("<"))
            content[:1024] = header.astype(HEADER_DTYPE.newbyteorder(order)).tobytes()
            content[212:214] = b"\x11\x11" if order == ">" else b"\x44\x44"
        for (offset, kind), value in (fields or {}).items():
            struct.pack_into(order + kind, content, offset, value)
        path.write_bytes(bytes(content) + tail)
        return path

    return written


def read(path):
    picture = read_picture(path, max_megapixels=1)
    assert picture.shape == read_size(path, max_megapixels=1)
    return picture


def limits(lowest, highest):
    return {(76, "f"): lowest, (80, "f"): highest}


def imod(flags):
    return {(152, "i"): STAMP, (156, "i"): flags}


OLD = {(108, "i"): 0}  # no version of the format
NOTHING_KNOWN = limits(0, -1)  # what the standard of 2014 writes for unknown


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (imod(0) | limits(0, 255), BYTES),
        (imod(0) | NOTHING_KNOWN, BYTES),
        (imod(1) | limits(-128, 127), SIGNED),
        (imod(1) | limits(0, 255), SIGNED),
        (imod(2), BYTES),
        (imod(3), SIGNED),
        (limits(0, 255), BYTES),
        (limits(0, 255) | OLD, BYTES),
        (limits(3, 200), BYTES),
        (limits(-128, 127), SIGNED),
        (limits(-128, 127) | OLD, SIGNED),
        (NOTHING_KNOWN, SIGNED),
        (limits(0, 0), SIGNED),
    ],
)
def test_bytes_are_signed_or_not_as_the_header_says(write, fields, expected, order):
    np.testing.assert_array_equal(read(write(BYTES.view(np.int8), fields, order=order)), expected)


@pytest.mark.parametrize("told", [NOTHING_KNOWN, limits(0, 0), limits(-5, 300), limits(0, np.nan)])
def test_bytes_of_an_old_file_that_does_not_say_are_refused_if_it_matters(write, told):
    with pytest.raises(DataError, match="does not say whether its bytes are signed"):
        read(write(BYTES.view(np.int8), told | OLD))
    np.testing.assert_array_equal(read(write((BYTES // 2).view(np.int8), told | OLD)), BYTES // 2)


@pytest.mark.parametrize("order", "<>")
def test_integers_of_16_bits_are_signed_unless_the_header_says_more(write, order):
    values = BYTES.astype(np.uint16) * 257
    np.testing.assert_array_equal(
        read(write(values.view(np.int16), limits(0, 65535), order=order)), values
    )
    for told in (limits(-32768, 32767), NOTHING_KNOWN, limits(0, 0), limits(0, 1e6)):
        np.testing.assert_array_equal(
            read(write(values.view(np.int16), told, order=order)), values.view(np.int16)
        )


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["float16", "float32", "int16", "uint16", "int8"])
def test_every_mode_is_read_in_both_orders_of_bytes(write, kind, order):
    values = (BYTES // 2).astype(kind)
    np.testing.assert_array_equal(read(write(values, order=order)), BYTES // 2)
    with_trailer = write(values, order=order, tail=b"trailing")
    np.testing.assert_array_equal(read(with_trailer), BYTES // 2)


def test_an_extended_header_is_passed_over(tmp_path):
    path = tmp_path / "picture.mrc"
    with mrcfile.new(path) as file:
        file.set_data(BYTES.astype(np.float32))
        file.set_extended_header(np.arange(300, dtype=np.uint8))
    np.testing.assert_array_equal(read(path), BYTES)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({(12, "i"): 101}, "MRC mode 101"),
        ({(12, "i"): 3}, "MRC mode 3"),
        ({(12, "i"): 4}, "MRC mode 4"),
        (imod(16), "two pixels in a byte"),
        ({(64, "i"): 2, (68, "i"): 1}, "axes"),
        ({(64, "i"): 3, (72, "i"): 1}, "axes"),
        ({(8, "i"): 3}, "3 frames"),
    ],
)
def test_what_has_no_single_meaning_is_refused_by_the_header(write, fields, said):
    with pytest.raises(DataError, match=said):
        read_size(write(BYTES.view(np.int8), fields), max_megapixels=1)


def test_frames_behind_the_first_are_seen_where_the_header_names_one(write):
    path = write(np.stack([BYTES.astype(np.float32)] * 5), {(8, "i"): 1})
    with pytest.raises(DataError, match="5 frames"):
        read_size(path, max_megapixels=1)


def test_axes_that_an_old_file_leaves_at_zero_are_the_usual_ones(write):
    fields = {(64, "i"): 0, (68, "i"): 0, (72, "i"): 0}
    np.testing.assert_array_equal(read(write(BYTES.astype(np.float32), fields)), BYTES)
