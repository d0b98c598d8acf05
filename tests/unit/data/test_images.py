"""Pictures: what is read, what is refused, how it is reduced and normalised."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from faults.damaged_pictures import bombs, png_that_claims
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from watched_calls import watched_calls

from cryossl.data.images import normalise, picture_format, read_picture, read_size, resize
from cryossl.data.levels import NEUTRAL
from cryossl.errors import DataError

BOMBS = bombs()
GREY = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)


def write_mrc(path, values):
    with mrcfile.new(path) as file:
        file.set_data(values)
    return path


@pytest.fixture
def pictures(tmp_path):
    """The same picture in every format that is read, and the values to expect."""
    sixteen = GREY.astype(np.uint16) * 257
    floats = GREY.astype(np.float32) / 7 - 10
    Image.fromarray(GREY).save(tmp_path / "l.png")
    Image.fromarray(np.dstack([GREY] * 3)).save(tmp_path / "rgb.png")
    Image.fromarray(sixteen).save(tmp_path / "sixteen.png")
    Image.fromarray(GREY).save(tmp_path / "grey.tif")
    Image.fromarray(GREY).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    tifffile.imwrite(tmp_path / "sixteen.tif", sixteen)
    tifffile.imwrite(tmp_path / "big.tif", floats, bigtiff=True)
    tifffile.imwrite(tmp_path / "deflate.tiff", floats, compression="zlib")
    tifffile.imwrite(tmp_path / "inverted.tif", 255 - GREY, photometric="miniswhite")
    write_mrc(tmp_path / "float.mrc", floats)
    write_mrc(tmp_path / "int16.mrc", GREY.astype(np.int16) - 100)
    write_mrc(tmp_path / "uint16.mrc", sixteen)
    write_mrc(tmp_path / "stack_of_one.mrc", floats[None])
    expected = {
        "l.png": GREY,
        "rgb.png": GREY,
        "sixteen.png": sixteen,
        "grey.tif": GREY,
        "lzw.tif": GREY,
        "sixteen.tif": sixteen,
        "big.tif": floats,
        "deflate.tiff": floats,
        "float.mrc": floats,
        "int16.mrc": GREY.astype(np.int16) - 100,
        "uint16.mrc": sixteen,
        "stack_of_one.mrc": floats,
    }
    return tmp_path, expected


def test_every_format_and_depth_gives_the_stored_values(pictures):
    folder, expected = pictures
    for name, values in expected.items():
        assert read_size(folder / name, max_megapixels=1) == (12, 20), name
        np.testing.assert_allclose(
            read_picture(folder / name, max_megapixels=1), values, rtol=1e-6, err_msg=name
        )


def test_a_picture_whose_zero_is_white_is_turned_round(pictures):
    inverted = read_picture(pictures[0] / "inverted.tif", max_megapixels=1)
    np.testing.assert_array_equal(inverted - inverted.min(), GREY - float(GREY.min()))


def test_the_format_is_told_from_the_content_not_the_name(pictures):
    folder, _ = pictures
    (folder / "liar.jpg").write_bytes((folder / "l.png").read_bytes())
    np.testing.assert_array_equal(read_picture(folder / "liar.jpg", max_megapixels=1), GREY)


@pytest.mark.parametrize("order", "<>")
def test_an_mrc_without_the_mark_is_told_by_sizes_that_fit_the_file(tmp_path, order):
    old = np.zeros(1024, np.uint8)
    old[:16].view(f"{order}i4")[:] = 20, 12, 1, 2
    values = GREY.astype(f"{order}f4")
    whole = old.tobytes() + values.tobytes()
    (tmp_path / "old.rec").write_bytes(whole)
    assert picture_format(tmp_path / "old.rec") == "mrc"
    assert read_size(tmp_path / "old.rec", max_megapixels=1) == (12, 20)
    np.testing.assert_array_equal(read_picture(tmp_path / "old.rec", max_megapixels=1), GREY)
    (tmp_path / "cut.mrc").write_bytes(whole[:-1])
    assert picture_format(tmp_path / "cut.mrc") is None


def test_what_is_no_picture_has_no_format_whatever_its_name(tmp_path):
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.tif")
    for name, content in {
        "empty.mrc": b"",
        "zeros.mrc": bytes(5000),
        "notes.jpg": b"particles\n" * 300,
        "table.mrc": np.arange(4000, dtype=np.int32).tobytes(),
        "short.mrc": b"MAP",
    }.items():
        (tmp_path / name).write_bytes(content)
    assert {path.name: picture_format(path) for path in tmp_path.iterdir()} == dict.fromkeys(
        sorted(path.name for path in tmp_path.iterdir())
    )


def test_a_jpeg_keeps_its_stored_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(tmp_path / "turned.jpg", exif=exif)
    assert read_size(tmp_path / "turned.jpg", max_megapixels=1) == (12, 20)
    assert read_picture(tmp_path / "turned.jpg", max_megapixels=1).shape == (12, 20)


def test_several_frames_in_one_file_are_refused(tmp_path):
    write_mrc(tmp_path / "movie.mrc", np.zeros((3, 8, 8), dtype=np.float32))
    tifffile.imwrite(
        tmp_path / "movie.tif", np.zeros((3, 8, 8), dtype=np.uint8), photometric="minisblack"
    )
    Image.fromarray(GREY).save(
        tmp_path / "movie.png", save_all=True, append_images=[Image.fromarray(255 - GREY)]
    )
    for name in ("movie.mrc", "movie.tif", "movie.png"):
        with pytest.raises(DataError, match="frames"):
            read_size(tmp_path / name, max_megapixels=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(tmp_path, bad):
    values = np.ones((8, 8), dtype=np.float32)
    values[3, 4] = bad
    tifffile.imwrite(tmp_path / "bad.tif", values)
    with pytest.raises(DataError, match="1 of 64 pixels are not finite"):
        read_picture(tmp_path / "bad.tif", max_megapixels=1)


def test_complex_pixels_are_refused(tmp_path):
    with pytest.raises(DataError, match="MRC mode 4"):
        read_size(
            write_mrc(tmp_path / "c.mrc", np.ones((8, 8), dtype=np.complex64)), max_megapixels=1
        )


def test_a_picture_bomb_is_refused_by_its_header_at_once(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_that_claims(height=30_000, width=30_000))
    before = time.process_time()
    for read in (read_size, read_picture):
        with pytest.raises(DataError, match="max_megapixels"):
            read(tmp_path / "bomb.png", max_megapixels=256)
    assert time.process_time() - before < 5


@pytest.mark.parametrize(
    "name", ["samples.tif", "strip.tif", "deflate.tif", "stream.tif", "tile.tif", "extended.mrc"]
)
def test_a_small_file_that_promises_gigabytes_is_refused_before_room_is_made_for_them(
    tmp_path, name
):
    (tmp_path / name).write_bytes(BOMBS[name])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + 2**29, limits[1]))
    try:
        with pytest.raises(DataError, match=name):
            read_picture(tmp_path / name, max_megapixels=256)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_damaged_tiff_is_told_of_by_us_alone(tmp_path, caplog):
    path = tmp_path / "damaged.tif"
    tifffile.imwrite(path, GREY)
    content = bytearray(path.read_bytes())
    content[20:24] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_picture(path, max_megapixels=1)
    assert caplog.records == []


def test_a_super_resolution_picture_is_legitimate(tmp_path):
    # 94 Mpx: above the size at which Pillow alone warns of a bomb; a warning would fail this test.
    (tmp_path / "k3.png").write_bytes(png_that_claims(height=8184, width=11_520))
    assert read_size(tmp_path / "k3.png", max_megapixels=256) == (8184, 11520)


def test_pillows_own_limit_is_left_as_it_was(pictures):
    before = Image.MAX_IMAGE_PIXELS
    read_picture(pictures[0] / "l.png", max_megapixels=1)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 2000, b"hello", b"\xff\xd8\xff", b"II*\0", b"\x89PNG\r\n\x1a\n"]
)
@pytest.mark.parametrize("name", ["x.jpg", "x.mrc"])
def test_what_is_no_picture_is_refused_in_one_line_with_its_name(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_picture(path, max_megapixels=1)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in ("missing.jpg", "folder.jpg", "pipe.jpg"):
        with pytest.raises(DataError, match=name):
            read_size(tmp_path / name, max_megapixels=1)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cut_or_altered_file_is_read_or_refused_but_nothing_else(pictures, data):
    folder, expected = pictures
    name = data.draw(st.sampled_from([*sorted(expected), "turned.jpg"]))
    if name == "turned.jpg":
        Image.fromarray(GREY).save(folder / name)
    content = bytearray((folder / name).read_bytes())
    flips = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(flips, max_size=4)):
        content[place] = value
    damaged = folder / f"damaged{(folder / name).suffix}"
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        picture = read_picture(damaged, max_megapixels=1)
    except DataError:
        return
    assert picture.dtype == np.float32
    assert np.isfinite(picture).all()


def test_a_reduction_by_whole_numbers_is_binning():
    picture = np.random.default_rng(0).normal(size=(12, 20)).astype(np.float32)
    binned = picture.reshape(6, 2, 5, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(resize(picture, height_px=6, width_px=5), binned, atol=1e-6)


def test_a_reduction_does_not_alias():
    stripes = np.tile(np.array([0.0, 1.0], dtype=np.float32), (64, 32))
    reduced = resize(stripes, height_px=25, width_px=25)
    assert np.abs(reduced - 0.5).max() < 0.1


def test_resizing_keeps_the_middle_where_it_was():
    y, x = np.mgrid[:100, :140]
    blob = np.exp(-((y + 0.5 - 30) ** 2 + (x + 0.5 - 84) ** 2) / 200).astype(np.float32)
    reduced = resize(blob, height_px=37, width_px=52)
    ys, xs = np.mgrid[:37, :52] + 0.5
    assert (ys * reduced).sum() / reduced.sum() * 100 / 37 == pytest.approx(30, abs=0.3)
    assert (xs * reduced).sum() / reduced.sum() * 140 / 52 == pytest.approx(84, abs=0.3)


def test_normalising_follows_the_formula():
    picture = np.random.default_rng(1).normal(7, 3, size=(50, 60)).astype(np.float32)
    median = np.median(picture.astype(np.float64))
    z = (picture - median) / (1.4826 * np.median(np.abs(picture - median)))
    expected = np.rint((np.clip(z, -5, 5) + 5) * 25.5)
    assert np.abs(normalise(picture).astype(int) - expected).max() <= 1
    assert abs(np.median(normalise(picture)) - NEUTRAL) <= 1


@pytest.mark.parametrize(
    ("gain", "offset"), [(2.0, 0.0), (256.0, -1000.0), (1e-3, 5.0), (1e34, 0.0), (1e-38, 0.0)]
)
def test_normalising_knows_no_gain_and_no_offset(gain, offset):
    picture = np.random.default_rng(2).integers(0, 200, size=(40, 40)).astype(np.float32)
    other = (picture * np.float64(gain) + offset).astype(np.float32)
    assert np.abs(normalise(other).astype(int) - normalise(picture)).max() <= 1


def test_a_few_percent_of_ice_do_not_move_the_rest():
    picture = np.random.default_rng(3).normal(size=(100, 100)).astype(np.float32)
    icy = picture.copy()
    icy[:20, :20] = 1e6
    assert np.abs(normalise(icy)[20:].astype(int) - normalise(picture)[20:]).mean() < 3


def test_a_constant_picture_is_neutral_and_a_nearly_constant_one_is_not():
    constant = np.full((6, 6), 17.0, dtype=np.float32)
    assert (normalise(constant) == NEUTRAL).all()
    constant[0, 0] = 18
    assert normalise(constant)[0, 0] > NEUTRAL
    assert (normalise(constant)[1:] <= NEUTRAL).all()


def test_real_micrographs_use_the_range_and_are_centred(coco_public):
    for path in sorted((coco_public / "val").iterdir()):
        picture = read_picture(path, max_megapixels=256)
        assert picture.shape == read_size(path, max_megapixels=256)
        normalised = normalise(resize(picture, height_px=512, width_px=512))
        assert 20 < normalised.std() < 45
        assert abs(float(np.median(normalised)) - NEUTRAL) <= 1
        assert ((normalised == 0) | (normalised == 255)).mean() < 0.02


def test_reading_swaps_no_warning_filters_for_other_threads_would_see_them(tmp_path):
    path = write_mrc(tmp_path / "m.mrc", GREY.astype(np.float32))
    outside = list(warnings.filters)
    with watched_calls("mrcfile.py", "_read", lambda: list(warnings.filters)) as inside:
        read_size(path, max_megapixels=1)
        read_picture(path, max_megapixels=1)
    assert len(inside) >= 1
    assert all(filters == outside for filters in inside)


def test_an_oddity_that_a_decoder_warns_of_is_read_in_silence(tmp_path):
    path = write_mrc(tmp_path / "odd.mrc", GREY.astype(np.float32))
    with path.open("r+b") as file:
        file.seek(208)
        file.write(b"odd ")  # no mark of the format: mrcfile warns
    code = (
        "from pathlib import Path; from cryossl.data.images import read_size\n"
        f"print(read_size(Path({str(path)!r}), max_megapixels=1))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("(12, 20)\n", "")
