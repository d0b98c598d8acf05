"""Micrographs -> candidates, with a few pictures in memory at a time.

Pictures are read, reduced and normalised on other threads while the network works on those before;
maxima are sought there too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cryossl.data.images import read_picture
from cryossl.data.store.file_hashes import FileState, file_state
from cryossl.errors import ChangedDataError, DataError
from cryossl.network.picking_model import Description, Scale, mask_of, picks_of, seen
from cryossl.picking.importing.readings import FEWEST, Contrast, Fit
from cryossl.picking.results import Result, Results
from cryossl.progress.events import OnProgress, Progress
from cryossl.system.files import file_sha256

AHEAD = 4
"""Micrographs that the network gets together, and as many that are decoded meanwhile."""

Picture = UInt8[np.ndarray, "rows columns"]


Predict = Callable[[Mapping[str, Picture]], Iterator[tuple[str, Picture]]]
"""Names and pictures as the network sees them -> their names and p8 maps."""


@dataclass(frozen=True, eq=False)
class _Decoded:
    """A micrograph as the network sees it; `result` in place of the picture if it is known."""

    path: Path
    state: FileState
    sha256: str
    height_px: int
    width_px: int
    scale: Scale
    picture: Picture


_Chunk = list[tuple[Path, "Future[_Decoded | None]"]]


class Stream:
    """Finds the candidates of micrographs that have no result of their present content.

    Memory does not grow with the number of micrographs. A result that is there is not made again,
    so a killed call loses a few micrographs at most, and the next one ends with the same results.
    """

    def __init__(
        self,
        results: Results,
        predict: Predict,
        description: Description,
        *,
        scale_of: Callable[[Path, int, int], Scale],
        max_megapixels: float,
        masks: bool = False,
    ) -> None:
        """Connect results and network.

        Args:
            results: where results are kept.
            predict: the network.
            description: of the model.
            scale_of: (path, height, width in px) -> scale; may raise DataError.
            max_megapixels: largest picture that is opened, in millions of pixels.
            masks: keep the mask of each micrograph too.
        """
        self._masks = masks
        self._results, self._predict, self._description = results, predict, description
        self._scale_of, self._max_megapixels = scale_of, max_megapixels

    def pick(self, paths: Sequence[Path], *, report: OnProgress) -> dict[Path, str]:
        """Make the results of the micrographs; reports "pick" in micrographs.

        Returns micrograph -> why it has no result, for those that cannot be used. Raises OSError if
        a result cannot be written.
        """
        faults: dict[Path, str] = {}
        done = 0
        finishing: deque[Future[None]] = deque()
        with ThreadPoolExecutor(2) as pool:
            for chunk in _ahead(pool, self._decode, paths):
                ready = _decoded(chunk, faults)
                done += len(chunk) - len(ready)
                report(Progress("pick", done, len(paths), "micrograph"))
                for name, p8 in self._predict({name: one.picture for name, one in ready.items()}):
                    finishing.append(pool.submit(self._finish, ready[name], p8))
                    # Not all of them: the network would stand still until the last one is written.
                    while len(finishing) > AHEAD:
                        finishing.popleft().result()
                    done += 1
                    report(Progress("pick", done, len(paths), "micrograph"))
            for future in finishing:
                future.result()
        return faults

    def _decode(self, path: Path) -> _Decoded | None:
        """The micrograph as the network sees it, or None if it has a result already."""
        state = file_state(path)
        known = self._results.read(path)
        if known is not None and self._lacks_mask(path, known):
            known = None
        if known is not None and known.state == state:
            return None
        content = _sha256(path)
        if known is not None and known.sha256 == content:
            self._results.write(replace(known, state=state))
            return None
        picture = read_picture(path, max_megapixels=self._max_megapixels)
        if file_state(path) != state:
            raise ChangedDataError(f"{path} changed while it was read", cure="pick again")
        height, width = picture.shape
        scale = self._scale_of(path, height, width)
        return _Decoded(path, state, content, height, width, scale, seen(picture, scale))

    def _lacks_mask(self, path: Path, known: Result) -> bool:
        return self._masks and self._results.mask(path, sha256=known.sha256) is None

    def _finish(self, one: _Decoded, p8: Picture) -> None:
        picks = picks_of(p8, self._description, one.scale)
        clear = picks.centres[picks.scores >= self._description.pick_threshold16] * one.scale.scale
        contrast = Fit()
        fits = 2 <= one.scale.diameter_px <= min(one.picture.shape) / 4
        if fits and len(clear) >= FEWEST:
            picture = one.picture.astype(np.float32)
            contrast.add(Contrast(picture, one.scale.diameter_px).at(clear.astype(np.float64)))
        if self._masks:
            png = mask_of(p8, self._description, height_px=one.height_px, width_px=one.width_px)
            self._results.write_mask(one.path, png, sha256=one.sha256)
        self._results.write(
            Result(
                one.path,
                one.height_px,
                one.width_px,
                one.state,
                one.sha256,
                picks,
                diameter_px=one.scale.diameter_px / one.scale.scale,
                contrast=contrast.errors if contrast.count >= FEWEST else None,
            )
        )


def _decoded(chunk: _Chunk, faults: dict[Path, str]) -> dict[str, _Decoded]:
    """Name -> the micrographs of a chunk that need the network; faults are added to `faults`."""
    ready = {}
    for path, future in chunk:
        try:
            decoded = future.result()
        except DataError as error:
            faults[path] = str(error)
        else:
            if decoded is not None:
                ready[str(path)] = decoded
    return ready


def _ahead(
    pool: Executor, decode: Callable[[Path], _Decoded | None], paths: Sequence[Path]
) -> Iterator[_Chunk]:
    """The micrographs in chunks; the chunk after the one that is given is being decoded."""
    following: _Chunk = []
    for start in range(0, len(paths) + AHEAD, AHEAD):
        chunk, following = (
            following,
            [(path, pool.submit(decode, path)) for path in paths[start : start + AHEAD]],
        )
        if chunk:
            yield chunk


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}", cure="check the path and its permissions"
        ) from None
