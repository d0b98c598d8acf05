"""The draw of the labelled part."""

from __future__ import annotations

from collections import Counter

import pytest

from cryossl.data.splits import Split, draw_split, share_text
from cryossl.errors import DataError


def items(part: str, **per_source: int) -> dict[str, str]:
    return {
        f"{part}/{source}_{index:04}.jpg": source
        for source, count in per_source.items()
        for index in range(count)
    }


VALIDATION = items("val", a=4, b=4)
TEST = items("test", a=1)


def draw(
    train: dict[str, str],
    *,
    ratio_percent: float = 5,
    seed: int = 0,
    labelled: list[str] | None = None,
    labelable: set[str] | None = None,
) -> Split:
    return draw_split(
        train,
        set(train) if labelable is None else labelable,
        VALIDATION,
        TEST,
        ratio_percent=ratio_percent,
        seed=seed,
        test_seed=seed,
        labelled=labelled,
    )


def halve(validation: dict[str, str]) -> Split:
    train = items("train", a=9)
    return draw_split(
        train, set(train), validation, None, ratio_percent=5, seed=0, test_seed=0, labelled=None
    )


@pytest.mark.parametrize(("ratio", "count"), [(5, 258), (10, 517), (1, 51), (100, 5172), (0.5, 25)])
def test_the_note_s_counts_are_rounded_down(ratio: float, count: int) -> None:
    split = draw(items("train", a=4000, b=1172), ratio_percent=ratio)
    assert (len(split.labelled), len(split.unlabelled)) == (count, 5172 - count)


def test_the_count_does_not_suffer_from_binary_fractions() -> None:
    assert len(draw(items("train", a=10_000), ratio_percent=0.29).labelled) == 29
    assert len(draw(items("train", a=1000), ratio_percent=2.3).labelled) == 23


def test_every_source_has_a_label_however_small_the_ratio() -> None:
    train = items("train", a=300, b=5, c=1)
    split = draw(train, ratio_percent=0.1)
    assert sorted(train[item] for item in split.labelled) == ["a", "b", "c"]


def test_sources_are_labelled_in_their_shares() -> None:
    train = items("train", a=600, b=300, c=100)
    split = draw(train, ratio_percent=10)
    assert Counter(train[item] for item in split.labelled) == {"a": 60, "b": 30, "c": 10}


def test_only_annotated_items_are_labelled() -> None:
    train = items("train", a=100)
    annotated = set(sorted(train)[:30])
    split = draw(train, ratio_percent=20, labelable=annotated)
    assert len(split.labelled) == 20
    assert set(split.labelled) <= annotated


def test_the_labelled_part_is_no_larger_than_what_is_annotated() -> None:
    train = items("train", a=100)
    annotated = set(sorted(train)[:3])
    assert set(draw(train, ratio_percent=50, labelable=annotated).labelled) == annotated


def test_another_seed_is_another_draw() -> None:
    train = items("train", a=100)
    assert draw(train, seed=1).labelled == draw(train, seed=1).labelled
    assert draw(train, seed=1).labelled != draw(train, seed=2).labelled


def test_the_draw_of_a_seed_stays_as_it_is() -> None:
    assert draw(items("train", a=40, b=20), ratio_percent=10, seed=7).labelled == (
        "train/a_0004.jpg",
        "train/a_0015.jpg",
        "train/a_0023.jpg",
        "train/a_0026.jpg",
        "train/b_0016.jpg",
        "train/b_0017.jpg",
    )


def test_a_lab_s_list_replaces_the_draw() -> None:
    train = items("train", a=50, b=50)
    split = draw(train, labelled=["train/a_0003.jpg", "b_0001.jpg"])
    assert split.labelled == ("train/a_0003.jpg", "train/b_0001.jpg")
    assert len(split.unlabelled) == 98


def test_a_lab_s_list_of_micrographs_labels_all_their_tiles() -> None:
    train = {f"train/a_{index}.jpg@0,{x}": "a" for index in range(4) for x in (0, 64)}
    assert draw(train, labelled=["a_2.jpg"]).labelled == ("train/a_2.jpg@0,0", "train/a_2.jpg@0,64")


