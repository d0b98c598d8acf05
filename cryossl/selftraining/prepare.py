"""From settings to a data set and a split: what is read, measured and labelled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from cryossl.config import Config
from cryossl.data.coco.dataset import DataSet, measured, only, read_dataset
from cryossl.data.splits import Split, draw_split, halve, named_items, share_text
from cryossl.data.store.plan import StoredMicrograph, StorePlan, members, plan_store
from cryossl.data.store.store import Store, build, is_built
from cryossl.data.synthetic.dataset import VERSION, synthesise
from cryossl.data.tiling import micrograph_of, tile_grid
from cryossl.errors import ConfigError
from cryossl.evaluation.scorings import EIGHT
from cryossl.network import architecture as networks
from cryossl.progress.events import OnProgress
from cryossl.pseudolabels.strategies import recipe_for
from cryossl.selftraining.stage_code import StageCode
from cryossl.strategy_names import BASELINES, CONTROLS, ENSEMBLE
from cryossl.strategy_settings import config_of_strategy, refuse_unused, tuned_seeds
from cryossl.system.digest import digest
from cryossl.system.user_files import MAX_LIST_BYTES, read_text
from cryossl.tracking.run import TrackedRun

SYNTHETIC = "synthetic"
SYNTHETIC_SEED = 0
FIXED_TEST_SEED = 0
"""Draws the half of validation that is test for all seeds."""


def require_network(config: Config) -> None:
    """Raise ConfigError for a network that cannot be built, before the data are read.

    Weights are not fetched.
    """
    plain = config.network.model_copy(update={"encoder_weights": "none"})
    networks.build(plain, seed=config.split.seed)


def load(config: Config, report: OnProgress) -> DataSet:
    """The data set of a config; the embedded one is written first if it is not there.

    Border and particle size are measured on the labels of the validation part alone: they shape the
    store, which all ratios and seeds share, and the labels that the experiment hides must not shape
    anything. Where the validation part is test, they are measured on the listed micrographs, and
    where a fixed half of it is, on the other half.
    """
    root = Path(config.input.data)
    if config.input.data == SYNTHETIC:
        root = config.run.data_sets / f"{SYNTHETIC}-{VERSION}"
        synthesise(root, seed=SYNTHETIC_SEED, report=report)
    dataset = read_dataset(
        root,
        border=config.input.border,
        max_megapixels=config.input.max_megapixels,
        follow_links=config.input.follow_links,
    )
    if config.input.sources:
        dataset = only(dataset, config.input.sources)
    visible = set(dataset.validation.particles)
    if config.split.validation_from == "labelled":
        train = [micrograph.id for micrograph in dataset.train.micrographs]
        visible = named_items(_listed(_list_of(config)), train, set(dataset.train.particles))
    elif config.split.test_half == "fixed" and not (dataset.test and dataset.test.particles):
        annotated = {
            one.id: one.source for one in dataset.validation.micrographs if one.id in visible
        }
        visible = set(halve(annotated, seed=FIXED_TEST_SEED)[0])
    return measured(dataset, border=config.input.border, visible=visible)


def sketch(config: Config, dataset: DataSet) -> StorePlan:
    """What the store of a data set will hold, found without reading a picture.

    Its key stands for no content.

    Raises DataError for what no store could hold, and for a border that leaves nothing of a
    micrograph.
    """
    unread = {micrograph.id: "" for _, micrograph, _ in members(dataset)}
    store_plan = plan_store(
        dataset,
        unread,
        settings=config.input,
        network_multiple=networks.multiple(config.network),
        code="",
    )
    for stored in store_plan.micrographs:
        stored.with_border(dataset.border_px[stored.source])
    return store_plan


def notes_of(dataset: DataSet, store_plan: StorePlan) -> tuple[str, ...]:
    """What is to be known before training: how the data were read, guessed and scaled."""
    return tuple(f"   {note}" for note in (*dataset.notes, *store_plan.notes))


def store_of(dataset: DataSet, config: Config, code: StageCode, report: OnProgress) -> Store:
    """The store of a data set, decoded if it is not there; kept code's where only that has one."""
    digests = [version.get("store", "") for version in (code.present, *code.kept)]
    built = (one for one in digests if _is_built(dataset, config, one, verify=True))
    return build(
        dataset,
        config.run.stores,
        settings=config.input,
        network_multiple=networks.multiple(config.network),
        code=next(built, digests[0]) if code.kept else digests[0],
        report=report,
    )


def has_store(dataset: DataSet, config: Config, code: StageCode) -> bool:
    """Whether `store_of` would only open a store."""
    versions = (code.present, *code.kept)
    return any(_is_built(dataset, config, version.get("store", "")) for version in versions)


