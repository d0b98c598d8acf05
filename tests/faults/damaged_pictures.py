"""Picture files of every format, damaged, through the real reader with a limit on memory: python -m faults.damaged_pictures."""

from __future__ import annotations

import io
import random
import resource
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import tifffile
from PIL import Image
from tiff_bytes import tiff_bytes

from cryossl.data.images import read_picture, read_size
from cryossl.data.store.file_hashes import hash_files
from cryossl.errors import DataError
from cryossl.progress.events import silent
from faults.apart import LAST_CASE, judged, tell

HEIGHT, WIDTH = 48, 64
MEGAPIXELS = 1.0
SPARE_BYTES = 2**30
HEADER_BYTES = 400


def originals(folder: Path) -> dict[str, bytes]:
    """One picture in each format that is read."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
    deep = grey.astype(np.uint16) * 200
    made: dict[str, Callable[[Path], object]] = {
        "grey.jpg": lambda path: Image.fromarray(grey).save(path, quality=90),
        "colour.jpg": lambda path: Image.fromarray(np.stack([grey] * 3, -1)).save(
            path, progressive=True
        ),
        "grey.png": lambda path: Image.fromarray(grey).save(path),
        "deep.png": lambda path: Image.fromarray(deep).save(path),
        "plain.tif": lambda path: tifffile.imwrite(path, deep),
        "float.tif": lambda path: tifffile.imwrite(path, grey.astype(np.float32)),
        "deflated.tif": lambda path: tifffile.imwrite(path, grey, compression="zlib"),
        "lzw.tif": lambda path: Image.fromarray(grey).save(path, compression="tiff_lzw"),
        "zstd.tif": lambda path: tifffile.imwrite(path, deep, compression="zstd", predictor=True),
        "jpeg.tif": lambda path: tifffile.imwrite(path, grey, compression="jpeg"),
        "jpeg2000.tif": lambda path: tifffile.imwrite(path, deep, compression="jpeg2000"),
        "float.mrc": lambda path: _mrc(path, grey.astype(np.float32)),
        "short.mrc": lambda path: _mrc(path, deep.astype(np.int16)),
        "byte.mrc": lambda path: _mrc(path, grey.view(np.int8)),
    }
    for name, make in made.items():
        make(folder / name)
    return {name: (folder / name).read_bytes() for name in made}


def _mrc(path: Path, values: np.ndarray) -> None:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(values)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Cut, flipped, overwritten, with a piece moved, doubled or from the header spoiled."""
    place = rng.randrange(len(content))
    kind = rng.randrange(6)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + bytes(rng.randint(1, 64)) + content[place + rng.randint(0, 64) :]
    if kind == 2:
        return content[:place] + content[place // 2 : place] + content[place:]
    if kind == 3:
        return (
            bytes(rng.randrange(256) for _ in range(rng.randint(0, 16)))
            + content[rng.randint(1, 16) :]
        )
    spoiled = bytearray(content)
    reach = min(HEADER_BYTES, len(content)) if kind == 4 else len(content)
    for _ in range(rng.randint(1, 6)):
        spoiled[rng.randrange(reach)] = rng.choice([0, 1, 127, 255, rng.randrange(256)])
    return bytes(spoiled)


def png_that_claims(*, height: int, width: int) -> bytes:
    """A PNG of almost no bytes with any size in its header."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def bombs() -> dict[str, bytes]:
    """Small files whose headers promise far more than they hold."""
    whole = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(whole, "PNG")
    place = whole.getvalue().index(b"IDAT") - 4
    chunk = whole.getvalue()[:place] + b"\x7f\xff\xff\xff" + whole.getvalue()[place + 4 :]
    samples = io.BytesIO()
    tifffile.imwrite(
        samples, np.zeros((8, 8, 4), np.uint8), photometric="rgb", extrasamples=("unspecified",)
    )
    many = bytearray(samples.getvalue())
    for tag, value in (
        (277, 65_000),
        (256, 1000),
        (257, 1000),
    ):  # samples of a pixel, width, height
        place = many.find(struct.pack("<HH", tag, 3))
        place = place if place >= 0 else many.find(struct.pack("<HH", tag, 4))
        many[place + 8 : place + 12] = struct.pack("<I", value)
    strips = io.BytesIO()
    tifffile.imwrite(strips, np.zeros((8, 8), np.uint8), compression="zlib")
    long = bytearray(strips.getvalue())
    place = long.find(struct.pack("<H", 279))  # bytes of a strip
    long[place + 2 : place + 12] = struct.pack("<HII", 4, 1, 2**31 - 1)
    mrc = bytearray(1024)
    struct.pack_into("<iiii", mrc, 0, 2**30, 2**30, 1, 2)
    mrc[208:212], mrc[212:216] = b"MAP ", b"\x44\x44\0\0"
    extended = bytearray(mrc)
    struct.pack_into("<iiii", extended, 0, 64, 48, 1, 2)
    struct.pack_into("<i", extended, 92, 2**31 - 1)
    return {
        "bomb.png": png_that_claims(height=30_000, width=30_000),
        "chunk.png": chunk,
        "samples.tif": bytes(many),
        "strip.tif": bytes(long),
        **_unpacking_bombs(),
        "bomb.mrc": bytes(mrc),
        "extended.mrc": bytes(extended),
    }


def _unpacking_bombs() -> dict[str, bytes]:
    """TIFFs of 8 x 8 px, of which a strip or tile unpacks to far more."""
    deflate = zlib.compressobj(9)
    zeros = bytes(2**24)
    packed = b"".join(deflate.compress(zeros) for _ in range(128)) + deflate.flush()
    jpeg = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(jpeg, "JPEG")
    stream = bytearray(jpeg.getvalue())
    place = stream.index(b"\xff\xc0") + 5
    stream[place : place + 4] = struct.pack(">HH", 30_000, 30_000)
    sides = {322: 30_000, 323: 30_000}
    return {
        "deflate.tif": tiff_bytes([packed], height=8, width=8, tags={259: 8}),
        "stream.tif": tiff_bytes([bytes(stream)], height=8, width=8, tags={259: 7}),
        "tile.tif": tiff_bytes([packed[:99]], height=8, width=8, tags={259: 8, **sides}),
    }


def limit_memory() -> None:
    """Let this process have a gigabyte more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    folder, cases, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    whole = originals(folder)
    for name in whole:
        read_picture(folder / name, max_megapixels=MEGAPIXELS)
    hashes = {
        hashed.sha256
        for hashed in hash_files(
            [folder / name for name in whole], memory=folder / "memory.json", report=silent
        ).values()
    }
    limit_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = list(bombs().items())
    unnoticed = 0

    def read(case: int) -> str:
        nonlocal unnoticed
        rng = random.Random(f"{seed} {case}")
        chosen = rng.choice(sorted(whole))
        name, content = made[case] if case < len(made) else (chosen, damaged(whole[chosen], rng))
        path = folder / f"damaged{Path(name).suffix}"
        path.write_bytes(content)
        (folder / LAST_CASE).write_text(f"{name}, damaged: {content[:700].hex()}")
        if content not in whole.values():
            unnoticed += (
                hash_files([path], memory=folder / "other.json", report=silent)[path].sha256
                in hashes
            )
        try:
            size = read_size(path, max_megapixels=MEGAPIXELS)
            picture = read_picture(path, max_megapixels=MEGAPIXELS)
        except DataError as error:
            if "\n" in str(error):
                raise ValueError(f"a message of two lines: {error}") from None
            return "refused"
        if (
            picture.shape != size
            or picture.size > MEGAPIXELS * 1e6
            or not np.isfinite(picture).all()
        ):
            raise ValueError(
                f"{name}: a picture of shape {picture.shape} where the header says {size}"
            )
        return "read"

    found = judged(folder, cases, read)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    tell(found | {"unnoticed": unnoticed, "grown_mb": grown})


if __name__ == "__main__":
    main()
