"""TIFF: one picture whatever the packing, and what has no single meaning is refused."""

from __future__ import annotations

import contextlib
import io
import itertools
import resource
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from tiff_bytes import tiff_bytes

from cryossl.data.images import read_picture, read_size
from cryossl.errors import DataError

HEIGHT, WIDTH = 20, 40
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
RGB = RNG.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
LUMA = RGB @ np.array([0.299, 0.587, 0.114])
EXACT = (None, "lzw", "zlib", 32946, "packbits", "zstd", "lzma")
PREDICTED = ("lzw", "zlib", 32946, "zstd", "lzma")
LAYOUTS = ({"rowsperstrip": 7}, {"tile": (16, 32)})
ORIENTATION = 274


def read(path):
    picture = read_picture(path, max_megapixels=1)
    assert picture.shape == read_size(path, max_megapixels=1)
    return picture


def refusal(path):
    """The message with which a file is refused by its header already."""
    with pytest.raises(DataError) as caught:
        read_size(path, max_megapixels=1)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "picture.tif"


@pytest.mark.parametrize(
    "kind",
    [
        "bool",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "uint32",
        "int32",
        "uint64",
        "int64",
        "float16",
        "float32",
        "float64",
    ],
)
def test_grey_values_do_not_depend_on_compression_predictor_order_layout_or_orientation(path, kind):
    stored = GREY > 100 if kind == "bool" else (GREY.astype(int) - 100 * (kind[0] != "u"))
    stored = stored.astype(kind)
    can_predict = kind[0] in "iuf" and not kind.endswith("64")
    for compression, order, layout, (photometric, orientation) in itertools.product(
        EXACT, "<>", LAYOUTS, (("minisblack", 4), ("miniswhite", 6))
    ):
        for predictor in (False, True) if can_predict and compression in PREDICTED else (False,):
            how = dict(compression=compression, predictor=predictor, byteorder=order, **layout)
            tifffile.imwrite(
                path,
                stored,
                photometric=photometric,
                metadata=None,
                bigtiff=order == "<",
                extratags=[(ORIENTATION, "H", 1, orientation, True)],
                **how,
            )
            expected = stored.astype(np.float32)
            if photometric == "miniswhite":
                most = 1 if kind == "bool" else np.iinfo(kind).max if kind[0] == "u" else 0
                expected = (most - expected.astype(np.float64)).astype(np.float32)
            np.testing.assert_array_equal(read(path), expected, err_msg=f"{photometric} {how}")


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("alpha", [None, "unassalpha", "assocalpha"])
def test_colours_become_luma_and_alpha_is_ignored_in_every_packing(path, planar, alpha):
    extra = [] if alpha is None else [255 - GREY]
    for (samples, photometric, expected), compression, order, layout in itertools.product(
        (([RGB, *extra], "rgb", LUMA), ([GREY, *extra], "minisblack", GREY)), EXACT, "<>", LAYOUTS
    ):
        stored = np.dstack(samples)
        if stored.shape[2] == 1:
            continue
        tifffile.imwrite(
            path,
            stored if planar == "contig" else np.moveaxis(stored, -1, 0),
            photometric=photometric,
            planarconfig=planar,
            extrasamples=alpha and (alpha,),
            compression=compression,
            byteorder=order,
            metadata=None,
            **layout,
        )
        np.testing.assert_allclose(read(path), expected, atol=1e-4)


def test_a_colour_table_is_applied_in_every_packing_and_as_in_a_png(tmp_path, path):
    picture = Image.fromarray(GREY).convert("P")
    picture.putpalette(RNG.integers(0, 255, 768, dtype=np.uint8).tobytes())
    picture.save(tmp_path / "palette.png")
    expected = read(tmp_path / "palette.png")
    table = np.array(picture.getpalette()).reshape(256, 3).T
    for compression, order in itertools.product(EXACT, "<>"):
        for entries in (table * 256, table * 257, table):
            tifffile.imwrite(
                path,
                np.asarray(picture),
                photometric="palette",
                colormap=entries.astype(np.uint16),
                compression=compression,
                byteorder=order,
                metadata=None,
            )
            np.testing.assert_allclose(read(path), expected, atol=1e-4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["tif", "jpg", "png"])
