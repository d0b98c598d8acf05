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
        (document(images=[{"id": [0], "file_name": "a.jpg"}]), "image number 1: it needs an `id`"),
        (document(images=[{"id": True, "file_name": "a.jpg"}]), "image number 1: it needs an `id`"),
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
            document(images=[{"id": 0, "file_name": "a.jpg", "height": 40, "width": "60 px"}]),
            "width is '60 px'",
        ),
        (document(images=[{"id": 0, "file_name": "a.jpg", "source": ["x"]}]), "source is"),
        (
            document(images=[{"id": 0, "file_name": "a.jpg", "pixel_size_angstrom": 0}]),
            "pixel_size_angstrom",
        ),
        (document(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]), "category 1"),
        (document(categories=[{"id": 1}]), "category 1"),
        (document(box(1, [5, 7, 10, 12], image_id=5)), "not among the images"),
        (
            document(box(1, [5, 7, 10, 12], category_id="x")),
            "category_id 'x' is not among the categories",
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


def test_all_kinds_of_faults_are_found_at_once_each_with_its_count():
    _, faults = read(
        document(
            *(box(number, [1, 1, -1, 5 + number]) for number in range(30)),
            box(90, [1, 1, "x", 5]),
            box(91, [1, 1, 5, 5], image_id=7),
        )
    )
    assert len(faults) == 3
    told = next(str(fault) for fault in faults if "negative" in str(fault))
    assert "annotation 0: bbox [1, 1, -1, 5] has a negative side (and 29 more like it: " in told
    assert "annotation 1, annotation 2" in told
    assert len(told) < 250


SPELLINGS = {
    "a flat polygon": {"segmentation": [5, 7, 15, 7, 15, 19, 5, 19]},
    "a polygon of points": {"segmentation": [[[5, 7], [15, 7], [15, 19], [5, 19]]]},
    "points without a list round them": {"segmentation": [[5, 7], [15, 7], [15, 19], [5, 19]]},
    "an empty polygon beside one": {"segmentation": [[], [5, 7, 15, 7, 15, 19, 5, 19]]},
    "an empty polygon and a box": {"segmentation": [[]]},
    "an empty object and a box": {"segmentation": {}},
    "no segmentation": {"segmentation": None},
    "an empty text": {"segmentation": ""},
    "a box of texts": {"bbox": ["5", "7.0", " 10 ", "12"]},
    "a polygon of texts": {"segmentation": [["5", "7", "15", "7", "15", "19", "5", "19"]]},
    "a box of fractions": {"bbox": [5.0, 7.0, 10.0, 12.0]},
    "iscrowd as a truth value": {"iscrowd": True},
    "ids as texts": {"id": "x1", "image_id": "0", "category_id": "1"},
    "ids with a point": {"id": 1.0, "image_id": 0.0, "category_id": 1.0},
    "no id and no area": {"id": None, "area": None},
    "no category, where there is one": {"category_id": None},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_spellings_of_annotation_programs_are_one_particle(spelling):
    records, faults = read(document(box(1, [5, 7, 10, 12]) | SPELLINGS[spelling]))
    assert faults == []
    assert records.notes == ()
    np.testing.assert_allclose(records.particles[0].bounds, [[7, 5, 12, 10]], atol=1)


def test_fields_that_are_not_read_may_be_missing():
    content = {
        "images": [{"id": 0, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"image_id": 0, "bbox": [5, 7, 10, 12]}],
    }
    records, faults = read(content)
    assert (faults, records.notes, records.particles[0].count) == ([], (), 1)


@pytest.mark.parametrize("size", [(40.0, 60.0), ("40", "60.0"), (39.6, 60.4), (0, 0), (None, "")])
def test_a_size_in_another_spelling_is_that_of_the_picture(size):
    images = [{"id": "7", "file_name": "a.jpg", "height": size[0], "width": size[1]}]
    faults = FaultList("x")
    content = document(box(1, [5, 7, 10, 12], image_id=7), images=images)
    records = read_records(content, faults, sizes={"a.jpg": (HEIGHT, WIDTH)})
    assert faults.faults == []
    assert records.particles[7].count == 1
    assert records.images[7].height_px in (None, HEIGHT)


def test_a_size_beside_the_picture_s_is_refused():
    faults = FaultList("x")
    images = [{"id": 7, "file_name": "a.jpg", "height": 41.5, "width": WIDTH}]
    read_records(document(images=images), faults, sizes={"a.jpg": (HEIGHT, WIDTH)})
    assert "height is 41.5" in str(faults.faults[0])


def test_an_id_may_be_any_text():
    images = [{"id": "f3a", "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}]
    records, faults = read(document(box(1, [5, 7, 10, 12], image_id="f3a"), images=images))
    assert faults == []
    assert records.particles["f3a"].count == 1


ROOT = {"id": 0, "name": "particles", "supercategory": "none"}


def test_a_root_category_that_owns_nothing_groups_the_classes():
    """Roboflow's first category has the project's name."""
    categories = [ROOT, {"id": 1, "name": "Ribosome", "supercategory": "particles"}]
    records, faults = read(document(box(1, [5, 7, 10, 12]), categories=categories))
    assert (faults, records.particles[0].count) == ([], 1)
    assert "'Ribosome' count as particles" in records.notes[0]


def test_below_a_root_the_class_that_is_called_particle_is_read():
    categories = [
        {"id": 0, "name": "cryo"},
        {"id": 1, "name": "particle", "supercategory": "cryo"},
        {"id": 2, "name": "ice", "supercategory": "cryo"},
    ]
    content = document(
        box(1, [5, 7, 10, 12]), box(2, [5, 9, 10, 12], category_id=2), categories=categories
    )
    records, _ = read(content)
    assert records.particles[0].count == 1
    assert records.notes == (
        "instances_train.json: only the category `particle` is read, not 'ice'",
    )


def test_a_category_that_owns_annotations_is_no_root():
    categories = [ROOT, {"id": 1, "name": "ice", "supercategory": "particles"}]
    content = document(
        box(1, [5, 7, 10, 12], category_id=0), box(2, [5, 9, 9, 9]), categories=categories
    )
    records, _ = read(content)
    assert records.particles[0].count == 1
    assert "not 'ice'" in records.notes[0]


def test_a_single_category_of_another_name_is_named():
    records, _ = read(document(box(1, [5, 7, 10, 12]), categories=[{"id": 1, "name": "ribosome"}]))
    assert "'ribosome' count as particles" in records.notes[0]


WITHOUT_AREA = {
    "flat box": {"bbox": [5, 7, 0, 12]},
    "line": {"segmentation": [[5, 7, 10, 7, 15, 7]]},
    "two points": {"segmentation": [[5, 7, 15, 17]]},
    "empty mask": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}},
}


@pytest.mark.parametrize("name", WITHOUT_AREA)
def test_one_annotation_without_area_among_many_is_left_out_and_counted(name):
    many = [box(number, [5 + number, 7, 10, 12]) for number in range(30)]
    records, faults = read(document(*many, box(77, [5, 7, 1, 1]) | WITHOUT_AREA[name]))
    assert (faults, records.particles[0].count) == ([], 30)
    assert "without area are left out: 1, the first is annotation 77" in records.notes[0]


@pytest.mark.parametrize("name", WITHOUT_AREA)
def test_many_annotations_without_area_are_one_fault(name):
    many = [box(number, [5, 7, 1, 1]) | WITHOUT_AREA[name] for number in range(30)]
    different = [one | {"category_id": 1 + number} for number, one in enumerate(many)]
    _, faults = read(document(*different, categories=[]))
    assert len(faults) == 1
    assert "area" in str(faults[0])
    assert "29 more like it" in str(faults[0])
    assert "outside" not in str(faults[0])


def test_a_picture_with_nothing_but_a_stray_click_is_unlabelled():
    images = [
        {"id": number, "file_name": f"{number}.jpg", "height": HEIGHT, "width": WIDTH}
        for number in range(2)
    ]
    many = [box(number, [5 + number, 7, 10, 12]) for number in range(30)]
    click = box(77, [5, 7, 0, 0], image_id=1)
    assert set(read(document(*many, click, images=images))[0].particles) == {0}


def test_an_annotation_that_is_there_twice_counts_once():
    records, faults = read(
        document(box(1, [5, 7, 10, 12]), box(1, [5, 7, 10, 12]), box(2, [5, 7, 10, 12]))
    )
    assert (faults, records.particles[0].count) == ([], 1)
    assert "2 annotations are there twice" in records.notes[0]


RECTANGLE = [5, 7, 15, 7, 15, 19, 5, 19]


@pytest.mark.parametrize(
    "spelling",
    [
        {"bbox": [5.0, 7.0, 10.0, 12.0]},
        {"bbox": ["5", "7", "10", "12.0"]},
        {"segmentation": None},
        {"segmentation": [[]]},
        {"segmentation": ""},
        {"category_id": "1"},
        {"category_id": None},
    ],
)
def test_a_box_that_is_there_twice_counts_once_however_it_is_written(spelling):
    records, faults = read(
        document(box(1, [5, 7, 10, 12]), box(2, [5, 7, 10, 12]) | spelling, box(3, [25, 7, 9, 9]))
    )
    assert (faults, records.particles[0].count) == ([], 2)
    assert "1 annotations are there twice" in records.notes[0]


@pytest.mark.parametrize(
    "drawn",
    [
        RECTANGLE,
        [[float(value) for value in RECTANGLE]],
        [[5, 7], [15, 7], [15, 19], [5, 19]],
        [[*RECTANGLE[2:], *RECTANGLE[:2]]],
    ],
)
def test_an_outline_that_is_there_twice_counts_once_however_it_is_written(drawn):
    twice = [box(1, [5, 7, 10, 12], segmentation=one) for one in ([RECTANGLE], drawn)]
    records, faults = read(document(*twice))
    assert (faults, records.particles[0].count) == ([], 1)


@pytest.mark.parametrize(
    "fractions",
    [
        {"bbox": [0.25, 0.5, 0.1, 0.1]},
        {"bbox": ["0.25", "0.5", "0.1", "0.1"]},
        {"bbox": [0, 0, 0.5, 1.0]},
        {"bbox": [5, 7, 10, 12], "segmentation": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]},
    ],
)
def test_coordinates_in_fractions_of_the_picture_are_one_fault_with_its_cure(fractions):
    images = [
        {"id": key, "file_name": f"{key}.jpg", "height": HEIGHT, "width": WIDTH} for key in (0, 1)
    ]
    rows = [
        box(number, [0.5, 0.5, 0.2, 0.2], image_id=number % 2) | fractions for number in range(6)
    ]
    (fault,) = read(document(*rows, images=images))[1]
    assert "within 0 and 1" in fault.problem
    assert "1 more like it" in fault.problem
    assert "multiply by its sides" in fault.cure


def test_a_small_box_beside_others_or_in_whole_numbers_is_in_px():
    assert read(document(box(1, [0.5, 0.5, 0.5, 0.5]), box(2, [5, 7, 9, 9])))[1] == []
    assert read(document(box(1, [0, 0, 1, 1])))[1] == []


def test_two_annotations_with_one_id_are_two():
    records, faults = read(document(box(1, [5, 7, 10, 12]), box(1, [25, 7, 10, 12])))
    assert (faults, records.particles[0].count) == ([], 2)


KEYS = ("images", "annotations", "categories", "id", "file_name", "height", "width", "image_id")
MORE_KEYS = ("category_id", "bbox", "segmentation", "size", "counts", "name", "source")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS + MORE_KEYS),
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
    outlines = records.particles[0].outlines if 0 in records.particles else ()
    assert bool(faults) != bool(outlines)
    for outline in outlines:
        assert 0 < int(coco_mask.area(outline)) <= HEIGHT * WIDTH
