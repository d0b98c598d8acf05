"""Sources, diameters and borders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryossl.data.sources import Description, assign, border_px, diameter_px, is_plain, parse_table
from cryossl.errors import DataError


def describe(name, *, size=(100, 120), stated=""):
    return Description(name, *size, stated)


def sources_of(*descriptions, table=()):
    return [assign(descriptions, table=table)[0][description.id] for description in descriptions]


def test_the_table_comes_before_the_field_before_the_name():
    one = describe("train/10017_a.jpg", stated="field")
    other = describe("train/10017_b.jpg", stated="field")
    assert sources_of(one, other, table=(("10017_a*", "table"),)) == ["table", "field"]
    assert sources_of(one, other) == ["field", "field"]
    assert sources_of(describe("train/10017_a.jpg"), describe("10017_b")) == ["10017", "10017"]


def test_a_file_name_in_the_table_comes_before_a_glob_and_the_first_glob_before_the_next():
    table = (("*", "any"), ("b*", "never"), ("b.jpg", "named"), ("val/*", "never"))
    assert sources_of(
        describe("train/a.jpg"), describe("train/b.jpg"), describe("val/c.jpg"), table=table
    ) == ["any", "named", "any"]


def test_the_table_may_name_a_micrograph_by_its_whole_path():
    table = (("train/a.jpg", "one"), ("val/a.jpg", "two"))
    assert sources_of(describe("train/a.jpg"), describe("val/a.jpg"), table=table) == ["one", "two"]


def test_groups_are_of_one_picture_size_and_the_user_is_told():
    descriptions = [describe("a.jpg"), describe("b.jpg"), describe("c.jpg", size=(50, 50))]
    sources, notes = assign(descriptions, table=())
    assert sources == {"a.jpg": "120x100", "b.jpg": "120x100", "c.jpg": "50x50"}
    assert "3 micrographs" in notes[0]
    assert "picture size alone, into 120x100 (2), 50x50 (1)" in notes[0]
    assert "sources.csv" in notes[0]


def test_sources_guessed_from_names_are_told_with_their_counts():
    _, notes = assign([describe("10017_a"), describe("10017_b"), describe("c")], table=())
    assert "guessed" in notes[0]
    assert "10017 (2); if that is wrong, name them in sources.csv" in notes[0]
    assert "into 120x100 (1)" in notes[1]


def test_a_note_names_the_largest_sources_and_counts_the_others():
    stated = [describe(f"{one}", stated=f"s{one // 2:02d}") for one in range(50)]
    _, notes = assign([*stated, describe("x", stated="s24")], table=())
    assert "s24 (3), s00 (2), s01 (2)" in notes[0]
    assert notes[0].endswith("and 5 more")


def test_a_line_of_the_table_that_fits_nothing_is_said():
    _, notes = assign([describe("10017_a.jpg")], table=(("nothing*", "x"),))
    assert "'nothing*'" in notes[-1]


@given(
    st.permutations(
        [
            describe("10017_a"),
            describe("10017_f"),
            describe("apo_b"),
            describe("apo_c"),
            describe("d"),
            describe("e", size=(9, 9)),
        ]
    )
)
def test_sources_do_not_depend_on_the_order_of_files(descriptions):
    assert assign(descriptions, table=())[0] == {
        "10017_a": "10017",
        "10017_f": "10017",
        "apo_b": "apo",
        "apo_c": "apo",
        "d": "120x100",
        "e": "9x9",
    }


def test_the_table_is_read_with_other_columns_blanks_and_a_byte_order_mark():
    text = "\ufefffile, source, remark\r\na*.jpg, one two, x\r\n\r\nb.jpg,10017,\r\n"
    assert parse_table(text, name="sources.csv") == (("a*.jpg", "one two"), ("b.jpg", "10017"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "first line"),
        ("name,source\na,b\n", "first line"),
        ("file,source\na,b\nc\n", "line 3"),
        ("file,source\n,b\n", "line 2"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(text, words):
    with pytest.raises(DataError, match=words):
        parse_table(text, name="sources.csv")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("10017", True),
        ("apo ferritin-2.b", True),
        ("", False),
        ("../x", False),
        ("a/b", False),
        ("a\nb", False),
        ("x" * 65, False),
        ("<b>", False),
    ],
)
def test_a_source_has_a_plain_name(name, plain):
    assert is_plain(name) is plain


def scattered(rng, number, *, margin=0.0, side=50.0, height=1000, width=1400):
    """Boxes whose centres lie anywhere, at least `margin` px from the edges."""
    y = rng.uniform(margin, height - margin, number) - side / 2
    x = rng.uniform(margin, width - margin, number) - side / 2
    return np.stack([y, x, np.full(number, side), np.full(number, side)], axis=1), height, width


def test_labels_that_reach_the_edge_have_no_border():
    rng = np.random.default_rng(0)
    for number in (1, 5, 30, 100, 1000):
        found = [border_px([scattered(rng, number)]) for _ in range(50)]
        assert np.count_nonzero(found) == 0


def test_the_border_is_where_centres_stop():
    rng = np.random.default_rng(1)
    for margin in (20, 66, 130):
        for pictures in (1, 8):
            labelled = [scattered(rng, 500, margin=margin) for _ in range(pictures)]
            assert margin <= border_px(labelled) <= margin + 5


def test_a_few_stray_labels_do_not_undo_the_border():
    rng = np.random.default_rng(2)
    labelled = [scattered(rng, 500, margin=66) for _ in range(10)]
    stray = np.array([[0.0, 0.0, 10.0, 10.0], [500.0, 2.0, 10.0, 10.0]])
    labelled[0] = (np.concatenate([labelled[0][0], stray]), *labelled[0][1:])
    assert 60 <= border_px(labelled) <= 70


def test_too_few_labels_do_not_make_a_border():
    assert border_px([scattered(np.random.default_rng(3), 10, margin=100)]) == 0
    assert border_px([]) == 0
    assert border_px([(np.zeros((0, 4)), 100, 100)]) == 0


def test_pictures_of_several_sizes_share_one_border():
    rng = np.random.default_rng(4)
    labelled = [
        scattered(rng, 400, margin=50),
        scattered(rng, 200, margin=50, height=500, width=600),
    ]
    assert 50 <= border_px(labelled) <= 55


def test_the_diameter_is_the_median_width_of_all_boxes():
    two, none, one = (
        np.array([[0.0, 0.0, 9.0, 10.0]] * 2),
        np.zeros((0, 4)),
        np.array([[0.0, 0.0, 1.0, 30.0]]),
    )
    assert diameter_px([two, none, one]) == 10
    assert diameter_px([]) is None
    assert diameter_px([np.zeros((0, 4))]) is None
