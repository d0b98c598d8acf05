"""Small data sets in CryoTransformer's layouts, written into a folder, and how they are read or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cryossl.data.coco.dataset import read_dataset
from cryossl.errors import DataError

SIDE = 64
BOXES = ([10, 12, 8, 8], [30, 40, 8, 8])


def write_picture(path, seed=0, *, height=SIDE, width=SIDE):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *path.name.encode()]).integers(
        0, 255, size=(height, width), dtype=np.uint8
    )
    Image.fromarray(pixels).save(path)


def entries(names, boxes=BOXES, **extra):
    return {
        "info": [{"year": "2026"}],
        "categories": [{"id": 1, "name": "particle"}],
        "images": [
            {"id": number, "file_name": name, "height": SIDE, "width": SIDE} | extra
            for number, name in enumerate(names)
        ],
        "annotations": [
            {
                "id": 1 + number * len(boxes) + place,
                "image_id": number,
                "category_id": 1,
                "iscrowd": 1,
                "area": box[2] * box[3],
                "bbox": list(box),
                "segmentation": [],
            }
            for number in range(len(names))
            for place, box in enumerate(boxes)
        ],
    }


def without_test_part(data: Path, to: Path) -> Path:
    """A copy of a data set in the usual layout of public ones: train and val."""
    shutil.copytree(data, to, ignore=shutil.ignore_patterns("test", "instances_test.json"))
    return to


def write_part(root, part, names, *, json_folder="annotations", picture_folder=None, document=None):
    folder = root / (picture_folder or part)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_picture(folder / name)
    (root / json_folder).mkdir(parents=True, exist_ok=True)
    content = entries(names) if document is None else document
    (root / json_folder / f"instances_{part}.json").write_text(
        content if isinstance(content, str) else json.dumps(content)
    )


def write_dataset(root, *, year="", **places):
    write_part(root, f"train{year}", ["10017_a.jpg", "10017_b.png"], **places)
    write_part(root, f"val{year}", ["10017_c.jpg"], **places)
    return root


def read(root):
    return read_dataset(root, border="auto", max_megapixels=5)


def refusal(root):
    with pytest.raises(DataError) as caught:
        read(root)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)