def _is_built(dataset: DataSet, config: Config, code: str, *, verify: bool = False) -> bool:
    return is_built(
        dataset,
        config.run.stores,
        settings=config.input,
        network_multiple=networks.multiple(config.network),
        code=code,
        verify=verify,
    )


def draw(config: Config, micrographs: Iterable[StoredMicrograph], *, tile_px: int) -> Split:
    """The split of a data set's items under a config; the order of micrographs does not matter."""
    settings = config.split
    parts: dict[str, dict[str, str]] = {"train": {}, "validation": {}, "test": {}}
    labelable: set[str] = set()
    for micrograph in micrographs:
        if micrograph.part != "train":
            if micrograph.annotated:
                parts[micrograph.part][micrograph.id] = micrograph.source
            continue
        items = [micrograph.id]
        if settings.label_unit == "tile":
            items = [
                tile.id
                for tile in tile_grid(
                    micrograph=micrograph.id,
                    height_px=micrograph.height_px,
                    width_px=micrograph.width_px,
                    tile_px=tile_px,
                )
            ]
        parts["train"].update(dict.fromkeys(items, micrograph.source))
        labelable.update(items if micrograph.annotated else ())
    names = None if settings.labelled is None else _listed(settings.labelled)
    alone = (
        settings.validation_from == "labelled"
    )  # then all that is annotated outside train is test
    fixed = settings.test_half == "fixed"
    if alone or parts["test"]:
        _refuse_fixed_half(config)
    elif config.selection.tuned_by and not fixed:
        raise ConfigError(
            f"these settings were tuned ({config.selection.tuned_by}) and the data set has no test "
            "part: each seed has another half of validation as test, and tuning may have chosen on "
            "it",
            cure="give --test-half fixed",
        )
    return draw_split(
        parts["train"],
        labelable,
        None if alone else parts["validation"],
        parts["test"] | (parts["validation"] if alone else {}) or None,
        ratio_percent=settings.ratio,
        seed=settings.seed,
        test_seed=FIXED_TEST_SEED if fixed else settings.seed,
        labelled=names,
    )


def _refuse_fixed_half(config: Config) -> None:
    """Raise ConfigError if a fixed half of validation is to be test, where no half of it is."""
    if config.split.test_half != "fixed":
        return
    reason = (
        "the data set has a test part"
        if config.split.validation_from == "part"
        else "with validation_from=labelled the whole validation part is test"
    )
    raise ConfigError(f"test_half=fixed changes nothing: {reason}", cure="leave it out")


def parts_text(config: Config, split: Split, *, tested: bool) -> str:
    """How much there is of each part, and where it is from.

    `tested`: the data set has a test part.
    """
    return (
        f"{len(split.labelled)} labelled and {len(split.unlabelled)} unlabelled "
        f"{config.split.label_unit}s ({labelled_share(split)} labelled), "
        f"{len(split.validation)} validation and {len(split.test)} test "
        f"micrographs{roles_text(config, tested=tested)}"
    )


def labelled_share(split: Split) -> str:
    """The labelled part of the training items in percent, as it was drawn."""
    return share_text(len(split.labelled), len(split.labelled) + len(split.unlabelled))


def roles_text(config: Config, *, tested: bool) -> str:
    """A line that says what validation and test are, if not the parts of these names."""
    if config.split.validation_from == "labelled":
        return (
            "\n   thresholds and gate are chosen on the labelled micrographs; the validation "
            "part is test"
        )
    if tested:
        return ""
    same = ", the same for every seed" if config.split.test_half == "fixed" else ""
    return (
        "\n   the data set has no test part: half of the validation micrographs were set aside as "
        f"test{same}"
    )


def with_counted_ratio(config: Config, split: Split) -> Config:
    """The config, with the ratio that a labelled list amounts to, in percent, to two decimals."""
    if config.split.labelled is None:
        return config
    ratio = max(
        0.01, round(100 * len(split.labelled) / (len(split.labelled) + len(split.unlabelled)), 2)
    )
    return config.model_copy(update={"split": config.split.model_copy(update={"ratio": ratio})})