def test_a_name_of_a_list_needs_no_suffix_where_one_micrograph_alone_has_it() -> None:
    train = dict.fromkeys(("train/x.0.jpg", "train/x.jpg", "train/y.jpg", "train/y.mrc"), "a")
    assert draw(train, labelled=["x.0", "train/x"]).labelled == ("train/x.0.jpg", "train/x.jpg")
    with pytest.raises(DataError, match="'y' of the labelled list means 2 micrographs"):
        draw(train, labelled=["y"])
    assert draw({**train, "train/y": "a"}, labelled=["y"]).labelled == (
        "train/y",
    )  # it is a whole name
    tiles = {f"train/a_{index}.jpg@0,{x}": "a" for index in range(4) for x in (0, 64)}
    assert draw(tiles, labelled=["a_2"]).labelled == ("train/a_2.jpg@0,0", "train/a_2.jpg@0,64")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nowhere.jpg"], "not a training micrograph"),
        (["a_0099.jpg"], "has no annotations"),
        ([], "is empty"),
    ],
)
def test_a_wrong_list_is_refused(names: list[str], message: str) -> None:
    train = items("train", a=100)
    with pytest.raises(DataError, match=message):
        draw(train, labelled=names, labelable=set(train) - {"train/a_0099.jpg"})


def test_a_file_name_that_means_two_micrographs_is_refused() -> None:
    train = {"train/x/1.jpg": "x", "train/y/1.jpg": "y"}
    with pytest.raises(DataError, match="means 2 micrographs"):
        draw(train, labelled=["1.jpg"])


def test_without_a_test_part_half_of_validation_becomes_one() -> None:
    split = halve(VALIDATION)
    assert Counter(VALIDATION[item] for item in split.test) == {"a": 2, "b": 2}
    assert set(split.validation) | set(split.test) == set(VALIDATION)


def test_odd_sources_give_their_larger_half_by_turns() -> None:
    validation = items("val", a=1, b=1, c=3, d=5)
    split = halve(validation)
    assert (len(split.validation), len(split.test)) == (5, 5)


def test_a_micrograph_s_tiles_stay_together_when_validation_is_halved() -> None:
    validation = {f"val/a_{index}.jpg@{y},0": "a" for index in range(6) for y in (0, 64, 128)}
    split = halve(validation)
    micrographs = [{item.split("@")[0] for item in part} for part in (split.validation, split.test)]
    assert not micrographs[0] & micrographs[1]
    assert [len(part) for part in micrographs] == [3, 3]


def test_one_validation_micrograph_cannot_be_halved() -> None:
    validation = {"val/a.jpg@0,0": "a", "val/a.jpg@0,64": "a"}
    with pytest.raises(DataError, match="cannot be divided"):
        halve(validation)


@pytest.mark.parametrize(
    ("labelable", "validation", "test", "message"),
    [
        (set(), VALIDATION, TEST, "no training micrograph"),
        ({"train/a_0000.jpg"}, {}, TEST, "no validation micrograph"),
        ({"train/a_0000.jpg"}, VALIDATION, {}, "no test micrograph"),
        ({"train/a_0000.jpg"}, {"train/a_0001.jpg": "a"}, TEST, "is in train and in validation"),
        (
            {"train/a_0000.jpg"},
            {"val/m.jpg@0,0": "a"},
            {"val/m.jpg@0,64": "a"},
            "is in validation and in test",
        ),
    ],
)
def test_parts_that_cannot_be_used_are_refused(
    labelable: set[str], validation: dict[str, str], test: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        draw_split(
            items("train", a=3),
            labelable,
            validation,
            test,
            ratio_percent=5,
            seed=0,
            test_seed=0,
            labelled=None,
        )


@pytest.mark.parametrize("ratio", [0, -1, 100.5, float("nan")])
def test_a_ratio_outside_its_range_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        draw(items("train", a=9), ratio_percent=ratio)


def test_the_halves_of_validation_have_a_seed_of_their_own() -> None:
    train, validation = items("train", a=40), items("val", a=20)

    def drawn(seed: int, test_seed: int) -> Split:
        return draw_split(
            train,
            set(train),
            validation,
            None,
            ratio_percent=10,
            seed=seed,
            test_seed=test_seed,
            labelled=None,
        )

    assert drawn(1, 0).test == drawn(2, 0).test != drawn(1, 1).test
    assert drawn(1, 0).labelled == drawn(1, 1).labelled != drawn(2, 0).labelled


def test_the_digest_tells_splits_apart() -> None:
    first = Split(("a",), ("b",), ("c",), ("d",))
    assert first.digest() == Split(("a",), ("b",), ("c",), ("d",)).digest()
    assert first.digest() != Split(("b",), ("a",), ("c",), ("d",)).digest()
    assert first.as_json() == {
        "labelled": ["a"],
        "unlabelled": ["b"],
        "validation": ["c"],
        "test": ["d"],
    }


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (1, 1, "100%"),
        (2, 17, "12%"),
        (258, 5172, "5%"),
        (1, 3000, "0.033%"),
        (1, 18, "5.6%"),
        (999, 1000, "99%"),
        (0, 7, "0%"),
    ],
)
def test_a_share_is_told_as_it_is(part: int, whole: int, text: str) -> None:
    assert share_text(part, whole) == text
