from __future__ import annotations

import pytest
import yaml

from cryossl.config_file import build, load
from cryossl.errors import ConfigError
from cryossl.sweep.grid import Cell, cells, exit_code, fraction_done, threads_each

CODE = {"train": "one", "store": "two"}


def key(
    cell: Cell,
    *,
    data: str = "d",
    split: str = "s",
    code: dict | None = None,
    tracked_in: tuple[str, str] = ("sqlite:///m.db", "e"),
) -> str:
    return cell.key(data=data, split=split, code=code or CODE, tracked_in=tracked_in)


def test_the_cells_are_every_ratio_at_the_first_seed_then_at_the_next():
    found = cells(build({"seed": 3, "batch_size": 7}), ratios="5, 10", seeds=2)
    assert [(cell.config.split.ratio, cell.config.split.seed) for cell in found] == [
        (5, 3),
        (10, 3),
        (5, 4),
        (10, 4),
    ]
    assert {cell.config.training.batch_size for cell in found} == {7}
    assert found[0].title == "5% seed 3"


def test_without_ratios_the_ratio_of_the_settings_is_the_only_one():
    assert [
        cell.config.split.ratio for cell in cells(build({"ratio": 12.5}), ratios=None, seeds=2)
    ] == [12.5, 12.5]


@pytest.mark.parametrize(
    ("values", "ratios", "seeds", "message"),
    [
        ({}, "5,abc", 1, "ratio"),
        ({}, "5,0", 1, "ratio"),
        ({}, "", 1, "ratio"),
        ({}, "5,5.0", 1, "names a ratio twice"),
        ({"seed": 2**31 - 2}, "5", 3, "seed"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(values, ratios, seeds, message):
    with pytest.raises(ConfigError, match=message):
        cells(build(values), ratios=ratios, seeds=seeds)


def test_a_cell_lies_below_its_sweep_and_has_what_is_chosen_for_all():
    config = build({"name": "mine", "results": "r", "work": "w"})
    placed = (
        cells(config, ratios="5,12.5", seeds=2)[3].within(config, device="cpu", threads=2).config
    )
    assert (placed.run.results.as_posix(), placed.run.name) == ("r/mine", "ratio_12.5_seed_1")
    assert (placed.training.device, placed.training.threads) == ("cpu", 2)
    assert placed.run.work == config.run.work
    assert (
        build(
            {
                name: value
                for section in placed.model_dump(mode="json").values()
                for name, value in section.items()
            }
        )
        == placed
    )  # the new name is one that a run accepts


def test_a_cell_s_settings_file_finds_the_labelled_list_from_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = build({"labelled": "mine.txt"})
    (cell,) = cells(config, ratios=None, seeds=1)
    file = tmp_path / "cell" / "settings.yaml"
    file.parent.mkdir()
    file.write_text(
        yaml.safe_dump(cell.within(config, device="cpu", threads=1).config.model_dump(mode="json"))
    )
    assert load(file, {}, yielding={})[0].split.labelled == tmp_path / "mine.txt"


@pytest.mark.parametrize(
    "values",
    [
        {"name": "other"},
        {"results": "elsewhere"},
        {"work": "elsewhere"},
        {"experiment": "e"},
        {"checkpoint_seconds": 1},
        {"data": "/moved"},
        {"tracking_uri": "sqlite:///x.db"},
        {"strategies": "class_balanced,naive"},
    ],
)
def test_what_moves_no_number_is_not_in_the_key(values):
    (usual,), (other,) = (
        cells(build({}), ratios=None, seeds=1),
        cells(build(values), ratios=None, seeds=1),
    )
    assert key(usual) == key(other)


@pytest.mark.parametrize(
    "values",
    [
        {"ratio": 6},
        {"seed": 1},
        {"strategies": "naive"},
        {"threads": 2},
        {"device": "cpu"},
        {"learning_rate": 0.1},
        {"max_iterations": 1},
        {"audit": True},
        {"image_px": 64},
        {"decoder_width": 16},
        {"model": "best"},
    ],
)
def test_what_can_move_a_number_is_in_the_key(values):
    (usual,), (other,) = (
        cells(build({}), ratios=None, seeds=1),
        cells(build(values), ratios=None, seeds=1),
    )
    assert key(usual) != key(other)


def test_the_data_the_split_the_method_and_the_tracking_store_are_in_the_key():
    (cell,) = cells(build({}), ratios=None, seeds=1)
    others = [
        key(cell, data="e"),
        key(cell, split="t"),
        key(cell, code={"train": "other"}),
        key(cell, tracked_in=("sqlite:///n.db", "e")),
        key(cell, tracked_in=("sqlite:///m.db", "f")),
    ]
    assert len({key(cell), *others}) == 6


@pytest.mark.parametrize(
    ("cores", "jobs", "threads"), [(8, 1, 8), (8, 2, 4), (8, 3, 2), (2, 4, 1), (1, 1, 1)]
)
def test_cells_share_the_cores(cores, jobs, threads):
    assert threads_each(cores=cores, jobs=jobs) == threads


@pytest.mark.parametrize(
    ("codes", "code"), [([], 0), ([0, 0], 0), ([2, 6, 0], 6), ([-9], 137), ([6, -15], 143)]
)
def test_the_exit_code_is_the_highest(codes, code):
    assert exit_code(codes) == code


@pytest.mark.parametrize(
    ("elapsed", "left", "fraction"),
    [(10, 30, 0.25), (10, None, 0), (0, 0, 0), (5, 0, 1), (-1, 4, 0)],
)
def test_a_cell_is_as_far_as_its_time_says(elapsed, left, fraction):
    assert fraction_done(elapsed_seconds=elapsed, seconds_left=left) == fraction
