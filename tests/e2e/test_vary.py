"""A sweep over settings: the numbers of separate runs, and what its cells share."""

from __future__ import annotations

import json
import re

import pytest

NAME = "pseudolabel_balanced"
QUOTAS = ("1", "2")
GRID = (
    *("--strategies", "naive,class_balanced", "--seeds", "1"),
    *("--vary", f"max_pseudo_per_labelled={','.join(QUOTAS)}"),
    *("--vary", "class_balanced.background_threshold=0.5,0.7"),
)


def sweep(lab, *options: str):
    return lab.call("sweep", *lab.places(), *lab.tiny, *options)


def variant(quota: str, background: str) -> str:
    """The folder in which the ratios and seeds of a combination of values are gathered."""
    return f"max_pseudo_per_labelled_{quota}_class_balanced.background_threshold_{background}"


@pytest.fixture(scope="module")
def varied(lab):
    """A sweep over three quotas; class_balanced beside them with two background thresholds."""
    listed = sweep(lab, *GRID, "--dry-run")
    assert listed.code == 0, listed.err
    done = sweep(lab, *GRID)
    assert done.code == 0, done.err
    return listed, done


def stages(lab, kind: str) -> int:
    return len(list(lab.work.glob(f"stages/{kind}/*/")))


def test_all_cells_are_listed_and_run(lab, varied):
    listed, done = varied
    assert "5 cells of naive, class_balanced: 0 finished, 5 to run" in listed.out
    for quota in QUOTAS:
        assert f"30% seed 0, max_pseudo_per_labelled={quota}, class_balanced.back" in listed.out
    assert "5 of 5 cells have finished" in done.out


def test_at_the_end_come_the_table_by_the_settings_and_the_page_of_mlflow(varied):
    _, done = varied
    assert "class_balanced.background_threshold" in done.out[done.out.index("5 of 5 cells") :]
    by = "--by max_pseudo_per_labelled --by class_balanced.background_threshold"
    assert re.search(rf"`python cli.py report .*{by}` draws it", done.out)
    assert "fewer or older runs" not in done.out
    assert re.search("`python cli.py compare .*--where strategies=naive` shows", done.out)
    assert re.search(
        "F1 by the settings that varied: .*viewStateShareKey=cryossl-settings", done.out
    )


def test_cells_share_the_baseline_and_every_arm_that_the_settings_do_not_change(lab, varied):
    """One baseline, one naive student, and a student of class_balanced for each combination."""
    assert stages(lab, "train") == 1 + 1 + 4
    assert stages(lab, "predict") == 0  # the baseline's maps are removed when all have selected
    assert stages(lab, "select") == 1 + 4


def test_what_cells_share_is_in_the_time_of_the_first(lab):
    grid = ("--strategies", "naive,class_balanced", "--seeds", "1")
    listed = sweep(
        lab, *grid, "--vary", "particle_threshold=0.5,0.6,0.7", "--name", "l", "--dry-run"
    )
    times = re.findall(r"particle_threshold=[\d.]+: about (\d+) s\n", listed.out)
    first, second, third = map(int, times)
    assert second == third < 0.6 * first


def test_each_cell_has_the_numbers_of_a_separate_run(lab, varied):
    quota, background = "1", "0.7"
    options = ("--max-pseudo-per-labelled", quota, "--background-threshold", background)
    done = lab.run("--strategies", "class_balanced", "--name", "apart", *options)
    assert done.code == 0, done.err
    assert lab.numbers(of="apart") == lab.numbers(
        of=f"{NAME}/ratio_30_seed_0_{variant(quota, background)}"
    )


def test_result_files_of_each_variant_are_gathered_in_a_folder_of_their_own(lab, varied):
    file = "balanced_pseudolabel_ratio_30.json"
    for background in ("0.5", "0.7"):
        name = variant("1", background)
        gathered = json.loads((lab.results / NAME / name / file).read_text())
        cell = lab.results / NAME / f"ratio_30_seed_0_{name}"
        assert gathered == json.loads((cell / file).read_text())


def test_a_finished_sweep_runs_nothing_again_and_one_more_value_runs_alone(lab, varied):
    done = sweep(lab, *GRID)
    assert done.code == 0, done.err
    assert "5 cells, 5 of them finished" in done.out
    grid = (*GRID[:-1], "class_balanced.background_threshold=0.7,0.9")
    more = sweep(lab, *grid, "--dry-run")
    assert more.code == 0, more.err
    assert "5 cells of naive, class_balanced: 3 finished, 2 to run" in more.out


def test_settings_of_the_data_vary_too(new_lab):
    lab = new_lab()
    done = sweep(
        lab,
        *("--strategies", "naive", "--seeds", "1", "--max-iterations", "0"),
        *("--vary", "particle_radius_fraction=0.5,1", "--vary", "label_unit=micrograph,tile"),
        *("--tile-px", "32"),
    )
    assert done.code == 0, done.err
    assert "4 of 4 cells have finished" in done.out
    assert len(list(lab.work.glob("stores/*/"))) == 2
    assert stages(lab, "train") == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--vary", "naive_threshold=0.6,0.60"], "has 0.6 twice"),
        (["--vary", "encoder=resnet18,resnet99"], "resnet99"),
        (["--vary", "particle_threshold=0.1,0.6"], "overlap"),
        (["--vary", "label_unit=micrograph,tiles"], "label_unit"),
        (["--vary", "ratio=5,10"], "--ratios"),
    ],
)
def test_what_cannot_vary_is_one_line_before_anything_runs(new_lab, options, said):
    lab = new_lab()
    done = sweep(lab, "--seeds", "1", *options)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err
    assert not list(lab.results.glob("*/ratio_*"))
