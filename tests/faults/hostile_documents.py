"""COCO documents that were damaged on purpose, each through the real `data check`: python -m faults.hostile_documents.

Half of them are damaged as trees (a value of another kind, a missing or doubled entry), half as
text (cut, flipped, repeated keys, numbers that JSON does not know, nesting without end).
"""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from coco_folders import entries, write_dataset
from typed_commands import call

from cryossl.data.coco.dataset import rasterise, scan
from faults.apart import LAST_CASE, judged, tell

NAMES = ["10017_a.jpg", "10017_b.png"]
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    -0.0,
    1e12,
    1e308,
    2**31,
    2**63,
    -(2**63),
    10**300,
    10**5001,
    "",
    "x" * 5000,
    "particle",
    "1",
    "../../x.jpg",
    "/etc/passwd",
    "\x00",
    "\ud800",
    "a\nb",
    [],
    {},
    [[]],
    [None],
    [[1, 2, 3]],
    [[0, 0, 9, 0, 9, 9]],
    [[1e12] * 6],
    [0, 0, 0, 0],
    [1, 2, 3],
    [-5, -5, 3, 3],
    [0, 0, 1e9, 1e9],
    [1, 1, float("1e999"), 5],
    [[0] * 200_000],
    {"size": [64, 64]},
    {"size": [64, 64], "counts": [64 * 64]},
    {"size": [64, 64], "counts": [0, 64 * 64]},
    {"size": [64, 64], "counts": "0"},
    {"size": [10**5, 10**5], "counts": [10**10]},
    {"size": [64, 64], "counts": [-1, 64 * 64 + 1]},
    {"counts": {}},
    {"a": {"b": {}}},
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a document."""
    items = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def spoiled_tree(rng: random.Random) -> str:
    """A valid document with one to three places spoiled."""
    document = copy.deepcopy(entries(NAMES))
    if rng.random() < 0.5:
        document["annotations"][0]["segmentation"] = rng.choice(
            [
                [[1, 1, 20, 1, 20, 20, 1, 20]],
                {"size": [64, 64], "counts": [100, 200, 64 * 64 - 300]},
            ]
        )
    for _ in range(rng.randint(1, 3)):
        *way, last = rng.choice(list(places(document)))
        parent = document
        for key in way:
            parent = parent[key]
        act = rng.randrange(4)
        if act == 0:
            parent[last] = rng.choice(VALUES)
        elif act == 1:
            del parent[last]
        elif act == 2 and isinstance(parent, list):
            parent.insert(0, copy.deepcopy(parent[last]))
        else:
            parent[last] = [parent[last]]
    return json.dumps(document)


def spoiled_text(rng: random.Random) -> bytes:
    """A valid document whose text was spoiled."""
    text = json.dumps(entries(NAMES))
    content = text.encode()
    place = rng.randrange(len(content))
    number = rng.choice([found for found, letter in enumerate(text) if letter.isdigit()])
    kind = rng.randrange(8)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return (
            content[:place]
            + bytes(rng.randrange(256) for _ in range(rng.randint(1, 8)))
            + content[place + 1 :]
        )
    if kind == 2:
        return content[:place] + content[place // 2 :]
    if kind == 3:
        token = rng.choice(
            [
                "NaN",
                "Infinity",
                "-Infinity",
                "1e999",
                "9" * 5001,
                "0x1",
                "-",
                "01",
                ".5",
                "1e",
                "True",
            ]
        )
        return (text[:number] + token + text[number + 1 :]).encode()
    if kind == 4:
        return rng.choice(["[", '{"a":', "[[{}],"]).encode() * rng.choice([10, 1000, 100_000])
    if kind == 5:
        return text.replace(
            '"images":', rng.choice(['"images": [], "images":', '"images": null, "images":']), 1
        ).encode()
    if kind == 6:
        return rng.choice(
            [
                text.encode("utf-16"),
                b"\xef\xbb\xbf" + content,
                b"\x00" * 100,
                b"",
                b"\xff\xfe",
                content * 2,
            ]
        )
    return text.replace(
        '"id":', rng.choice(['"id": 1, "id":', '"ID":', '"id":[', '"id":{}']), rng.randint(1, 3)
    ).encode()


def main() -> None:
    folder, cases, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    root = write_dataset(folder / "data")
    file = root / "annotations" / "instances_train.json"
    sys.set_int_max_str_digits(0)

    def read(case: int) -> str:
        rng = random.Random(f"{seed} {case}")
        made = spoiled_tree(rng).encode() if case % 2 else spoiled_text(rng)
        file.write_bytes(made)
        (folder / LAST_CASE).write_bytes(made)
        sys.set_int_max_str_digits(4300)
        try:
            done = call("data", "check", str(root))
        finally:
            sys.set_int_max_str_digits(0)
        if (
            done.code not in (0, 2)
            or done.err.count("\n") > 1
            or "Traceback" in done.out + done.err
        ):
            raise ValueError(f"exit code {done.code}: {done.err[:300]}")
        if done.code:
            return "refused"
        dataset, _ = scan(root, border="auto", max_megapixels=5)
        if dataset is None:
            raise ValueError("the check found nothing wrong with what cannot be read")
        for micrograph in dataset.train.micrographs:
            particles = dataset.train.particles.get(micrograph.id)
            if particles is not None and not set(
                np.unique(
                    rasterise(
                        particles,
                        height_px=64,
                        width_px=64,
                        scale=1.0,
                        particle_radius_fraction=1.0,
                    )
                ).tolist()
            ) <= {0, 1}:
                raise ValueError("a label map with other values than background and particle")
        return "read"

    tell(judged(folder, cases, read))


if __name__ == "__main__":
    main()