def test_rows_stay_in_the_order_of_the_file_in_every_format(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    plain, turned = tmp_path / f"plain.{suffix}", tmp_path / f"turned.{suffix}"
    packed = {"compression": "tiff_lzw"} if suffix == "tif" else {}
    Image.fromarray(GREY).save(plain, **packed)
    Image.fromarray(GREY).save(turned, exif=exif, **packed)
    np.testing.assert_array_equal(read(turned), read(plain))


@pytest.mark.parametrize(
    "compression", [None, "group3", "group4", "tiff_ccitt", "tiff_lzw", "packbits"]
)
@pytest.mark.parametrize("photometric", [0, 1])
def test_two_levels_of_libtiff_are_read_as_libtiff_reads_them(path, compression, photometric):
    picture = Image.fromarray(np.where(GREY > 99, 255, 0).astype(np.uint8)).convert("1")
    picture.save(path, compression=compression, tiffinfo={262: photometric})
    with Image.open(path) as theirs:
        np.testing.assert_array_equal(read(path), np.asarray(theirs))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("fill_order", [1, 2])
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 10, 12, 14, 16, 32])
def test_bits_are_unpacked_from_the_high_end_in_both_orders_of_bytes_and_bits(
    path, order, fill_order, bits
):
    values = RNG.integers(0, 2 ** min(bits, 24), (5, 9))
    if bits in (16, 32):
        packed = values.astype(f"{order}u{bits // 8}").tobytes()
    else:
        rows = ["".join(f"{value:0{bits}b}" for value in row) for row in values]
        rows = [row + "0" * (-len(row) % 8) for row in rows]
        packed = b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)
    for compression, content in {1: packed, 8: zlib.compress(packed)}.items():
        if fill_order == 2:
            content = bytes(int(f"{byte:08b}"[::-1], 2) for byte in content)
        tags = {259: compression, 266: fill_order}
        path.write_bytes(
            tiff_bytes([content], height=5, width=9, bits=bits, order=order, tags=tags)
        )
        np.testing.assert_array_equal(read(path), values)
        path.write_bytes(
            tiff_bytes([content], height=5, width=9, bits=bits, order=order, tags=tags | {262: 0})
        )
        np.testing.assert_array_equal(read(path), (2.0**bits - 1 - values).astype(np.float32))


def test_a_tiff_without_a_kind_of_colours_has_black_at_zero(path):
    path.write_bytes(tiff_bytes([GREY.tobytes()], height=HEIGHT, width=WIDTH, tags={262: None}))
    np.testing.assert_array_equal(read(path), GREY)


@pytest.mark.parametrize("layout", [{"rowsperstrip": 8}, {"tile": (16, 32)}])
def test_packed_pictures_inside_a_tiff_are_read(path, layout):
    smooth = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)).astype(np.uint8)
    lossless = {"compression": "jpeg2000", "compressionargs": {"level": 0}}
    webp = {"compression": "webp", "compressionargs": {"lossless": True}}
    cases = [
        (smooth, "minisblack", {"compression": "jpeg"}, smooth, 9),
        (smooth, "miniswhite", {"compression": "jpeg"}, 255.0 - smooth, 9),
        (GREY, "minisblack", lossless, GREY, 0),
        (GREY.astype(np.uint16) * 99, "minisblack", lossless, GREY * 99.0, 0),
        (RGB, "rgb", lossless, LUMA, 1e-4),
        (RGB, "rgb", webp, LUMA, 1e-4),
    ]
    for stored, photometric, how, expected, tolerance in cases:
        tifffile.imwrite(path, stored, photometric=photometric, metadata=None, **how, **layout)
        np.testing.assert_allclose(read(path), expected, atol=tolerance, err_msg=str(how))


def test_jpeg_colours_inside_a_tiff_are_those_of_libtiff(path):
    smooth = np.dstack([np.add.outer(np.arange(32), np.arange(48)) + 40 * k for k in range(3)])
    Image.fromarray(smooth.astype(np.uint8)).save(path, compression="jpeg", quality=95)
    with Image.open(path) as theirs:
        expected = np.asarray(theirs.convert("RGB")) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(read(path), expected, atol=2)


def stack(path, **how):
    with tifffile.TiffWriter(path, imagej=how.pop("imagej", False)) as file:
        file.write(np.stack([GREY] * 5), photometric="minisblack", **how)


def described(text, **how):
    def write(path):
        tifffile.imwrite(path, GREY, description=text, metadata=None, **how)

    return write


def with_tags(tags):
    def write(path):
        path.write_bytes(tiff_bytes([GREY.tobytes()], height=HEIGHT, width=WIDTH, tags=tags))

    return write


