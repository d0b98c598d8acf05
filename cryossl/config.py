"""Every setting once: default, meaning, unit, check.

The command-line options, the parameters of MLproject, docs/settings.md and the logged parameters
are all derived from these fields, or tested against them. Field names are unique over all sections,
so that an option needs no prefix.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.fields import FieldInfo

from cryossl.run_settings import RunSettings
from cryossl.setting import (
    Cell,
    Content,
    Decides,
    Machine,
    Mark,
    Nothing,
    Record,
    Result,
    Section,
    Training,
    Unit,
)
from cryossl.strategy_names import counted_tries, meant_strategies

BIG = 2**31
MOST_NETWORKS = 20  # of an ensemble
Share = Annotated[float, Field(ge=0, le=1)]
ShareInside = Annotated[float, Field(gt=0, lt=1)]
Auto = Literal["auto"]
TUNED_BY = r"^([A-Za-z0-9._-]+ [0-9a-f]{12} seeds [0-9]+-[0-9]+)?$"


def _whole(value: object) -> object:
    """Digits as a number, because a Literal of numbers takes no text."""
    if isinstance(value, bool):
        return str(value)  # which such a Literal refuses; True would be taken for 1
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class InputSettings(Section):
    """What is read, and how a micrograph becomes the tiles that the network sees."""

    data: Content[Annotated[str, Unit("folder")]] = Field(
        "synthetic",
        min_length=1,
        description="folder of a COCO data set, or `synthetic`",
    )
    sources: Result[tuple[str, ...]] = Field(
        (),
        description="the only sources to keep, separated by commas; all unless given",
    )
    particle_radius_fraction: Result[Annotated[float, Unit("fraction")]] = Field(
        1.0,
        gt=0,
        le=1.5,
        description="radius of a particle's disc, as a fraction of half its box width",
    )
    border: Result[Auto | Annotated[int, Field(ge=0, lt=BIG), Unit("px")]] = Field(
        "auto",
        description="unlabelled band at each edge, in original px; auto: estimated per source from "
        "the labels",
    )
    particle_diameter_px: Result[Annotated[float, Unit("px")]] = Field(
        0.0,
        ge=0,
        le=512,
        description="rescale each source so that a particle is this wide; 0: no rescaling by "
        "particle",
    )
    image_px: Result[Annotated[int, Unit("px")]] = Field(
        1024,
        ge=0,
        lt=BIG,
        description="longest side of a micrograph after reduction, never enlarged; 0: as it is",
    )
    tile_px: Result[Annotated[int, Unit("px")]] = Field(
        256,
        ge=0,
        le=8192,
        description="side of the square the network trains and predicts on; 0: the whole picture",
    )
    max_megapixels: Nothing[Annotated[float, Unit("megapixels")]] = Field(
        256.0,
        gt=0,
        description="largest picture that is opened, in millions of pixels",
    )
    follow_links: Nothing[bool] = Field(
        False,
        description="links in the data folder may lead out of it, to files and folders elsewhere",
    )


class SplitSettings(Section):
    """Which part of the training micrographs counts as labelled."""

    ratio: Cell[Annotated[float, Unit("percent")]] = Field(
        5.0,
        gt=0,
        le=100,
        description="labelled part of the training data, in percent",
    )
    label_unit: Result[Literal["micrograph", "tile"]] = Field(
        "micrograph", description="what the ratio counts"
    )
    labelled: Content[Path | None] = Field(
        None,
        description="file that lists the labelled micrographs, one name a line, with or without "
        "its suffix; replaces the draw. In a config file a relative path starts at that file's "
        "folder",
    )
    validation_from: Result[Literal["part", "labelled"]] = Field(
        "part",
        description="what thresholds and gate are chosen on: the validation part, or the labelled "
        "micrographs; then the validation part is test too",
    )
    test_half: Content[Literal["by_seed", "fixed"]] = Field(
        "by_seed",
        description="data without a test part: each seed sets another half of validation aside as "
        "test, or all seeds the same half",
    )
    seed: Cell[int] = Field(
        0,
        ge=0,
        lt=BIG,
        description="seed of the split, the initial weights and every other draw",
    )


class NetworkSettings(Section):
    """The segmentation network, built by segmentation-models-pytorch."""

    architecture: Training[Literal["unet", "unetplusplus", "fpn", "manet", "linknet"]] = Field(
        "unet", description="decoder of the network"
    )
    encoder: Training[str] = Field(
        "tu-test_resnet",
        min_length=1,
        description="encoder, by its name in segmentation-models-pytorch; resnet34 for large data "
        "on a GPU",
    )
    encoder_depth: Training[int] = Field(
        3, ge=3, le=5, description="halvings of the picture inside the encoder"
    )
    decoder_width: Training[int] = Field(
        8,
        ge=4,
        le=256,
        description="channels of the decoder's finest stage; each coarser one has twice as many",
    )
    encoder_weights: Training[Literal["none", "imagenet"]] = Field(
        "none",
        description="initial weights of the encoder; imagenet downloads them",
    )


class TrainingSettings(Section):
    """One training of one network."""

    baseline_epochs: Result[Annotated[int, Unit("epochs")]] = Field(
        100,
        ge=1,
        lt=BIG,
        description="passes over the labelled tiles for the supervised baseline",
    )
    student_epochs: Result[Annotated[int, Unit("epochs")]] = Field(
        50,
        ge=1,
        lt=BIG,
        description="passes over labelled and pseudo-labelled tiles for each student",
    )
    least_steps: Result[Annotated[int, Unit("steps")]] = Field(
        500,
        ge=0,
        lt=BIG,
        description="fewest optimiser steps of a training: passes are added where the tiles are "
        "few; 0: none",
    )
    batch_size: Training[Annotated[int, Unit("tiles")]] = Field(
        4, ge=1, le=2**16, description="tiles per optimiser step"
    )
    tile_shift: Training[Annotated[float, Unit("fraction")]] = Field(
        0.5,
        ge=0,
        le=1,
        description="most that a training tile is moved from its place at a step, as a share of "
        "its side",
    )
    augment: Training[Literal["flips", "any"]] = Field(
        "flips",
        description="how training tiles are turned: by flips, or by any angle and scaled too",
    )
    learning_rate: Training[float] = Field(
        3e-3, gt=0, le=1, description="peak learning rate of AdamW"
    )
    weight_decay: Training[float] = Field(1e-2, ge=0, le=1, description="weight decay of AdamW")
    validations: Training[Annotated[int, Unit("times")]] = Field(
        10,
        ge=1,
        lt=BIG,
        description="times the validation part is scored in one training, evenly spaced",
    )
    patience: Training[Annotated[int, Unit("times")]] = Field(
        0,
        ge=0,
        lt=BIG,
        description="a training ends when it was scored so often in a row without a higher F1; 0: "
        "it never ends early",
    )
    average_decay: Training[float] = Field(
        0.0,
        ge=0,
        lt=1,
        description="the weights are their moving average with this decay, e.g. 0.99; 0: none",
    )
    model: Result[Literal["last", "best"]] = Field(
        "last",
        description="weights that are the model: the last step's, or the best on validation",
    )
    device: Machine[Literal["auto", "cpu", "cuda", "mps"]] = Field(
        "auto", description="where the network runs"
    )
    precision: Result[Literal["auto", "fp32", "bf16"]] = Field(
        "auto",
        description="number format of the forward pass; auto: bf16 on CUDA, else fp32",
    )
    cuda_graph: Machine[bool] = Field(
        False,
        description="replay the steps of a training on CUDA from a CUDA graph: one launch in "
        "place of hundreds; not yet tried on a GPU",
    )
    threads: Machine[Annotated[int, Unit("threads")]] = Field(
        0,
        ge=0,
        le=1024,
        description="CPU threads of the network; 0: OMP_NUM_THREADS, else the fewest that are "
        "about as fast as any on this machine as it is at the first start",
    )


class SelectionSettings(Section):
    """From the teacher's probabilities to pseudo-labels. The defaults are the note's."""

    strategies: Cell[Annotated[tuple[str, ...], AfterValidator(meant_strategies)]] = Field(
        ("naive", "class_balanced"),
        min_length=1,
        description="strategies to run, separated by commas; best: docs/results.md",
    )
    naive_threshold: Result[Annotated[float, Unit("probability")]] = Field(
        0.70,
        ge=0.5,
        le=1,
        description="naive: least confidence of a pixel, and least mean confidence of an image",
    )
    particle_threshold: Result[Annotated[Share, Unit("probability")]] = Field(
        0.60, description="class_balanced: least p of a PARTICLE pixel"
    )
    background_threshold: Result[Annotated[Share, Unit("probability")]] = Field(
        0.80, description="class_balanced: least 1 - p of a BACKGROUND pixel"
    )
    quality_particle: Result[Share] = Field(
        0.3,
        description="class_balanced: weight of the mean confidence of PARTICLE pixels",
    )
    quality_background: Result[Share] = Field(
        0.2,
        description="class_balanced: weight of the mean confidence of BACKGROUND pixels",
    )
    quality_balance: Result[Share] = Field(
        0.5,
        description="class_balanced: weight of the closeness to the target particle ratio",
    )
    target_particle_ratio: Result[
        Literal["measured"] | Annotated[float, Field(gt=0, lt=1), Unit("fraction")]
    ] = Field(
        "measured",
        description="particle ratio to aim at: a number (the note: 0.04), or measured on the "
        "labelled part",
    )
    max_pseudo_per_labelled: Result[float] = Field(
        2.0,
        gt=0,
        description="class_balanced: most pseudo-labels per labelled item",
    )
    uncertain_pixels: Result[Literal["ignore", "background"]] = Field(
        "ignore", description="what a doubtful pixel of a pseudo-label becomes"
    )
    target_scope: Result[Literal["global", "per_source"]] = Field(
        "global",
        description="naive, class_balanced: whether target ratio and quota are one for all, or "
        "each source's own",
    )
    loss: Result[Literal["weighted", "focal", "tversky"]] = Field(
        "weighted",
        description="loss of the strategies beyond the note; noisy_student and the note's have "
        "cross-entropy and Dice",
    )
    strategy_settings: Result[Annotated[tuple[str, ...], Unit("STRATEGY.SETTING=VALUE")]] = Field(
        (),
        description="settings of one strategy alone, in place of those of the run, e.g. "
        "class_balanced.particle_threshold=0.5; not of the baseline",
    )
    tries: Record[Annotated[tuple[str, ...], AfterValidator(counted_tries)]] = Field(
        (), description="trials of a tuning as STRATEGY=COUNT; `tune` writes it into tuned.yaml"
    )
    tuned_by: Record[str] = Field(
        "", pattern=TUNED_BY, description="name, digest and seeds of that tuning"
    )


class LoopSettings(Section):
    """The self-training iterations."""

    max_iterations: Result[Annotated[int, Unit("students")]] = Field(
        3,
        ge=0,
        le=100,
        description="most students in a row; 0: the supervised baseline alone",
    )
    accept: Result[Literal["improved", "confident", "always"]] = Field(
        "improved",
        description="a student is accepted if its validation F1 is higher, if that is so with 90% "
        "confidence, or always",
    )
    ensemble_networks: Result[Annotated[int, Unit("networks")]] = Field(
        2,
        ge=2,
        le=MOST_NETWORKS,
        description="ensemble: networks, with the baseline; 2 train as often as one student does",
    )
    audit: Record[bool] = Field(
        False,
        description="score the pseudo-labels against the hidden truth; it reaches neither training "
        "nor selection",
    )


class EvaluationSettings(Section):
    """How a model is scored."""

    views: Result[Annotated[Literal[1, 4, 8], BeforeValidator(_whole)]] = Field(
        1,
        description="orientations of a tile whose mean probability is scored: as it is, under "
        "flips, or also transposed",
    )
    eight_views: Record[bool] = Field(
        True,
        description="score each model a second time, by its mean over eight views (`test/f1_views8`"
        "), with thresholds of its own",
    )
    headline_views: Record[Annotated[Literal[1, 8], BeforeValidator(_whole)]] = Field(
        1,
        description="scoring that verdicts and tables are by: 1, that by `views`; 8, that by eight "
        "views",
    )
    match_distance: Result[Annotated[float, Unit("fraction")]] = Field(
        0.3,
        gt=0,
        le=1,
        description="a pick is a particle if its centre is within this fraction of the particle's "
        "diameter",
    )


class Config(Section):
    """All settings of one invocation."""

    input: InputSettings = InputSettings()
    split: SplitSettings = SplitSettings()
    network: NetworkSettings = NetworkSettings()
    training: TrainingSettings = TrainingSettings()
    selection: SelectionSettings = SelectionSettings()
    loop: LoopSettings = LoopSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    run: RunSettings = RunSettings()

    def flat(self) -> dict[str, Any]:
        """`section.field` -> value in JSON's types, in the order of declaration."""
        return {
            f"{section}.{name}": value
            for section, fields in self.model_dump(mode="json").items()
            for name, value in fields.items()
        }

    def values_deciding(self, *marks: Decides) -> dict[str, Any]:
        """The values of `flat` whose settings are marked as deciding one of these."""
        names = deciding(*marks)
        return {name: value for name, value in self.flat().items() if name in names}


def sections() -> dict[str, type[Section]]:
    """Section name -> its model, in the order of declaration."""
    return {
        name: field.annotation  # type: ignore[misc]
        for name, field in Config.model_fields.items()
        if field.annotation is not None
    }


def fields() -> dict[str, tuple[str, FieldInfo]]:
    """Field name -> (section, pydantic's description of the field), in the order of declaration."""
    return {
        name: (section, field)
        for section, model in sections().items()
        for name, field in model.model_fields.items()
    }


def deciding(*marks: Decides) -> frozenset[str]:
    """`section.field` of the settings that are marked as deciding one of these."""
    return frozenset(
        f"{section}.{name}"
        for name, (section, field) in fields().items()
        if any(isinstance(one, Mark) and one.decides in marks for one in field.metadata)
    )
