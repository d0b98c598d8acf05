"""Annotation records: what counts as a particle, and what never reaches pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from cryossl.data.coco.records import FaultList, read_records

HEIGHT, WIDTH = 40, 60


def document(*annotations, **changes):
    return {
        "info": [{"description": "a list, as CryoTransformer writes it"}],
        "categories": [{"id": 1, "name": "particle"}],
        "images": [{"id": 0, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}],
        "annotations": list(annotations),
    } | changes


def box(number, bbox, **changes):
    return {
        "id": number,
        "image_id": 0,
        "category_id": 1,
        "iscrowd": 1,
        "area": 1,
        "segmentation": [],
        "bbox": bbox,
    } | changes


DUMMY = box(9, [0, 0, 0, 0], iscrowd=0, area=0)


def read(content):
    faults = FaultList("instances_train.json")
    return read_records(content, faults, sizes={}), faults.faults


def test_a_crowd_box_without_segmentation_is_a_particle_and_turns_to_y_x():
    records, faults = read(document(box(1, [5, 7, 10, 12]), box(2, [-3, -4, 10, 10])))
    assert faults == []
    np.testing.assert_array_equal(records.particles[0].boxes, [[7, 5, 12, 10], [-4, -3, 10, 10]])


def test_a_dummy_box_means_unlabelled():
    assert read(document(DUMMY))[0].particles == {}
    assert read(document())[0].particles == {}


def test_a_dummy_box_beside_a_particle_is_no_particle():
    assert read(document(DUMMY, box(1, [5, 7, 10, 12])))[0].particles[0].count == 1


def test_annotations_of_other_categories_alone_mean_truly_empty():
    categories = [{"id": 4, "name": "Particle"}, {"id": 1, "name": "ice"}]
    records, faults = read(document(box(1, [5, 7, 10, 12]), categories=categories))
    assert faults == []
    assert records.particles[0].count == 0
    assert "ice" in records.notes[0]


def test_a_category_is_known_by_its_name_whatever_its_id():
    records, _ = read(
        document(box(1, [5, 7, 10, 12], category_id=7), categories=[{"id": 7, "name": "particle"}])
    )
    assert records.particles[0].count == 1


def test_without_a_category_called_particle_all_count_and_it_is_said():
    categories = [{"id": 1, "name": "apoferritin"}, {"id": 2, "name": "ribosome"}]
    records, faults = read(
        document(box(1, [5, 7, 9, 9]), box(2, [9, 7, 9, 9], category_id=2), categories=categories)
    )
    assert faults == []
    assert records.particles[0].count == 2
    assert "apoferritin" in records.notes[0]


def test_particles_outside_the_picture_are_left_out_and_counted():
    records, faults = read(
        document(box(1, [5, 7, 10, 12]), box(2, [70, 7, 10, 12]), box(3, [5, -20, 10, 12]))
    )
    assert faults == []
    assert records.particles[0].count == 1
    assert "2 particles lie wholly outside" in records.notes[0]


def test_if_all_particles_are_outside_the_scale_is_wrong():
    _, faults = read(document(box(1, [70, 7, 10, 12]), box(2, [5, 90, 10, 12])))
    assert "same scale" in faults[0].cure


def test_the_size_of_the_picture_stands_in_for_one_not_stated():
    faults = FaultList("x")
    images = [{"id": 0, "file_name": "a.jpg"}]
    content = document(box(1, [5, 7, 10, 12]), images=images)
    assert read_records(content, faults, sizes={"a.jpg": (HEIGHT, WIDTH)}).particles[0].count == 1
    # A picture that cannot be read has a fault of its own; its annotations add none.
    assert read_records(content, faults, sizes={}).particles == {}
    assert faults.faults == []


NAN, INF = float("nan"), float("inf")
BAD_SHAPES = {
    "box of text": {"bbox": "5 7 10 12"},
    "box of three": {"bbox": [5, 7, 10]},
    "missing box": {"bbox": None},
    "NaN box": {"bbox": [NAN, 7, 10, 12]},
    "infinite box": {"bbox": [5, 7, INF, 12]},
    "true box": {"bbox": [True, 7, 10, 12]},
    "huge box": {"bbox": [1e12, 7, 10, 12]},
    "huge integer": {"bbox": [10**400, 7, 10, 12]},
    "negative side": {"bbox": [5, 7, -10, 12]},
    "flat box": {"bbox": [5, 7, 0, 12]},
    "text segmentation": {"segmentation": "abc"},
    "polygon of two points": {"segmentation": [[1, 1, 5, 5]]},
    "odd polygon": {"segmentation": [[1, 1, 5, 5, 9, 1, 3]]},
    "empty polygon": {"segmentation": [[]]},
    "polygon of lists": {"segmentation": [[[1, 1], [5, 5], [9, 1]]]},
    "NaN polygon": {"segmentation": [[1, 1, NAN, 5, 9, 1]]},
    "polygon at 1e12, which ends the process in pycocotools": {
        "segmentation": [[1, 1, 1e12, 5, 9, 1]]
    },
    "polygon at -1e300": {"segmentation": [[1, 1, -1e300, 5, 9, 1]]},
    "endless polygon": {"segmentation": [[0, 0, 59, 39] * 300 + [0, 39]]},
    "polygon of too many numbers": {"segmentation": [[1, 1] * 60_000]},
    "mask of another size": {"segmentation": {"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]}},
    "mask of a huge size": {"segmentation": {"size": [100_000, 100_000], "counts": [10**10]}},
    "mask without size": {"segmentation": {"counts": [HEIGHT * WIDTH]}},
    "short mask": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [10, 20]}},
    "long mask": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH, 1]}},
    "negative run": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH + 5, -5]}},
    "run of a fraction": {
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0.5, HEIGHT * WIDTH - 0.5]}
    },
    "short packed mask": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "04"}},
    "packed mask that breaks off": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "P"}},
    "packed mask of odd letters": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "\u20ac\n"}},
    "packed mask without end": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "o" * 1000}},
    "mask without counts": {"segmentation": {"size": [HEIGHT, WIDTH]}},
    "empty mask": {"segmentation": {}},
}


@pytest.mark.parametrize("name", BAD_SHAPES)
def test_a_bad_shape_is_one_fault_that_names_the_annotation(name):
    records, faults = read(
        document(box(1, [5, 7, 10, 12]), box(77, [1, 1, 5, 5]) | BAD_SHAPES[name])
    )
    assert [fault.record for fault in faults] == ["annotation 77"]
    assert "\n" not in str(faults[0])
    assert len(str(faults[0])) < 300
    assert records.particles[0].count == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "not an object"),
        ({}, "'images' is missing"),
        (document(images={}), "not a list"),
        (document(annotations=None), "not a list"),
        (document(images=[7]), "image number 1"),
        (document(images=[{"id": "0", "file_name": "a.jpg"}]), "whole number"),
        (
            document(images=[{"id": 0, "file_name": "a.jpg"}, {"id": 0, "file_name": "b.jpg"}]),
            "id 0 occurs twice",
        ),
        (
            document(images=[{"id": 0, "file_name": "a.jpg"}, {"id": 1, "file_name": "a.jpg"}]),
            "occurs twice",
        ),
        (
            document(images=[{"id": 0, "file_name": "a.jpg", "height": -5, "width": WIDTH}]),
            "height is -5",
        ),
        (
            document(images=[{"id": 0, "file_name": "a.jpg", "height": 40, "width": "60"}]),
            "width is '60'",
        ),
        (document(images=[{"id": 0, "file_name": "a.jpg", "source": ["x"]}]), "source is"),
        (
            document(images=[{"id": 0, "file_name": "a.jpg", "pixel_size_angstrom": 0}]),
            "pixel_size_angstrom",
        ),
        (document(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]), "category 1"),
        (document(categories=[{"id": 1}]), "category 1"),
        (document(box(1, [5, 7, 10, 12]), box(1, [5, 7, 10, 12])), "id 1 occurs twice"),
        (document(box("x", [5, 7, 10, 12])), "not a whole number"),
        (document(box(1, [5, 7, 10, 12], image_id=5)), "not among the images"),
        (
            document(box(1, [5, 7, 10, 12], category_id="1")),
            "category_id '1' is not among the categories",
        ),
        (
            document(box(1, [5, 7, 10, 12], category_id=77)),
            "category_id 77 is not among the categories",
        ),
        (document("annotation"), "annotation number 1"),
    ],
)
def test_a_bad_record_is_named(content, words):
    _, faults = read(content)
    assert len(faults) >= 1
    assert words in str(faults[0])


def test_all_faults_are_found_at_once():
    _, faults = read(
        document(*(box(number, [1, 1, -1, 5]) for number in range(5)), box(0, [1, 1, 5, 5]))
    )
    assert len(faults) == 6


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "images",
                    "annotations",
                    "categories",
                    "id",
                    "file_name",
                    "height",
                    "width",
                    "image_id",
                    "category_id",
                    "bbox",
                    "segmentation",
                    "size",
                    "counts",
                    "name",
                    "source",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


CHANGES = st.dictionaries(
    st.sampled_from(["bbox", "segmentation", "image_id", "id", "category_id"]), JSON, max_size=3
)


@settings(max_examples=400)
@given(JSON | CHANGES.map(lambda changes: document(box(1, [1, 1, 5, 5]) | changes)))
def test_any_document_is_read_or_faulted_but_never_raises(content):
    records, faults = read(content)
    for fault in faults:
        assert "\n" not in str(fault)
    for particles in records.particles.values():
        assert np.isfinite(particles.bounds).all()


@settings(max_examples=300)
@given(st.text(alphabet=[chr(code) for code in range(48, 112)], max_size=12))
def test_a_packed_mask_is_either_exact_or_refused(counts):
    segmentation = {"size": [HEIGHT, WIDTH], "counts": counts}
    records, faults = read(document(box(1, [1, 1, 5, 5], segmentation=segmentation)))
    outlines = records.particles[0].outlines
    assert bool(faults) != bool(outlines)
    for outline in outlines:
        assert 0 < int(coco_mask.area(outline)) <= HEIGHT * WIDTH
