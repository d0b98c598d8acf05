"""The cells of a sweep: the settings, the name and the key of each. All functions are pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from cryossl.config import Config
from cryossl.config_file import build
from cryossl.errors import ConfigError
from cryossl.sweep.variations import Variant, refuse_too_many
from cryossl.system.digest import digest

RATIOS = "5,10"  # what MLproject fills in where no ratios are named
_SIGNALLED = 128  # a shell's exit code for a process that a signal ended is this plus the signal


@dataclass(frozen=True)
class Axes:
    """What a grid runs over.

    Attributes:
        ratios: labelled parts in percent, separated by commas; None: the config's.
        seeds: how many in a row, from the config's on.
        vary: settings with the values that they take, as SETTING=VALUES; all combinations run.
    """

    ratios: str | None
    seeds: int
    vary: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One `cryossl run` of a sweep: its config, and the variant of the settings that it is of."""

    config: Config
    variant: Variant | None = None

    @property
    def title(self) -> str:
        """The name of the cell in messages, e.g. `5% seed 0, particle_threshold=0.5`."""
        varied = f", {self.variant.title}" if self.variant and self.variant.values else ""
        return f"{self.config.split.ratio:g}% seed {self.config.split.seed}{varied}"

    @property
    def variant_folder(self) -> str:
        """The folder, below that of the sweep, of the results of all its ratios and seeds."""
        return self.variant.folder if self.variant else ""

    def with_config(self, config: Config) -> Cell:
        """The cell with another config."""
        return Cell(config, self.variant)

    def within(self, sweep: Config, *, device: str, threads: int) -> Cell:
        """The cell with its results folder below the sweep's, and with this device and threads.

        Variants share the baseline's probability maps, which therefore stay. The path of a labelled
        list becomes absolute, because the file with the cell's settings lies in another folder.
        """
        split = self.config.split
        if split.labelled is not None:
            split = split.model_copy(update={"labelled": split.labelled.absolute()})
        name = f"ratio_{split.ratio:g}_seed_{split.seed}"
        run = sweep.run.model_copy(
            update={
                "results": sweep.run.folder,
                "name": f"{name}_{self.variant_folder}" if self.variant_folder else name,
                "keep_maps": sweep.run.keep_maps or bool(self.variant_folder),
            }
        )
        training = self.config.training.model_copy(update={"device": device, "threads": threads})
        return self.with_config(
            self.config.model_copy(update={"run": run, "split": split, "training": training})
        )

    def key(
        self, *, data: str, split: str, code: Mapping[str, str], tracked_in: Sequence[str]
    ) -> str:
        """Digest of what decides the cell's numbers, and of where they are tracked.

        A cell whose key is that of a finished cell is not run again.

        Args:
            data: digest of the data set as the network sees it. The data set's path is not in it.
            split: digest of which items are labelled. The path of a labelled list is not in it.
            code: kind of stage -> digest of the code and libraries that compute it.
            tracked_in: tracking store and experiment. Another store does not have the cell yet.
        """
        settings = self.config.values_deciding("training", "result", "cell", "machine", "record")
        # The order of strategies moves no number.
        settings["selection.strategies"] = sorted(self.config.selection.strategies)
        return digest(
            {
                "settings": settings,
                "data": data,
                "split": split,
                "code": dict(code),
                "tracked_in": list(tracked_in),
            }
        )


def named_ratios(
    config: Config, *, ratio: str | None, ratios: str | None, default_yields: bool
) -> str | None:
    """The labelled parts of a grid as text; None if the config says what is labelled.

    The config says it by its ratio or by a labelled list.

    Args:
        config: of the grid, with `ratio` in it.
        ratio: option --ratio as typed.
        ratios: option --ratios as typed.
        default_yields: whether MLproject's default of --ratios is left out where a ratio or a
            labelled list is given.

    Raises:
        ConfigError: two of --ratio, --ratios and a labelled list.
    """
    labelled = config.split.labelled
    if (
        default_yields
        and ratios == RATIOS
        and (labelled is not None or "ratio" in config.split.model_fields_set)
    ):
        ratios = None
    if ratio is not None and ratios is not None:
        raise ConfigError(
            "--ratio and --ratios both name the labelled part", cure="leave one of them out"
        )
    if labelled is not None and (ratio, ratios) != (None, None):
        raise ConfigError(
            f"the labelled list {labelled} says what is labelled, and so does "
            f"{'--ratios' if ratio is None else '--ratio'}",
            cure="leave one of them out",
        )
    return ratios


def cells(
    config: Config,
    *,
    ratios: str | None,
    seeds: int,
    variants: Sequence[Variant] = (),
) -> list[Cell]:
    """All cells of a grid: the first variant of all seeds and ratios, then the others seed by seed.

    A sweep that is stopped early then has the same seeds at every ratio, and cells that run at the
    same time seldom wait for the baseline of one another.

    Args:
        config: of the sweep; its seed is the first one, and its ratio the only one where `ratios`
            is None.
        ratios: labelled parts in percent, separated by commas.
        seeds: how many in a row.
        variants: of the config; none: it alone.

    Raises:
        ConfigError: a ratio or seed is not a number or out of range, a ratio is named twice, or
            there are too many cells.
    """
    chosen = (
        [config.split.ratio]
        if ratios is None
        else [build({"ratio": text.strip()}).split.ratio for text in ratios.split(",")]
    )
    if len(set(chosen)) != len(chosen):
        raise ConfigError(
            f"ratios {ratios!r} names a ratio twice", cure="give each once, e.g. --ratios 5,10"
        )
    first = config.split.seed
    build({"seed": first + seeds - 1})
    one, *others = variants or [Variant(config)]
    refuse_too_many((1 + len(others)) * seeds * len(chosen))
    places = list(product(range(first, first + seeds), chosen))
    return [
        *(_cell(one, seed, ratio) for seed, ratio in places),
        *(_cell(other, seed, ratio) for seed, ratio in places for other in others),
    ]


def _cell(variant: Variant, seed: int, ratio: float) -> Cell:
    split = variant.config.split.model_copy(update={"ratio": ratio, "seed": seed})
    return Cell(variant.config.model_copy(update={"split": split}), variant)


def threads_each(*, cores: int, jobs: int) -> int:
    """CPU threads of one of `jobs` cells at a time; at least 1."""
    return max(1, cores // jobs)


def exit_code(codes: Iterable[int]) -> int:
    """The exit code of a sweep: the highest of its cells', 0 if all are 0.

    A process that signal n ended counts as 128 + n.
    """
    return max((code if code >= 0 else _SIGNALLED - code for code in codes), default=0)


def fraction_done(*, elapsed_seconds: float, seconds_left: float | None) -> float:
    """Fraction of a cell's work that is done, in [0, 1]; 0 while the time left is unknown."""
    whole = elapsed_seconds + (seconds_left or 0.0)
    return (
        0.0 if seconds_left is None or whole <= 0 else min(1.0, max(0.0, elapsed_seconds / whole))
    )