def check(config: Config, split: Split, *, tile_px: int) -> None:
    """Refuse now what would fail, or could say nothing, after hours. Raises ConfigError."""
    refuse_unused(config)
    _require_pool(config, split)
    if config.split.seed in tuned_seeds(config):
        raise ConfigError(
            f"seed {config.split.seed} was used to tune these settings "
            f"({config.selection.tuned_by}): its scores would be too high",
            cure="choose other seeds with --seed",
        )
    if config.evaluation.headline_views == EIGHT and not config.evaluation.eight_views:
        raise ConfigError(
            "headline_views=8 needs scores by eight views, and eight_views is false",
            cure="set eight_views to true, or headline_views to 1",
        )
    _refuse_chosen_step(config)
    _require_batches(config, tile_px)
    if config.loop.accept == "confident" and len(split.validation) < 2:
        raise ConfigError(
            "accept=confident resamples validation micrographs and there is only one",
            cure="use accept=improved, or add validation micrographs",
        )


def _all_own(config: Config) -> Iterator[Config]:
    """The config, and that of each strategy with the settings that it has for itself."""
    yield config
    for strategy in config.selection.strategies:
        yield config_of_strategy(config, strategy)


def _refuse_chosen_step(config: Config) -> None:
    """Raise ConfigError if a step of a training would be chosen on what it learns from."""
    if config.split.validation_from == "part":
        return
    for own in _all_own(config):
        if own.training.patience or own.training.model == "best":
            name = "patience" if own.training.patience else "model=best"
            raise ConfigError(
                f"{name} chooses a step on validation, and with validation_from=labelled that is "
                "what the network learns from",
                cure="leave it out, or set validation_from to part",
            )


def _require_batches(config: Config, tile_px: int) -> None:
    """Raise ConfigError if a batch is too small for the network or for how a strategy mixes."""
    for own in _all_own(config):
        if own.training.batch_size * (tile_px // networks.multiple(own.network)) ** 2 < 2:
            raise ConfigError(
                f"one tile of {tile_px} px a step leaves a single value to normalise by",
                cure="raise --batch-size, --tile-px or --image-px",
            )
    for strategy in config.selection.strategies:
        own = config_of_strategy(config, strategy)
        mixed = strategy not in CONTROLS and recipe_for(strategy, own.selection).learning.mixed
        if mixed and own.training.batch_size < 2:
            raise ConfigError(
                f"{strategy} puts labelled and pseudo-labelled tiles into each batch, which has "
                "room for one",
                cure="raise --batch-size to 2 or more",
            )


def _require_pool(config: Config, split: Split) -> None:
    """Raise ConfigError if a strategy needs unlabelled items and there are none.

    Without them each strategy would be the baseline, and be reported as one that fails.
    """
    needing = sorted(set(config.selection.strategies) - {*BASELINES, ENSEMBLE})
    if split.unlabelled or not needing or not config.loop.max_iterations:
        return
    unit = f"training {config.split.label_unit}"
    count = len(split.labelled)
    reason = (
        "as the labelled list has it"
        if config.split.labelled is not None
        else f"for a ratio of {config.split.ratio:g}% and at least one label for each source"
    )
    raise ConfigError(
        f"{count} of {count} {unit}s would be labelled (100%), {reason}: nothing is left "
        f"unlabelled for {', '.join(needing)}",
        cure="add unlabelled micrographs to the train folder, lower the ratio or shorten the list, "
        "name fewer sources in sources.csv, or run `cryossl baseline`",
    )


def data_sets(
    run: TrackedRun, config: Config, store: Store, split: Split, *, listed: bool = False
) -> None:
    """Note the data that a run reads: training, validation and test, each in its context.

    `listed`: with their tables as files of the run.
    """
    name = Path(config.input.data).name or "data"
    roles = {
        "training": dict.fromkeys(split.labelled, "labelled")
        | dict.fromkeys(split.unlabelled, "unlabelled"),
        "validation": dict.fromkeys(split.validation, "validation"),
        "test": dict.fromkeys(split.test, "test"),
    }
    for context, items in roles.items():
        sources = {item: store.micrographs[micrograph_of(item)].source for item in items}
        run.dataset(
            [
                {"item": item, "role": items[item], "source": sources[item]}
                for item in sorted(items)
            ],
            name=f"{name} {context}",
            digest=digest({"data": store.key, "items": items})[:16],
            context=context,
            listed=listed,
        )


def _list_of(config: Config) -> Path:
    """The list of labelled micrographs that `validation_from=labelled` needs.

    Raises ConfigError without one.
    """
    if config.split.labelled is None or config.split.label_unit != "micrograph":
        raise ConfigError(
            "validation_from=labelled needs whole micrographs that a list names",
            cure="give --labelled FILE and --label-unit micrograph",
        )
    return config.split.labelled


def _listed(path: Path) -> list[str]:
    """The names in a labelled list, one a line, without blank lines and comments (#)."""
    text = read_text(
        path,
        name=f"the labelled list {path}",
        max_bytes=MAX_LIST_BYTES,
        smaller="give a file with one name a line",
    )
    lines = text.splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
