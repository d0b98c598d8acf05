"""Names of micrographs in several programs mean the same file, or are refused by name."""

from __future__ import annotations

import pytest

from cryossl.errors import DataError
from cryossl.picking.importing.names import match


@pytest.mark.parametrize(
    ("name", "micrograph"),
    [
        ("a", "a.mrc"),
        ("picks/a_autopick.star", "a.mrc"),
        ("ManualPick/job003/Movies/a_manualpick.star", "Movies/a.mrc"),
        ("a_topaz_picks.box", "a.tif"),
        ("MotionCorr/job002/Movies/a.mrc", "a.mrc"),
        ("a_DW", "a.mrc"),
        ("a", "a_aligned_DW.mrc"),
        ("a_fractions", "a.mrc"),
        ("J3/000123456789012345678_a_patch_aligned_doseweighted.mrc", "a.mrc"),
        ("a", "000123456789012345678_a_patch_aligned_doseweighted.mrc"),
        ("Micrographs\\a.mrc", "a.mrc"),
        ("a.mrc", "a.jpg"),
        ("14sep05c_00024sq.03.bin", "14sep05c_00024sq.03.bin.mrc"),
    ],
)
def test_a_name_means_the_micrograph(name: str, micrograph: str) -> None:
    assert match([name], [micrograph, "other.mrc"]) == {name: micrograph}


def test_a_name_that_fits_nothing_is_left_out() -> None:
    assert match(["b_autopick.star", "a1"], ["a.mrc"]) == {}


def test_a_name_as_it_is_comes_before_one_without_its_endings() -> None:
    assert match(["a_1_sum"], ["g1/a_1.mrc", "g2/a_1_sum.mrc"]) == {"a_1_sum": "g2/a_1_sum.mrc"}


def test_folders_decide_between_micrographs_of_one_name() -> None:
    micrographs = ["g1/a.mrc", "g2/a.mrc"]
    assert match(["Picks/g2/a_autopick.star"], micrographs) == {
        "Picks/g2/a_autopick.star": "g2/a.mrc"
    }
    with pytest.raises(DataError, match=r"'a' fit 2 micrographs: 'g1/a\.mrc', 'g2/a\.mrc'"):
        match(["a"], micrographs)


def test_two_versions_of_a_micrograph_are_refused() -> None:
    with pytest.raises(DataError, match=r"'a\.mrc' and 'a_DW\.mrc' are two versions"):
        match(["a"], ["a_DW.mrc", "b.mrc", "a.mrc"])
