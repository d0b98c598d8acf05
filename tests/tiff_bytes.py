"""TIFF files written byte by byte, for what no library writes."""

from __future__ import annotations

import struct


def tiff_bytes(
    segments: list[bytes],
    *,
    height: int,
    width: int,
    bits: int = 8,
    order: str = "<",
    tags: dict[int, int | None] | None = None,
) -> bytes:
    """A TIFF of one directory, with the strips or tiles as given.

    `tags` are added to those of an uncompressed grey picture or replace them; None removes one.
    """
    body, offsets = bytearray(), []
    for segment in segments:
        offsets.append(8 + len(body))
        body += segment + b"\0" * (len(segment) % 2)
    lists = {273: offsets, 279: [len(segment) for segment in segments]}
    if tags and 322 in tags:
        lists = {324: lists[273], 325: lists[279]}
    placed: dict[int, tuple[int, int]] = {}
    for tag, values in lists.items():
        placed[tag] = len(values), values[0] if len(values) == 1 else 8 + len(body)
        if len(values) > 1:
            body += struct.pack(f"{order}{len(values)}I", *values)
    plain = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 277: 1, 278: height} | (tags or {})
    placed |= {tag: (1, value) for tag, value in plain.items() if value is not None}
    directory = struct.pack(f"{order}H", len(placed))
    for tag, (count, value) in sorted(placed.items()):
        directory += struct.pack(f"{order}HHI", tag, 4, count) + struct.pack(f"{order}I", value)
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8 + len(body))
    return head + bytes(body) + directory + struct.pack(f"{order}I", 0)