def planes_of_metamorph(path):
    path.write_bytes(
        tiff_bytes([GREY.tobytes()], height=HEIGHT, width=WIDTH, tags={33628: 0, 33629: 8})
    )
    content = bytearray(path.read_bytes())
    place = content.index(b"\x5d\x83\x04\0\x01\0\0\0")  # UIC2Tag: LONG, one value -> five fractions
    content[place : place + 8] = b"\x5d\x83\x05\0\x05\0\0\0"
    path.write_bytes(content)


def test_luma_keeps_the_precision_of_floats(path):
    stored = RGB.astype(np.float16) + np.float16(1000)
    tifffile.imwrite(path, stored, photometric="rgb", metadata=None)
    expected = stored.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(read(path), expected, rtol=1e-6)


OME = (
    '<?xml version="1.0"?><OME><Image><Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="40" '
    'SizeY="20" SizeZ="1" SizeC="1" SizeT="5"></Pixels></Image></OME>'
)
STACKS = {
    "five directories": lambda path: stack(path),
    "tifffile, truncated": lambda path: stack(path, truncate=True),
    "tifffile, written for ImageJ": lambda path: stack(path, imagej=True),
    "ImageJ": described("ImageJ=1.54f\nimages=5\nslices=5\n"),
    "ImageJ, as a float": described("ImageJ=1.54f\nimages=5.0\n"),
    "ImageJ, channels alone": described("ImageJ=1.54f\nchannels=5\nmode=grayscale\n"),
    "SCIFIO": described("SCIFIO=0.42\naxes=X,Y,Time\nlengths=40,20,5\nimages=5\n"),
    "shape of old tifffile": described("shape=(5, 20, 40)"),
    "OME": described(OME),
    "OME, in single quotes with a prefix": described(
        OME.replace('"', "'").replace("<Pixels", "<OME:Pixels").replace("</Pixels", "</OME:Pixels")
    ),
    "OME, one picture each": described(
        "<OME>" + 5 * OME[OME.index("<Image>") :].replace('SizeT="5"', 'SizeT="1"') + "</OME>"
    ),
    "MetaMorph": planes_of_metamorph,
    "ImageDepth": with_tags({32997: 5}),
    "subdirectories": lambda path: _sub_frames(path, reduced=0),
}


def _sub_frames(path, *, reduced):
    with tifffile.TiffWriter(path) as file:
        file.write(GREY, subifds=4, metadata=None)
        for _ in range(4):
            file.write(GREY, subfiletype=reduced, metadata=None)


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_is_refused_however_it_is_written(path, name):
    STACKS[name](path)
    assert "5 frames in one file" in refusal(path)


def test_metadata_of_one_picture_do_not_make_it_a_stack(path):
    one = OME.replace('SizeT="5"', 'SizeT="1"')
    for text in ("ImageJ=1.54f\nunit=nm\nmin=3\nmax=9\n", "ImageJ=1.54f\nimages=1\n", one):
        described(text)(path)
        np.testing.assert_array_equal(read(path), GREY)
    tifffile.imwrite(path, GREY)
    np.testing.assert_array_equal(read(path), GREY)
    tifffile.imwrite(path, RGB, photometric="rgb", ome=True)
    np.testing.assert_allclose(read(path), LUMA, atol=1e-4)


@pytest.mark.parametrize("first", [False, True])
def test_thumbnails_and_masks_are_no_frames(path, first):
    whole = (GREY, {})
    others = [(GREY[::2, ::2], {"subfiletype": 1}), (GREY > 9, {"subfiletype": 4})]
    with tifffile.TiffWriter(path) as file:
        for stored, how in [*others, whole] if first else [whole, *others]:
            file.write(stored, metadata=None, **how)
    np.testing.assert_array_equal(read(path), GREY)
    _sub_frames(path, reduced=1)
    np.testing.assert_array_equal(read(path), GREY)


def test_what_is_for_display_alone_changes_nothing(path):
    tags = [
        (280, "H", 1, 20, True),  # smallest and largest value
        (281, "H", 1, 30, True),
        (42113, "s", 0, "7", True),  # the value that GDAL takes for no data
        (ORIENTATION, "H", 1, 6, True),
    ]
    tifffile.imwrite(path, GREY, extratags=tags, metadata=None)
    np.testing.assert_array_equal(read(path), GREY)


def two_channels(path):
    stored = np.dstack([GREY, GREY])
    tifffile.imwrite(path, stored, photometric="minisblack", planarconfig="contig", metadata=None)


