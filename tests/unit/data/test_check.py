"""The list of all faults and the table of sources."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from cryossl.data.check import check, summary
from cryossl.data.coco.dataset import read_dataset
from cryossl.progress.events import silent

SIDE = 64


@pytest.fixture
def root(tmp_path):
    """A data set without fault: two pictures in train, one in val, one particle each."""
    rng = np.random.default_rng(0)
    (tmp_path / "annotations").mkdir()
    for part, names in (("train", ["10017_a.png", "10028_b.png"]), ("val", ["10017_c.png"])):
        (tmp_path / part).mkdir()
        for name in names:
            Image.fromarray(rng.integers(0, 255, size=(SIDE, SIDE), dtype=np.uint8)).save(
                tmp_path / part / name
            )
        images = [
            {"id": number, "file_name": name, "height": SIDE, "width": SIDE}
            for number, name in enumerate(names)
        ]
        particles = [
            {"id": number, "image_id": number, "bbox": [20, 20, 16, 16]}
            for number in range(len(names))
        ]
        (tmp_path / "annotations" / f"instances_{part}.json").write_text(
            json.dumps({"images": images, "annotations": particles})
        )
    return tmp_path


def faults_of(root):
    return [str(fault) for fault in check(root, max_megapixels=1, report=silent)]


def test_a_good_data_set_has_no_fault(root):
    assert faults_of(root) == []


def test_real_data_have_no_fault(coco_public):
    assert check(coco_public, max_megapixels=256, report=silent) == ()


def test_faults_of_annotations_and_of_pixels_come_in_one_list(root):
    path = root / "annotations" / "instances_train.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["bbox"] = [1, 1, -5, 5]
    document["annotations"][1]["image_id"] = 99
    path.write_text(json.dumps(document))
    (root / "annotations" / "instances_val.json").write_text("{")
    whole = (root / "train" / "10017_a.png").read_bytes()
    (root / "train" / "10017_a.png").write_bytes(whole[:2000])
    Image.new("L", (SIDE, SIDE), 7).save(root / "train" / "10028_b.png")
    (root / "train" / "empty.png").write_bytes(b"")
    found = faults_of(root)
    for words in (
        "annotation 0: bbox",
        "annotation 1: image_id 99",
        "instances_val.json: broken JSON at line 1",
        "train/10017_a.png: the picture cannot be read",
        "train/10028_b.png: every pixel has the same value",
        "train/empty.png: the file is empty",
    ):
        assert len([fault for fault in found if words in fault.replace(f"{root}/", "")]) == 1, (
            words,
            found,
        )
    assert len(found) == 6


def test_the_same_picture_in_two_parts_is_a_fault(root):
    (root / "val" / "10017_c.png").write_bytes((root / "train" / "10017_a.png").read_bytes())
    assert faults_of(root) == ["val/10017_c.png: it is the same picture as train/10017_a.png"]


def test_a_missing_folder_is_one_fault(tmp_path):
    assert len(faults_of(tmp_path / "missing")) == 1


def test_progress_is_told_to_the_end(root):
    events = []
    check(root, max_megapixels=1, report=events.append)
    assert [(event.done, event.total) for event in events] == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_the_summary_counts_by_source(root):
    Image.fromarray(np.eye(SIDE, dtype=np.uint8)).save(root / "train" / "10028_unlabelled.png")
    rows = summary(read_dataset(root, border=10, max_megapixels=1), particle_radius_fraction=1.0)
    assert [(row.source, row.micrographs, row.labelled, row.particles) for row in rows] == [
        ("10017", 2, 2, 2),
        ("10028", 2, 1, 1),
    ]
    assert {(row.diameter_px, row.border_px) for row in rows} == {(16.0, 10)}
    for row in rows:
        # A disc of radius 8 in the 44 x 44 px inside the border.
        assert row.particle_ratio == pytest.approx(np.pi * 64 / 44**2, rel=0.05)


def test_a_border_wider_than_the_picture_leaves_no_ratio(root):
    rows = summary(read_dataset(root, border=40, max_megapixels=1), particle_radius_fraction=1.0)
    assert [row.particle_ratio for row in rows] == [None, None]
