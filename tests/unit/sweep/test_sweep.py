"""A sweep counts a cell as finished only if it ran with the data and the code that were planned."""

from __future__ import annotations

import pytest

from cryossl.config_file import build
from cryossl.errors import ChangedDataError
from cryossl.selftraining.records.result_files import made_from, write_outcome
from cryossl.sweep.grid import Cell
from cryossl.sweep.scheduler import PlannedCell
from cryossl.sweep.state import SweepState
from cryossl.sweep.sweep import _record_finished

CODE = {"train": "a", "result": "b"}


@pytest.mark.parametrize(
    ("data", "code", "counts"),
    [
        ("d", CODE, True),
        ("other", CODE, False),
        ("d", {**CODE, "train": "c"}, False),
    ],
    ids=["as planned", "other data", "other code"],
)
def test_a_cell_counts_only_with_the_planned_data_and_code(tmp_path, data, code, counts):
    config = build({"results": str(tmp_path)})
    cell = Cell(config).within(config, device="cpu", threads=1)
    planned = PlannedCell(cell, "key", made_from(data="d", code=CODE), 1.0)
    planned.folder.mkdir(parents=True)
    write_outcome(planned.folder, fingerprint="f", made_from=made_from(data=data, code=code))
    state = SweepState(tmp_path / "sweep.json")
    if counts:
        _record_finished(state, tmp_path, planned, 1.0)
    else:
        with pytest.raises(ChangedDataError, match="changed after the sweep had begun"):
            _record_finished(state, tmp_path, planned, 1.0)
    assert state.fingerprint("key") == ("f" if counts else None)
