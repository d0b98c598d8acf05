"""Names of data sets and lists of names as a reader sees them."""

from __future__ import annotations

from analysis.runs.names import data_text, listed, short_names


def test_a_path_is_shown_as_its_last_folder() -> None:
    assert short_names(["/data/cryoppp/lite"]) == {"/data/cryoppp/lite": "lite"}
    assert short_names(["C:\\data\\lite\\"]) == {"C:\\data\\lite\\": "lite"}
    assert short_names(["synthetic", ""]) == {"synthetic": "synthetic", "": ""}


def test_different_data_keep_different_names() -> None:
    paths = ["/a/2024/lite", "/b/2024/lite", "/b/2025/full"]
    names = short_names(paths)
    assert list(names) == paths
    assert len(set(names.values())) == 3
    assert names["/b/2024/lite"] == "b/2024/lite"


def test_names_that_only_differ_in_slashes_stay_apart() -> None:
    names = short_names(["/a/b", "a/b"])
    assert len(set(names.values())) == 2


def test_data_in_a_sentence() -> None:
    assert data_text("") == "unnamed data"
    assert data_text("synthetic") == "the embedded synthetic data"
    assert data_text("/data/lite") == "lite"


def test_names_are_listed_as_in_a_sentence() -> None:
    assert [listed(list(names)) for names in ("", "a", "ab", "abc")] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
