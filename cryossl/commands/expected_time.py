"""How long a run will take, said at its start: counts times the speed of a short trial."""

from __future__ import annotations

from cryossl.data.store.plan import StorePlan
from cryossl.network import device as devices
from cryossl.network.speed import TRIAL_STEPS, measure_speed, trial_step_seconds
from cryossl.progress.eta import duration_text
from cryossl.progress.narrator import Narrator
from cryossl.selftraining.estimates import estimate, phase_seconds
from cryossl.selftraining.steps import Experiment

LEAST_SHARE = 30
"""A trial is made if the run has at least so many times its steps: a shorter run ends soon."""


def say_expected_time(experiment: Experiment, store_plan: StorePlan, narrator: Narrator) -> None:
    """Train a few steps of the baseline, drop them, and say how long the whole run takes."""
    config, store, split = experiment.config, experiment.store, experiment.split
    device = devices.resolve(config.training.device)
    precision = devices.resolve_precision(config.training.precision, device)
    counts = estimate(config, store_plan, split, step_seconds=0.0, tile_seconds=0.0)
    if counts.training_steps < LEAST_SHARE * TRIAL_STEPS:
        return
    _, tile_seconds = measure_speed(
        config, tile_px=store.tile_px, device=device, precision=precision, calls=2
    )
    speed = {
        "step_seconds": trial_step_seconds(
            config, store, split.labelled, device=device, precision=precision
        ),
        "tile_seconds": tile_seconds,
    }
    found = estimate(config, store_plan, split, **speed)
    narrator.expect(phase_seconds(config, store_plan, split, **speed))
    earlier = config.run.stages.is_dir() and any(config.run.stages.iterdir())
    narrator.say(
        f"⏱ Takes {range_text(found.least_seconds, found.seconds)} as fast as this machine is now"
        + (
            ": the longer, the more students are accepted"
            if found.seconds > found.least_seconds
            else ""
        )
        + ("; what an earlier start has finished is not done again" if earlier else "")
    )


def range_text(least_seconds: float, most_seconds: float) -> str:
    """`about 12 min`, or `about 12 to 28 min` if the two differ by more than a fifth."""
    low, high = _rough(least_seconds), _rough(most_seconds)
    if most_seconds <= 1.2 * least_seconds or low == high:
        return f"about {high}"
    number, _, unit = low.partition(" ")
    same = high.partition(" ")[2] == unit
    return f"about {number if same else low} to {high}"


def _rough(seconds: float) -> str:
    """A time without digits that an estimate does not have: `50 s`, `12 min`, `2 h 05 min`."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return duration_text(round(seconds / 300) * 300)