REFUSED = {
    "SEPARATED": lambda path: tifffile.imwrite(
        path, np.dstack([GREY] * 4), photometric="separated", metadata=None
    ),
    "CIELAB": lambda path: tifffile.imwrite(path, RGB, photometric="cielab", metadata=None),
    "CFA": lambda path: tifffile.imwrite(path, GREY, photometric="cfa", metadata=None),
    "MASK": with_tags({262: 4}),
    "YCbCr": with_tags({262: 6, 277: 3}),
    "2 values a pixel": two_channels,
    "predictor": with_tags({317: 2}),
    "LERC": lambda path: tifffile.imwrite(
        path, GREY.astype(np.float32), compression="lerc", metadata=None
    ),
    "compression 34713|NEF": with_tags({259: 34713}),
    "compression 4711": with_tags({259: 4711}),
    "24 bits": with_tags({258: 24}),
    "COMPLEX": lambda path: tifffile.imwrite(path, GREY.astype(np.complex64), metadata=None),
    "thumbnails": lambda path: tifffile.imwrite(
        path, np.stack([GREY] * 2), photometric="minisblack", subfiletype=1, metadata=None
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_has_no_single_meaning_is_refused_by_its_tags_and_named(path, said):
    REFUSED[said](path)
    message = refusal(path)
    assert any(word in message for word in said.split("|"))


BOMB = bytes(150 * 2**20)


def pictures_of_30_000_px():
    jpeg = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(jpeg, "JPEG")
    content = bytearray(jpeg.getvalue())
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = b"\x75\x30" * 2  # height and width
    return bytes(content)


BOMBS = {
    "deflate": ({259: 8}, lambda: zlib.compress(BOMB, 1)),
    "LZMA": ({259: 34925}, lambda: imagecodecs.lzma_encode(BOMB, level=0)),
    "Zstandard": ({259: 50000}, lambda: imagecodecs.zstd_encode(BOMB, level=1)),
    "LZW": ({259: 5}, lambda: imagecodecs.lzw_encode(BOMB)),
    "PackBits": ({259: 32773}, lambda: b"\x81\0" * (len(BOMB) // 128)),
    "JPEG": ({259: 7}, pictures_of_30_000_px),
    "tiles": ({322: 30_000, 323: 30_000, 259: 8}, lambda: zlib.compress(bytes(64))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_strip_unpacks_into_its_own_room_and_no_further(path, name):
    tags, packed = BOMBS[name]
    path.write_bytes(tiff_bytes([packed()], height=64, width=64, tags=tags))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + 100 * 2**20, limits[1]))
    try:
        # LZW and LZMA stop when the strip is full, the other codecs refuse.
        with contextlib.suppress(DataError):
            assert not read_picture(path, max_megapixels=1).any()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 2**10


@pytest.mark.parametrize(
    ("compression", "tag"),
    [("jpeg", 7), ("jpeg2000", 34712), ("zlib", 8), ("lzw", 5), ("zstd", 50000), ("none", 1)],
)
def test_a_strip_that_is_cut_off_or_missing_is_refused(path, compression, tag):
    tifffile.imwrite(
        path,
        GREY,
        compression=None if compression == "none" else compression,
        rowsperstrip=10,
        metadata=None,
    )
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        strips = [
            path.read_bytes()[start : start + count]
            for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
    cut = [strips[0], strips[1][: len(strips[1]) // 2]]
    for content in (cut, [b"", strips[1]], strips[:1]):
        path.write_bytes(tiff_bytes(content, height=HEIGHT, width=WIDTH, tags={259: tag, 278: 10}))
        with pytest.raises(DataError, match=r"picture\.tif"):
            read_picture(path, max_megapixels=1)
    path.write_bytes(tiff_bytes(strips, height=HEIGHT, width=WIDTH, tags={259: tag, 278: 10}))
    assert read(path).shape == GREY.shape


@pytest.mark.parametrize("size", [(8, 40), (20, 41)])
def test_a_packed_picture_of_another_size_than_its_strip_is_refused(path, size):
    packed = imagecodecs.jpeg8_encode(np.zeros(size, np.uint8))
    path.write_bytes(tiff_bytes([packed], height=HEIGHT, width=WIDTH, tags={259: 7}))
    with pytest.raises(DataError, match="holds a picture of"):
        read_picture(path, max_megapixels=1)
    colours = imagecodecs.jpeg8_encode(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    path.write_bytes(tiff_bytes([colours], height=HEIGHT, width=WIDTH, tags={259: 7}))
    with pytest.raises(DataError, match="holds a picture of"):
        read_picture(path, max_megapixels=1)
