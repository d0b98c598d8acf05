"""Draw one micrograph as each strategy pseudo-labels it: `python -m scripts.strategy_picture`.

The baseline of the embedded data is trained once (about a minute on one core). Every strategy
selects from its predictions as in the first iteration; no student is trained. Finished stages stay
in the work folder, so a second start only draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from textwrap import fill
from typing import Literal

import click
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.report.plotting import STYLE, image
from cryossl.config import Config, SelectionSettings
from cryossl.data.labels import IGNORE, PARTICLE, LabelMap
from cryossl.network import device as devices
from cryossl.pages.palette import BLACK, BLUE, ORANGE
from cryossl.progress.events import OnProgress, silent
from cryossl.pseudolabels.pool import Selected
from cryossl.pseudolabels.strategies import recipe_for
from cryossl.run_settings import RunSettings
from cryossl.selftraining import prepare as preparation
from cryossl.selftraining.models import Model
from cryossl.selftraining.stage_code import stage_code
from cryossl.selftraining.steps import Experiment
from cryossl.strategy_names import BASES, CONTROLS
from cryossl.system.stages import Stages

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "strategies.png"
COLUMNS = 4
WIDTH_INCHES = 7.2
PAPER = "#f4f4f4"
OUTLINE = BLACK
# BACKGROUND, PARTICLE, and IGNORE, which is drawn as 2.
LABELS = ListedColormap([PAPER, BLUE, ORANGE])
PROBABILITIES = LinearSegmentedColormap.from_list("probabilities", [PAPER, BLUE])
# A pixel of weight 0 has the colour of an ignored one.
WEIGHTS = LinearSegmentedColormap.from_list("weights", [ORANGE, PAPER])
TITLE_LETTERS = 27
SHOWN = "Strategies"
"""The key of the PNG text chunk that names the strategies shown."""

Kind = Literal["grey", "labels", "probabilities", "weights"]


@dataclass(frozen=True)
class Panel:
    """A title, a line below it, and a map; probabilities and weights are in [0, 1]."""

    title: str
    note: str
    pixels: np.ndarray
    kind: Kind


def open_experiment(config: Config, *, report: OnProgress = silent) -> Experiment:
    """The experiment of a config, on one CPU thread.

    With one thread every machine draws the same picture.
    """
    dataset = preparation.load(config, report)
    store_plan = preparation.sketch(config, dataset)
    device = devices.resolve("cpu")
    devices.prepare(device=device, threads=1)
    code = stage_code(config.run.code_file, keep=False)
    store = preparation.store_of(dataset, config, code, report)
    return Experiment(
        config,
        store,
        preparation.draw(config, store_plan.micrographs, tile_px=store_plan.tile_px),
        Stages(config.run.stages, code=code.present),
        device=device,
        precision="fp32",
        report=report,
    )


def strategies() -> dict[str, tuple[str, SelectionSettings]]:
    """Title -> strategy and settings, for every strategy that makes pseudo-labels.

    naive is shown with doubtful pixels ignored and with doubtful pixels as background.
    """
    naive = {
        f"naive ({choice})": ("naive", SelectionSettings(uncertain_pixels=choice))
        for choice in ("ignore", "background")
    }
    return naive | {
        name: (name, SelectionSettings()) for name in BASES if name not in (*CONTROLS, "naive")
    }


def named(titles: Iterable[str]) -> list[str]:
    """The strategies of these titles, each once."""
    return list(dict.fromkeys(title.partition(" ")[0] for title in titles))


def select_all(experiment: Experiment, teacher: Model) -> dict[str, Selected]:
    """Title -> the selection of each strategy in its first iteration."""
    return {
        title: experiment.pseudo_label(
            teacher, experiment.split.unlabelled, recipe_for(name, settings, iteration=1)
        )
        for title, (name, settings) in strategies().items()
    }


def most_kept(experiment: Experiment, selections: Mapping[str, Selected]) -> str:
    """The annotated micrograph that most strategies keep.

    Of several it is the one with the most pixels that naive ignores, then the first by name.
    """
    doubted = selections["naive (ignore)"].assessments
    kept = {
        name: sum(name in selected.maps for selected in selections.values())
        for name in doubted
        if experiment.store.micrographs[name].annotated
    }
    return min(kept, key=lambda name: (-kept[name], -doubted[name].ignored_pixels, name))


def panels(
    experiment: Experiment, teacher: Model, selections: Mapping[str, Selected], micrograph: str
) -> list[Panel]:
    """The micrograph, its truth, the teacher's probabilities, and the labels of each strategy.

    Strategies with equal labels share a panel.
    """
    picture, truth = (
        experiment.store.picture(micrograph),
        experiment.store.truth(micrograph, border=True),
    )
    ((_, p8),) = experiment.probabilities(teacher, [micrograph])
    found = [
        Panel("micrograph", "as the network sees it", picture, "grey"),
        Panel("truth", _shares(truth), truth, "labels"),
        Panel("teacher's p", "the supervised baseline", p8 / 255, "probabilities"),
    ]
    for title, selected in selections.items():
        if selected.soft:
            codes = selected.maps[micrograph]
            weights = selected.soft[experiment.pool.source(micrograph)].weights[codes]
            views = recipe_for(*strategies()[title]).teaching.views
            found += [
                Panel(f"{title}: p", f"calibrated, of {views} views", codes / 255, "probabilities"),
                Panel(f"{title}: weight", "of a pixel in the loss", weights, "weights"),
            ]
            continue
        labels = _labels(selected, micrograph)
        if found[-1].kind == "labels" and np.array_equal(found[-1].pixels, labels):
            found[-1] = replace(found[-1], title=f"{found[-1].title}, {title}")
        else:
            found.append(Panel(title, _shares(labels), labels, "labels"))
    return found


def drawn(shown: Sequence[Panel], truth: LabelMap) -> Figure:
    """The panels in rows, with the outline of the true particles on each but the first."""
    rows = ceil(len(shown) / COLUMNS)
    height, width = truth.shape
    side = WIDTH_INCHES / COLUMNS
    figure = Figure(
        figsize=(WIDTH_INCHES, rows * (side * height / width + 0.28) + 0.3), layout="constrained"
    )
    places = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in places:
        axes.set_axis_off()
    for axes, panel in zip(places, shown, strict=False):
        _draw(axes, panel, truth)
    handles = [
        Patch(facecolor=BLUE, label="particle"),
        Patch(facecolor=PAPER, edgecolor="#999999", label="background"),
        Patch(facecolor=ORANGE, label="ignored"),
        Patch(facecolor="none", edgecolor=OUTLINE, label="true particle"),
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8
    )
    return figure


def _draw(axes: Axes, panel: Panel, truth: LabelMap) -> None:
    axes.set_title(
        fill(panel.title, TITLE_LETTERS), fontsize=7.5, fontweight="bold", loc="left", pad=11
    )
    axes.text(0, 1.02, panel.note, fontsize=6.5, transform=axes.transAxes, va="bottom")
    if panel.kind == "grey":
        low, high = np.percentile(panel.pixels, [1, 99])
        axes.imshow(panel.pixels, cmap="gray", vmin=low, vmax=high)
        return
    if panel.kind == "labels":
        axes.imshow(
            np.where(panel.pixels == IGNORE, 2, panel.pixels),
            cmap=LABELS,
            vmin=0,
            vmax=2,
            interpolation="nearest",
        )
    else:
        colours = PROBABILITIES if panel.kind == "probabilities" else WEIGHTS
        axes.imshow(panel.pixels, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    if (truth == PARTICLE).any():
        axes.contour(truth == PARTICLE, levels=[0.5], colors=OUTLINE, linewidths=0.4)


def _labels(selected: Selected, micrograph: str) -> LabelMap:
    """The labels of a micrograph under a strategy; all IGNORE if it is not kept."""
    if micrograph in selected.maps:
        return selected.labels(micrograph)
    return np.full_like(next(iter(selected.maps.values())), IGNORE)


def _shares(labels: LabelMap) -> str:
    particle, ignored = (100 * float(np.mean(labels == label)) for label in (PARTICLE, IGNORE))
    return f"{particle:.1f}% particle, {ignored:.1f}% ignored"


@click.command()
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=Path("work"),
    show_default=True,
    help="work folder",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=PICTURE,
    show_default=True,
    help="the PNG to write",
)
def main(work: Path, output: Path) -> None:
    """Train the baseline of the embedded data, select with every strategy, and draw."""
    experiment = open_experiment(Config(run=RunSettings(work=work)))
    teacher = experiment.fit(experiment.split.labelled, None, iteration=0, on_epoch=lambda _: None)
    selections = select_all(experiment, teacher)
    micrograph = most_kept(experiment, selections)
    shown = panels(experiment, teacher, selections, micrograph)
    with mpl.rc_context(STYLE):
        figure = drawn(shown, experiment.store.truth(micrograph, border=True))
    output.write_bytes(image(figure, "png", {SHOWN: ",".join(named(selections))}))
    click.echo(f"{output}: {micrograph} of {len(selections)} selections")


if __name__ == "__main__":
    main()
