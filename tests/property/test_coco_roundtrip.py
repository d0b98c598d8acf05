"""Particles written as CryoTransformer writes them come back as they were."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cryossl.data.coco.dataset import Particles, rasterise, read_dataset

# Each shows in a picture of 30 x 40 px, though some only by a row.
BOX = st.tuples(st.integers(-9, 29), st.integers(-9, 39), st.integers(10, 20), st.integers(10, 20))
BOXES = st.lists(BOX, max_size=8)
MICROGRAPHS = st.dictionaries(
    st.from_regex(r"[a-z0-9]{1,8}_[a-z]{1,4}\.png", fullmatch=True), BOXES, max_size=5
)


def write(root, part, micrographs, order):
    """A COCO part with a dummy box where there is no particle; image ids from 0, annotation ids from 1."""
    (root / part).mkdir()
    (root / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
    for number, name in enumerate(micrographs):
        Image.fromarray(np.arange(1200, dtype=np.uint32).astype(np.uint8).reshape(30, 40)).save(
            root / part / name
        )
        images.append({"id": number, "file_name": name, "height": 30, "width": 40})
        rows = [(1, [x, y, w, h]) for y, x, h, w in micrographs[name]] or [(0, [0, 0, 0, 0])]
        annotations += [
            {
                "id": len(annotations) + 1 + place,
                "image_id": number,
                "category_id": 1,
                "iscrowd": crowd,
                "bbox": box,
                "area": box[2] * box[3],
                "segmentation": [],
            }
            for place, (crowd, box) in enumerate(rows)
        ]
    order.shuffle(images)
    (root / "annotations" / f"instances_{part}.json").write_text(
        json.dumps(
            {
                "info": [{}],
                "categories": [{"id": 1, "name": "particle"}],
                "images": images,
                "annotations": annotations,
            }
        )
    )


@settings(max_examples=40)
@given(micrographs=MICROGRAPHS, order=st.randoms())
def test_what_was_written_is_read(micrographs, order):
    labelled = {"10017_v.png": [(5, 5, 10, 10)]}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, "train", micrographs | {"zz_labelled.png": [(3, 3, 12, 12)]}, order)
        write(root, "val", labelled, order)
        dataset = read_dataset(root, border="auto", max_megapixels=1)
    expected = {f"train/{name}": boxes for name, boxes in micrographs.items() if boxes}
    expected["train/zz_labelled.png"] = [(3, 3, 12, 12)]
    ids = [micrograph.id for micrograph in dataset.train.micrographs]
    assert ids == sorted({f"train/{name}" for name in micrographs} | {"train/zz_labelled.png"})
    assert set(dataset.train.particles) == set(expected)
    for micrograph_id, boxes in expected.items():
        assert [tuple(row) for row in dataset.train.particles[micrograph_id].boxes] == boxes


@settings(max_examples=40)
@given(BOXES.filter(bool), st.randoms())
def test_a_label_map_does_not_depend_on_the_order_of_particles(boxes, order):
    shuffled = list(boxes)
    order.shuffle(shuffled)
    first, second = (
        rasterise(
            Particles(np.array(rows, dtype=np.float64)),
            height_px=30,
            width_px=40,
            scale=1.0,
            particle_radius_fraction=0.7,
        )
        for rows in (boxes, shuffled)
    )
    np.testing.assert_array_equal(first, second)
