"""What a command that has run experiments prints at its end: its table, and what to type next.

Nothing here imports torch.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from analysis.runs.tracked import TrackedRuns
from cryossl.config import Config, fields
from cryossl.errors import (
    ConfigError,
    DataError,
    FailedArmsError,
    NoExperimentError,
    TrackingError,
)
from cryossl.progress.terminal import columns, echo
from cryossl.redaction import redacted
from cryossl.strategy_names import BASELINES

if TYPE_CHECKING:
    import pandas as pd

    from analysis.tables.comparison import Comparison

OTHER_RATIO = {5.0: 10.0, 10.0: 5.0}  # the two that the experiment is about
MOST_DRAWN = 2  # settings that a figure can show


def conclude(
    config: Config, experiment: Callable[[Config], tuple[str, int]], *, quick: bool = False
) -> None:
    """Run an experiment, print its comparison and the next command to type.

    `quick`: it was a demonstration, and the experiment itself is the next command. Where arms
    failed, their error is raised after that. Where entries could not be sent, the store is not
    read: it may be unreachable, and the run has waited for it already.
    """
    try:
        fingerprint, missing = experiment(config)
    except FailedArmsError as fault:
        _conclude(config, fault.experiment, quick=quick)
        raise
    _conclude(config, fingerprint, missing=missing, quick=quick)


def _conclude(config: Config, fingerprint: str, *, missing: int = 0, quick: bool = False) -> None:
    _print_results(config, fingerprint, missing=missing)
    where = config.run.store_options
    if quick:
        echo(
            "\nThis was a demonstration of short trainings. Next: `python cli.py run` is the "
            f"experiment itself, `{command_line('report', where)}` writes this one up"
        )
        return
    other = None if config.split.labelled else OTHER_RATIO.get(config.split.ratio)
    another = f"`{command_at(config, other)}` runs the other labelled part, " if other else ""
    echo(
        f"\nNext: {another}`{command_line('compare', where)}` shows all runs side by side, "
        f"`{command_line('report', where)}` writes them up"
    )


def conclude_baseline(config: Config, experiment: Callable[[Config], tuple[str, int]]) -> None:
    """Train the supervised baseline alone, print its score and the next command to type."""
    loop = config.loop.model_copy(update={"max_iterations": 0})
    fingerprint, missing = experiment(config.model_copy(update={"loop": loop}))
    _print_results(config, fingerprint, missing=missing)
    echo(
        f"\nNext: `{command_at(config, config.split.ratio)}` trains the strategies from this "
        "baseline, which is not trained again"
    )


def _print_results(config: Config, fingerprint: str, *, missing: int) -> None:
    if missing:
        echo(
            f"\nNo table now: first `cryossl sync` for the {missing} missing entries, then "
            "`cryossl compare`"
        )
    else:
        _print_comparison(config, [fingerprint])


def command_at(config: Config, ratio: float) -> str:
    """The command line of the same experiment at another ratio."""
    changed = {
        name: value
        for name, (section, field) in fields().items()
        if name != "ratio" and (value := getattr(getattr(config, section), name)) != field.default
    }
    if not changed:
        return f"make run RATIO={ratio:g}"
    options = {
        f"--{name.replace('_', '-')}": (
            ",".join(value) if isinstance(value, tuple) else redacted(str(value))
        )
        for name, value in changed.items()
    }
    return command_line("run", {"--ratio": f"{ratio:g}", **options})


def conclude_sweep(config: Config, fingerprints: Collection[str], by: Sequence[str]) -> None:
    """Print the comparison of all experiments of a sweep and the next command to type.

    `by`: the settings that varied.
    """
    where = config.run.store_options
    if not by:
        if _print_comparison(config, fingerprints):
            echo(
                f"\nNext: `{command_line('report', where)}` writes all of it up with figures, "
                f"`{command_line('compare', where | {'--ratio': 'R'})}` shows one labelled part"
            )
        return
    if not _print_sensitivity(config, fingerprints, by):
        return
    named = {**where, "--by": tuple(by)}
    drawn = f"`{command_line('report', named)}` draws it, " if len(by) <= MOST_DRAWN else ""
    echo(f"\nNext: {drawn}`{command_line('compare', named)}` prints the table again")
    owners = {place.rpartition(".")[0] for place in by} - {""}
    beside = [name for name in config.selection.strategies if name not in {*owners, *BASELINES}]
    if owners and beside:
        apart = {**where, "--where": f"strategies={','.join(beside)}"}
        echo(f"`{command_line('compare', apart)}` shows what ran in cells without these settings")


def _print_sensitivity(config: Config, fingerprints: Collection[str], by: Sequence[str]) -> bool:
    """Print the table by some settings, or why there is none; return whether there is one."""
    from analysis.runs.families import axes_called
    from analysis.runs.groups import Choice
    from analysis.tables.sensitivity import sensitivity
    from analysis.tables.sensitivity_text import render_sensitivity

    try:
        tracked = TrackedRuns(config.run.tracking_uri, config.run.experiment)
        found = sensitivity(
            _of_experiments(tracked, fingerprints),
            axes_called(by),
            read_counts=tracked.counts,
            choice=Choice(),
        )
        click.echo("\n" + render_sensitivity(found, "table", width=columns()), nl=False)
    except (TrackingError, DataError, NoExperimentError, ConfigError) as error:
        echo(f"\nNo table now: {error}")
        return False
    return True


def _print_comparison(config: Config, fingerprints: Collection[str]) -> bool:
    """Print the comparison of some experiments, or why there is none; return whether there is."""
    from analysis.tables.rendering import render

    known = list(fingerprints)
    tags = {"cryossl.experiment_fingerprint": known[0]} if len(known) == 1 else None
    try:
        tracked = TrackedRuns(config.run.tracking_uri, config.run.experiment, tags=tags)
        found = _compared_among(tracked, known)
        click.echo("\n" + render(found, "table", width=columns()), nl=False)
    except (TrackingError, DataError, NoExperimentError) as error:
        # Journals and result files hold the numbers too.
        echo(f"\nNo table now: {error}")
        return False
    return True


def _of_experiments(tracked: TrackedRuns, fingerprints: Collection[str]) -> pd.DataFrame:
    frame = tracked.frame("iteration", "arm")
    if len(frame):
        frame = frame[frame["cryossl.experiment_fingerprint"].isin(list(fingerprints))]
    return frame


def _compared_among(tracked: TrackedRuns, fingerprints: Collection[str]) -> Comparison:
    """The comparison of these experiments; counts are read only where there are several."""
    from analysis.runs.counts import no_counts
    from analysis.tables.comparison import compare as compared

    frame = _of_experiments(tracked, fingerprints)
    return compared(frame, read_counts=tracked.counts if len(fingerprints) > 1 else no_counts)


def command_line(name: str, options: Mapping[str, str | Sequence[str] | None]) -> str:
    """A command to type; an option of several values is repeated."""
    given = [
        word
        for option, values in options.items()
        for value in ([values] if isinstance(values, str) else values or ())
        for word in (option, value)
    ]
    return shlex.join(["python", "cli.py", name, *given])
