"""Micrographs -> their candidates, with one model: what each process of `pick` does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from cryossl.data.images import read_size
from cryossl.errors import DataError, StorageError
from cryossl.network import device as devices
from cryossl.network.picking_model import PickingModel, Scale, probabilities
from cryossl.picking.micrographs import Named
from cryossl.picking.results import Results
from cryossl.picking.stream import Stream
from cryossl.progress.events import OnProgress
from cryossl.system.digest import digest

KEPT = ".results"
"""Folder of the results, below that of the picks."""


@dataclass(frozen=True)
class Scaling:
    """What the user says of the micrographs' scale; see `PickingModel.scale_of`."""

    source: str | None = None
    diameter_angstrom: float | None = None
    diameter_px: float | None = None
    pixel_size: float | None = None

    def of(self, model: PickingModel, micrograph: Named, *, height_px: int, width_px: int) -> Scale:
        """The scale of a micrograph of this size. Raises DataError if it is not known."""
        diameter_px = self.diameter_px
        if self.diameter_angstrom is not None:
            pixel_size = self.pixel_size or micrograph.pixel_size_angstrom
            if pixel_size is None:
                raise DataError(
                    f"{micrograph.path}: its pixel size is not known",
                    cure="give --pixel-size in angstrom, or a micrographs STAR",
                )
            diameter_px = self.diameter_angstrom / pixel_size
        return model.scale_of(
            height_px=height_px,
            width_px=width_px,
            name=micrograph.path.name,
            source=self.source,
            diameter_px=diameter_px,
        )

    def require_known(
        self, model: PickingModel, named: Sequence[Named], *, max_megapixels: float
    ) -> None:
        """Raise DataError now if the first micrograph that can be read has no scale."""
        for one in named:
            try:
                height_px, width_px = read_size(one.path, max_megapixels=max_megapixels)
            except DataError:
                continue
            self.of(model, one, height_px=height_px, width_px=width_px)
            return


@dataclass(frozen=True)
class Machine:
    """How the network runs: the values of the settings of these names."""

    device: str
    precision: str
    threads: int
    batch_size: int
    max_megapixels: float


@dataclass(frozen=True)
class Found:
    """The key of the results, and micrograph -> why it has none, for those that cannot be used."""

    key: str
    faults: Mapping[Path, str]


class Finder:
    """Finds candidates and keeps them as results below a folder."""

    def __init__(
        self, model: PickingModel, scaling: Scaling, machine: Machine, folder: Path, *, masks: bool
    ) -> None:
        """Resolve the device.

        Args:
            model: that picks.
            scaling: of the micrographs.
            machine: settings of the network.
            folder: of the picks.
            masks: whether the masks of particle pixels are kept too.

        Raises:
            ConfigError: the device or the number format is not there.
        """
        self._model, self._scaling, self._machine = model, scaling, machine
        self._masks = masks
        self._device = devices.resolve(machine.device)
        self._precision = devices.resolve_precision(machine.precision, self._device)
        self.key = _key(model, scaling, device=self._device.type)
        self._folder = folder
        self.results = Results(folder / KEPT, key=self.key)

    def find(self, named: Sequence[Named], *, report: OnProgress) -> Found:
        """Make the results that are missing; reports "pick" in micrographs.

        Raises StorageError if a result cannot be written.
        """
        devices.prepare(device=self._device, threads=self._machine.threads or 1)
        by_path = {one.path: one for one in named}

        def scale_of(path: Path, height_px: int, width_px: int) -> Scale:
            return self._scaling.of(
                self._model, by_path[path], height_px=height_px, width_px=width_px
            )

        stream = Stream(
            self.results,
            partial(
                probabilities,
                self._model.network().to(self._device),
                tile_px=self._model.description.tile_px,
                batch_size=self._machine.batch_size,
                device=self._device,
                precision=self._precision,
            ),
            self._model.description,
            scale_of=scale_of,
            max_megapixels=self._machine.max_megapixels,
            masks=self._masks,
        )
        try:
            return Found(self.key, stream.pick(list(by_path), report=report))
        except OSError as error:
            raise StorageError(
                f"cannot write below {self._folder}: {error.strerror}",
                cure="free space, or choose another folder with --to",
            ) from None


def _key(model: PickingModel, scaling: Scaling, *, device: str) -> str:
    """Names all that decides candidates, besides the content of the micrographs."""
    weights = hashlib.sha256(model.to_bytes()).hexdigest()
    return digest({"model": weights, "device": device, **asdict(scaling)})[:20]
