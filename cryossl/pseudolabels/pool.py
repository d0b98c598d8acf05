"""The unlabelled pool: the teacher's probabilities on disk, and the pseudo-labels.

`Pool.predict` writes the probabilities, `Pool.select` applies a selection to them and writes the
pseudo-labels with a record of all assessments, and `Pool.selected` reads both back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cryossl.data.labels import IGNORE, LabelMap
from cryossl.data.store.store import Store
from cryossl.data.tiling import micrograph_of
from cryossl.evaluation.metrics import Counts, audit
from cryossl.progress.events import OnProgress, Progress
from cryossl.pseudolabels.pixel_rules import (
    Cutoffs,
    ProbabilityCounts,
    SoftTargets,
    agreement,
    prior_cutoff,
    probability_counts,
    soft_codes,
    soft_weights,
    to_labels,
)
from cryossl.pseudolabels.priors import Priors
from cryossl.pseudolabels.selection import Assessment, Selection, assess, label_map, select
from cryossl.pseudolabels.summary import SelectionSummary, summarise
from cryossl.system.files import write_durably
from cryossl.system.stages import Stage

CHUNK_MICROGRAPHS = 32
PSEUDO_LABELS = "pseudo.u8"

Predictor = Callable[[Sequence[str]], Iterator[tuple[str, UInt8[np.ndarray, "height width"]]]]
Region = tuple[int, int, int, int]


@dataclass(frozen=True)
class Selected:
    """The pseudo-labels of a selection, with the assessment of every item of the pool.

    Attributes:
        stage: the stage that wrote them.
        ids: of the selected items, best first.
        assessments: item -> assessment, of the whole pool.
        summary: the numbers of the selection.
        maps: micrograph -> its map, memory-mapped: labels, or soft targets if `soft` has weights.
            A pixel that belongs to no selected item is IGNORE.
        soft: source -> the weights of soft targets; empty if the maps are labels.
        prior_cutoffs: source -> the p8 at which the teacher's particle ratio equals the prior,
            clipped to p in [0.3, 0.7].
    """

    stage: Stage
    ids: tuple[str, ...]
    assessments: Mapping[str, Assessment]
    summary: SelectionSummary
    maps: Mapping[str, LabelMap]
    soft: Mapping[str, SoftTargets]
    prior_cutoffs: Mapping[str, int]

    def __len__(self) -> int:
        """The number of selected items."""
        return len(self.ids)

    def labels(self, micrograph: str) -> LabelMap:
        """The map of a micrograph as labels; a soft target becomes its more probable class."""
        return to_labels(self.maps[micrograph]) if self.soft else self.maps[micrograph]


class Pool:
    """The unlabelled items of a split.

    Only `audit` reads hidden labels.
    """

    def __init__(self, store: Store, items: Sequence[str]) -> None:
        self._store = store
        self.items = tuple(items)
        self.micrographs = tuple(sorted({micrograph_of(item) for item in items}))

    def predict(self, folder: Path, predictor: Predictor, *, report: OnProgress) -> None:
        """Write the p8 maps of the pool's micrographs into `folder`, one file for each chunk.

        Chunks that an interrupted call has written are kept, so at most one chunk of work is lost.
        """
        chunks = self._chunks()
        for number, chunk in enumerate(chunks):
            path = folder / _chunk_name(number)
            if not path.exists():
                maps = [probabilities.ravel() for _, probabilities in predictor(chunk)]
                write_durably(path, np.concatenate(maps).tobytes())
            report(Progress("predict", number + 1, len(chunks), "chunk"))

    def select(
        self,
        predicted: Path,
        folder: Path,
        selection: Selection,
        *,
        priors: Priors,
        report: OnProgress,
        earlier: Sequence[Path] = (),
    ) -> None:
        """Assess every item, choose items, and write their maps with a record of all assessments.

        Args:
            predicted: folder of the teacher's p8 maps.
            folder: where to write.
            selection: the rules.
            priors: particle ratios of the labelled part.
            report: called with "assess" in items.
            earlier: folders of the p8 maps of the teacher's earlier weights, from which the
                agreement of each item is computed.
        """
        counts = {}
        for done, (item, probabilities) in enumerate(
            self._probabilities(predicted, self.items), start=1
        ):
            counts[item] = probability_counts(probabilities)
            report(Progress("assess", done, len(self.items), "item"))
        totals = self._by_source(counts)
        cutoffs = {
            source: selection.cutoffs(total, priors.of(source)) for source, total in totals.items()
        }
        alike = {
            source: prior_cutoff(total, prior=priors.of(source)) for source, total in totals.items()
        }
        agreements = self._agreements([*earlier, predicted], alike) if earlier else {}
        assessments = {
            item: assess(
                each,
                selection,
                cutoffs=cutoffs[self.source(item)],
                target_ratio=priors.target(self.source(item), scope=selection.scope),
                agreement=agreements.get(item),
            )
            for item, each in counts.items()
        }
        sources = {item: self.source(item) for item in self.items}
        chosen = select(
            assessments,
            selection,
            labelled_count=priors.labelled_count,
            sources=sources,
            labelled_by_source=priors.labelled,
        )
        ignored = self._write_maps(
            predicted, folder / PSEUDO_LABELS, frozenset(chosen), selection, cutoffs
        )
        # Counted on the maps, because a histogram does not show what depends on neighbours.
        assessments |= {
            item: replace(
                assessments[item],
                ignored_pixels=pixels,
                ignored_fraction=pixels / assessments[item].pixels,
            )
            for item, pixels in ignored.items()
        }
        summary = summarise(
            assessments,
            chosen,
            selection,
            labelled_count=priors.labelled_count,
            target_ratio=priors.ratio,
            sources=sources,
        )
        weights = (
            {source: soft_weights(total).tolist() for source, total in totals.items()}
            if selection.soft
            else {}
        )
        record = {
            "chosen": list(chosen),
            "summary": asdict(summary),
            "soft_weights": weights,
            "prior_cutoffs": alike,
            "assessments": {item: asdict(one) for item, one in assessments.items()},
        }
        write_durably(folder / "selection.json", json.dumps(record).encode())

    def selected(self, stage: Stage) -> Selected:
        """The pseudo-labels of a finished selection."""
        record = json.loads((stage.folder / "selection.json").read_text())
        chosen = tuple(record["chosen"])
        flat = (
            np.memmap(stage.folder / PSEUDO_LABELS, np.uint8, mode="r")
            if chosen
            else np.empty(0, np.uint8)
        )
        maps: dict[str, LabelMap] = {}
        start = 0
        for micrograph in sorted({micrograph_of(item) for item in chosen}):
            stored = self._store.micrographs[micrograph]
            end = start + stored.height_px * stored.width_px
            maps[micrograph] = np.asarray(flat[start:end]).reshape(
                stored.height_px, stored.width_px
            )
            start = end
        soft = {
            source: SoftTargets(np.array(weights, np.float32))
            for source, weights in record["soft_weights"].items()
        }
        return Selected(
            stage,
            chosen,
            {item: Assessment(**one) for item, one in record["assessments"].items()},
            SelectionSummary(**record["summary"]),
            maps,
            soft,
            record["prior_cutoffs"],
        )

    def audit(self, selected: Selected) -> Counts:
        """Counts of the pseudo-labels against the hidden truth, for reports only.

        Micrographs without annotations are left out.
        """
        return sum(
            (
                audit(selected.labels(micrograph), self._store.truth(micrograph, border=True))
                for micrograph in selected.maps
                if self._store.micrographs[micrograph].annotated
            ),
            start=Counts(0, 0, 0),
        )

    def source(self, item: str) -> str:
        """The source of an item."""
        return self._store.micrographs[micrograph_of(item)].source

    def cut(
        self, item: str, whole: UInt8[np.ndarray, "height width"]
    ) -> UInt8[np.ndarray, "own_height own_width"]:
        """The part of a micrograph's map that belongs to an item, as a view."""
        y0, y1, x0, x1 = self._region(item)
        return whole[y0:y1, x0:x1]

    def _by_source(self, counts: Mapping[str, ProbabilityCounts]) -> dict[str, ProbabilityCounts]:
        """The sum of the histograms of each source's items."""
        totals: dict[str, ProbabilityCounts] = {}
        for item, each in counts.items():
            source = self.source(item)
            totals[source] = totals.get(source, np.zeros(256, np.int64)) + each
        return totals

    def _agreements(self, folders: Sequence[Path], cutoffs: Mapping[str, int]) -> dict[str, float]:
        """The agreement of the teacher's earlier maps of each item with the last one."""
        streams = zip(*(self._probabilities(folder, self.items) for folder in folders), strict=True)
        return {
            views[0][0]: agreement(
                [probabilities for _, probabilities in views],
                cutoff=cutoffs[self.source(views[0][0])],
            )
            for views in streams
        }

    def _write_maps(
        self,
        predicted: Path,
        path: Path,
        chosen: frozenset[str],
        selection: Selection,
        cutoffs: Mapping[str, Cutoffs],
    ) -> dict[str, int]:
        """Write the maps of the chosen items' micrographs, in order of id.

        Returns the number of IGNORE pixels of each chosen item.
        """
        ignored = {}
        items = sorted(chosen, key=lambda item: (micrograph_of(item), item))
        with path.open("wb") as stream:
            for micrograph, members in groupby(
                self._probabilities(predicted, items), key=lambda pair: micrograph_of(pair[0])
            ):
                stored = self._store.micrographs[micrograph]
                whole = np.full((stored.height_px, stored.width_px), IGNORE, dtype=np.uint8)
                for item, probabilities in members:
                    own = (
                        soft_codes(probabilities)
                        if selection.soft
                        else label_map(probabilities, selection, cutoffs[self.source(item)])
                    )
                    self.cut(item, whole)[...] = own
                    ignored[item] = int(np.count_nonzero(own == IGNORE))
                stream.write(whole.tobytes())
        return ignored

    def _region(self, item: str) -> Region:
        """The pixels of its micrograph that belong to an item: y0, y1, x0, x1."""
        stored = self._store.micrographs[micrograph_of(item)]
        if item == stored.id:
            return 0, stored.height_px, 0, stored.width_px
        return self._store.tiles(item)[0].own

    def _chunks(self) -> list[tuple[str, ...]]:
        return [
            self.micrographs[start : start + CHUNK_MICROGRAPHS]
            for start in range(0, len(self.micrographs), CHUNK_MICROGRAPHS)
        ]

    def _probabilities(
        self, folder: Path, items: Sequence[str]
    ) -> Iterator[tuple[str, UInt8[np.ndarray, "height width"]]]:
        """The p8 map of each item, by micrograph; one chunk is memory-mapped at a time."""
        wanted: dict[str, list[str]] = {}
        for item in items:
            wanted.setdefault(micrograph_of(item), []).append(item)
        for number, chunk in enumerate(self._chunks()):
            if not any(micrograph in wanted for micrograph in chunk):
                continue
            flat = np.memmap(folder / _chunk_name(number), np.uint8, mode="r")
            offset = 0
            for micrograph in chunk:
                stored = self._store.micrographs[micrograph]
                size = stored.height_px * stored.width_px
                whole = np.asarray(flat[offset : offset + size]).reshape(
                    stored.height_px, stored.width_px
                )
                offset += size
                for item in wanted.get(micrograph, ()):
                    yield item, self.cut(item, whole)


def _chunk_name(number: int) -> str:
    return f"probabilities-{number:05d}.u8"
