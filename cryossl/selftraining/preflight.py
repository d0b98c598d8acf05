"""Refuse a run that could not end, before anything is computed."""

from __future__ import annotations

from cryossl.config import Config
from cryossl.data.coco.dataset import DataSet
from cryossl.data.splits import Split
from cryossl.data.store.plan import StorePlan
from cryossl.data.tiling import micrograph_of
from cryossl.errors import StorageError, TrackingError
from cryossl.machine.doctor import preflight
from cryossl.selftraining.estimates import bytes_to_write
from cryossl.selftraining.prepare import has_store
from cryossl.selftraining.records.result_files import is_finished
from cryossl.selftraining.stage_code import StageCode
from cryossl.system.stages import Stages


def require_fit_machine(
    config: Config, dataset: DataSet, store_plan: StorePlan, split: Split, *, code: StageCode
) -> None:
    """Raise TrackingError or StorageError where a check of `machine.doctor` fails.

    These are: folders that can be written, a tracking store that can be opened, room on the disk.
    """
    needed_bytes = still_to_write(config, dataset, store_plan, split, code=code)
    for check in preflight(
        tracking_uri=config.run.tracking_uri, work=config.run.work, needed_bytes=needed_bytes
    ):
        if check.state == "fail":
            fault = TrackingError if check.name == "tracking" else StorageError
            raise fault(f"{check.name}: {check.what}", cure=check.cure)


def still_to_write(
    config: Config, dataset: DataSet, store_plan: StorePlan, split: Split, *, code: StageCode
) -> int:
    """Bytes that this start writes at most, without what an earlier start has written already."""
    there = has_store(dataset, config, code)
    finished = finished_strategies(config, dataset, split, code=code)
    at_most = bytes_to_write(config, store_plan, split, store_is_there=there, finished=finished)
    stages = Stages(config.run.stages, code=code.present, kept=code.kept)
    items = list(split.unlabelled)
    pool = sorted({micrograph_of(item) for item in items})
    left = stages.size_bytes(
        "predict", lambda inputs: inputs.get("pool") == pool
    ) + stages.size_bytes("select", lambda inputs: inputs.get("items") == items)
    return max(0, at_most - left)


def finished_strategies(
    config: Config, dataset: DataSet, split: Split, *, code: StageCode
) -> list[str]:
    """The strategies that an earlier start with the same data, settings and code has finished."""
    if not has_store(dataset, config, code):
        return []
    return [
        name
        for name in config.selection.strategies
        if is_finished(
            config.run.folder,
            strategy=name,
            ratio_percent=config.split.ratio,
            seed=config.split.seed,
            split_sha256=split.digest(),
            settings=config.flat(),
            code=code.name,
        )
    ]
