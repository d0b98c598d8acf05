"""Objectives: what a training step minimises.

`Supervised` is a loss on labels. `OnlineTeacher` is consistency with a teacher that is the moving
average of the student. `Averaged` is another one, whose model is the moving average of the
network. An objective draws its random numbers from counters (seed, iteration, step).
Its only state is that of `state_dict`, so that a training can be resumed without a trace.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import nn

from cryossl.data.labels import IGNORE, PARTICLE
from cryossl.network.augment import box_mask, noised, strong_view, weak_view
from cryossl.network.batches import Batch
from cryossl.network.device import to_device
from cryossl.network.losses import Loss, Maps, Scalar, loss_of
from cryossl.pseudolabels.recipe import Consistency, LossName
from cryossl.randomness import generator

# Decay of the running means: of the particle confidence, and of the prediction of each source.
MEMORY = 0.95
PRIOR_WEIGHT = 0.1
# A factor of 1.5 is tolerated. The penalty starts at 1.25, because the mean of few tiles varies.
PRIOR_TOLERANCE = math.log(1.25)
PRIOR_RATE = 0.05
PRIOR_MOST = 10.0
PENALTY = [PRIOR_WEIGHT, PRIOR_TOLERANCE, PRIOR_RATE, PRIOR_MOST]


@runtime_checkable
class Objective(Protocol):
    """What `training.fit` needs of an objective."""

    def begin(self, network: nn.Module) -> None:
        """Prepare for the network, on its device; called once, before `load_state_dict`."""

    def model(self, network: nn.Module) -> nn.Module:
        """The network that is validated and saved."""

    def loss(self, network: nn.Module, batch: Batch, *, step: int, device: torch.device) -> Scalar:
        """The loss of a step, counted from 0, in fp32; the caller sets autocast."""

    def after_step(self, network: nn.Module, step: int) -> None:
        """Called with each step after its update."""

    def identity(self) -> dict[str, Any]:
        """What decides the loss, in JSON's types; a checkpoint of another identity is refused."""

    def state_dict(self) -> dict[str, Any]:
        """What changes from step to step: tensors and numbers, as in torch."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""


class Supervised:
    """A loss between the network's output for weak views and their true, pseudo or soft labels.

    Args:
        seed: of the run.
        iteration: of self-training; seed, iteration and step decide the views.
        loss: its name.
        prior: particle ratio of the labelled part, in (0, 1), for the weighted loss.
        noise: whether half of the tiles get a strong view, and half a box of another tile.
        any_angle: whether weak views are turned by any angle and scaled.
    """

    def __init__(
        self,
        *,
        seed: int,
        iteration: int,
        loss: LossName = "bce_dice",
        prior: float = 0.5,
        noise: bool = False,
        any_angle: bool = False,
    ) -> None:
        self._counter, self._noise = (seed, iteration), noise
        self._any_angle = any_angle
        self._identity = {
            "loss": loss,
            "prior": prior if loss == "weighted" else None,
            "noise": noise,
            **({"any_angle": True} if any_angle else {}),
        }
        self._loss = loss_of(loss, prior=prior)

    def begin(self, network: nn.Module) -> None:
        """Do nothing."""

    def model(self, network: nn.Module) -> nn.Module:
        """The network itself."""
        return network

    def loss(self, network: nn.Module, batch: Batch, *, step: int, device: torch.device) -> Scalar:
        """The loss of a step."""
        seed, iteration = self._counter
        pictures, labels = weak_view(
            to_device(batch.pictures, device),
            to_device(batch.labels, device),
            generator=generator(seed, "augment", iteration, step),
            any_angle=self._any_angle,
        )
        target, weight = targets_and_weights(labels, batch, device=device)
        if self._noise:
            pictures, target, weight = noised(
                pictures, target, weight, generator=generator(seed, "noise", iteration, step)
            )
        return self._loss(_logits(network, pictures), target, weight)

    def after_step(self, network: nn.Module, step: int) -> None:
        """Do nothing."""

    def identity(self) -> dict[str, Any]:
        """Loss and noise, and the prior where it decides the loss."""
        return self._identity

    def state_dict(self) -> dict[str, Any]:
        """Empty: there is no state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""


class OnlineTeacher:
    """Weak-to-strong consistency with a teacher that is the moving average of the student.

    Labelled tiles are learned as in `Supervised`. Of an unlabelled tile the teacher predicts the
    weak view, and the student learns this prediction on the strong view.

    This is FixMatch (Sohn et al. 2020, arXiv 2001.07685) with the mean teacher of Tarvainen and
    Valpola (2017, arXiv 1703.01780), as in UniMatch V2 (Yang et al. 2024, arXiv 2410.10777), and
    CutMix (Yun et al. 2019, arXiv 1905.04899). Two parts are optional. `paste` is bidirectional
    copy-paste (Bai et al. 2023, arXiv 2305.00673). `match_prior` is Topaz's penalty for leaving a
    known particle ratio (Bepler et al. 2019), with a tolerance, and with a multiplier that is
    learned as in Platt and Barr (1988).

    The average covers buffers too, because BatchNorm's statistics belong to the weights.

    Args:
        seed, iteration, loss, any_angle: as for `Supervised`.
        settings: thresholds, weights and optional parts.
        priors: source -> particle ratio, in (0, 1).
        prior: particle ratio of the labelled part, in (0, 1), for sources without one.
    """

    def __init__(
        self,
        *,
        seed: int,
        iteration: int,
        loss: LossName,
        settings: Consistency,
        priors: Mapping[str, float],
        prior: float,
        any_angle: bool = False,
    ) -> None:
        self._counter, self._settings = (seed, iteration), settings
        self._any_angle = any_angle
        self._priors, self._prior = dict(priors), prior
        self._loss_name: LossName = loss
        self._loss: Loss = loss_of(loss, prior=prior)
        self._average: nn.Module = nn.Identity()
        self._confidence = settings.particle_range[0]
        self._means: dict[str, float] = {}
        self._multipliers: dict[str, float] = {}

    def begin(self, network: nn.Module) -> None:
        """Start the average as a copy of the network."""
        self._average = average_of(network)

    def model(self, network: nn.Module) -> nn.Module:  # noqa: ARG002 (the average stands for it)
        """The moving average."""
        return self._average

    def loss(self, network: nn.Module, batch: Batch, *, step: int, device: torch.device) -> Scalar:
        """The loss of a step."""
        seed, iteration = self._counter
        settings = self._settings
        count = batch.labelled
        pictures, labels = weak_view(
            to_device(batch.pictures, device),
            to_device(batch.labels, device),
            generator=generator(seed, "augment", iteration, step),
            any_angle=self._any_angle,
        )
        target, weight = targets_and_weights(labels, batch, device=device)
        with torch.no_grad():
            guess = torch.sigmoid(_logits(self._average, pictures[count:]))
        target[count:], weight[count:] = self._pseudo(guess)
        weight[count:] *= (labels[count:] != IGNORE) * to_device(
            batch.weights[count:], device
        ).view(-1, 1, 1, 1)
        strong = strong_view(pictures[count:], generator=generator(seed, "strong", iteration, step))
        pictures = torch.cat((pictures[:count], strong))
        for exchange in self._exchanges(labels[:count], len(batch.items), step=step):
            mask, order = (to_device(each, device) for each in exchange)
            pictures, target, weight = (
                torch.where(mask, each[order], each) for each in (pictures, target, weight)
            )
        logits = _logits(network, pictures)
        total = self._loss(
            logits[:count], target[:count], weight[:count]
        ) + settings.weight * self._loss(logits[count:], target[count:], weight[count:])
        return (
            total + self._prior_penalty(logits[count:], batch.sources[count:])
            if settings.match_prior
            else total
        )

    def after_step(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network."""
        move_average(self._average, network, step=step, decay=self._settings.decay)

    def identity(self) -> dict[str, Any]:
        """Loss, settings and priors."""
        return {
            "loss": self._loss_name,
            "prior": self._prior,
            "priors": self._priors,
            "consistency": {
                **asdict(self._settings),
                "particle_range": list(self._settings.particle_range),
                **({"prior_penalty": PENALTY} if self._settings.match_prior else {}),
            },
            **({"any_angle": True} if self._any_angle else {}),
        }

    def state_dict(self) -> dict[str, Any]:
        """The average, the running means and the multipliers of the prior's penalty."""
        return {
            "average": self._average.state_dict(),
            "confidence": self._confidence,
            "means": dict(self._means),
            "multipliers": dict(self._multipliers),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the average, the running means and the multipliers."""
        self._average.load_state_dict(state["average"])
        self._confidence, self._means = state["confidence"], dict(state["means"])
        # A checkpoint of a training without the penalty may have none.
        self._multipliers = dict(state.get("multipliers", {}))

    def _pseudo(self, guess: Maps) -> tuple[Maps, Maps]:
        """Target and weight of each pixel from the average's probabilities.

        The threshold for particles is the running mean of the average's own confidence.
        """
        low, high = self._settings.particle_range
        particle = guess >= 0.5
        if bool(particle.any()):
            self._confidence = MEMORY * self._confidence + (1 - MEMORY) * float(
                guess[particle].mean()
            )
        taken = guess >= min(max(self._confidence, low), high)
        background = 1 - guess >= self._settings.background_threshold
        return taken.float(), (taken | background).float()

    def _exchanges(
        self, labels: torch.Tensor, tiles: int, *, step: int
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(mask, order) of each exchange of boxes between tiles.

        Inside its mask tile i takes the pixels of tile order[i]. The first exchange is CutMix among
        the unlabelled tiles. With `paste` a second one swaps boxes between labelled and unlabelled
        tiles, each around a labelled particle.
        """
        seed, iteration = self._counter
        draws = generator(seed, "mix", iteration, step)
        count, side = len(labels), labels.shape[-1]
        others = tiles - count
        order = torch.arange(tiles)
        order[count:] = count + torch.from_numpy(draws.permutation(others))
        mask = torch.zeros(tiles, 1, side, side, dtype=torch.bool)
        mask[count:] = box_mask(others, side, generator=draws)
        found = [(mask, order)]
        if self._settings.paste:
            pairs = min(count, others)
            swap = torch.arange(tiles)
            swap[:pairs], swap[count : count + pairs] = (
                torch.arange(count, count + pairs),
                torch.arange(pairs),
            )
            around = box_mask(
                pairs,
                side,
                generator=draws,
                centres=[_some_particle(one, draws) for one in labels[:pairs, 0]],
            )
            both = torch.zeros(tiles, 1, side, side, dtype=torch.bool)
            both[:pairs], both[count : count + pairs] = around, around
            found.append((both, swap))
        return found

    def _prior_penalty(self, logits: Maps, sources: tuple[str, ...]) -> Float[torch.Tensor, ""]:
        """Sum over the batch's sources s of (0.1 + l_s) relu(e_s).

        Here e_s = |log(m_s / pi_s)| - log 1.25, m_s is the running mean prediction, and pi_s the
        prior. The multiplier l_s moves by 0.05 e_s at each step, within [0, 10]. It grows while m_s
        and pi_s differ by more than a factor of 1.25.
        """
        probability = torch.sigmoid(logits).mean(dim=(1, 2, 3))
        penalty = torch.zeros((), device=logits.device)
        for source in sorted(set(sources)):
            members = torch.tensor([one == source for one in sources], device=logits.device)
            now = probability[members].mean()
            running = MEMORY * self._means.get(source, float(now.detach())) + (1 - MEMORY) * now
            self._means[source] = float(running.detach())
            # A batch has a share of 1 - MEMORY in the running mean. Without the division its
            # gradient would be smaller by this factor.
            steady = running.detach() + (running - running.detach()) / (1 - MEMORY)
            excess = (
                torch.log(steady.clamp(min=1e-6) / self._priors.get(source, self._prior)).abs()
                - PRIOR_TOLERANCE
            )
            multiplier = self._multipliers.get(source, 0.0)
            penalty = penalty + (PRIOR_WEIGHT + multiplier) * torch.relu(excess)
            self._multipliers[source] = min(
                max(multiplier + PRIOR_RATE * float(excess.detach()), 0.0), PRIOR_MOST
            )
        return penalty


class Averaged:
    """Another objective, whose model is the moving average of the network's weights.

    The average changes no step of the training: it is what is validated and saved (Polyak and
    Juditsky 1992). It covers buffers too, because BatchNorm's statistics belong to the weights. A
    teacher that is an average itself (`OnlineTeacher`) stays the teacher, with its own decay.

    Args:
        objective: the other one.
        decay: of the average, in (0, 1).
    """

    def __init__(self, objective: Objective, *, decay: float) -> None:
        self._objective, self._decay = objective, decay
        self._average: nn.Module = nn.Identity()

    def begin(self, network: nn.Module) -> None:
        """Start the average as a copy of the network."""
        self._objective.begin(network)
        self._average = average_of(network)

    def model(self, network: nn.Module) -> nn.Module:  # noqa: ARG002 (the average stands for it)
        """The moving average."""
        return self._average

    def loss(self, network: nn.Module, batch: Batch, *, step: int, device: torch.device) -> Scalar:
        """The other objective's loss of a step."""
        return self._objective.loss(network, batch, step=step, device=device)

    def after_step(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network, after the other objective's own work."""
        self._objective.after_step(network, step)
        move_average(self._average, network, step=step, decay=self._decay)

    def identity(self) -> dict[str, Any]:
        """The other objective's identity, and the decay."""
        return {**self._objective.identity(), "average_decay": self._decay}

    def state_dict(self) -> dict[str, Any]:
        """The other objective's state, and the average."""
        return {"objective": self._objective.state_dict(), "average": self._average.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load both."""
        self._objective.load_state_dict(state["objective"])
        self._average.load_state_dict(state["average"])


def average_of(network: nn.Module) -> nn.Module:
    """A copy of a network, in evaluation mode, for `move_average`."""
    return copy.deepcopy(network).eval().requires_grad_(requires_grad=False)


def move_average(average: nn.Module, network: nn.Module, *, step: int, decay: float) -> None:
    """Move an average towards a network; integer buffers are copied.

    The decay is min(1 - 1 / (step + 1), `decay`), with steps counted from 0: a plain mean at first,
    so that no initial weight is left in it.
    """
    decay = min(1 - 1 / (step + 1), decay)
    with torch.no_grad():
        current = network.state_dict()
        for name, kept in average.state_dict().items():
            if kept.is_floating_point():
                kept.lerp_(current[name], 1 - decay)
            else:
                kept.copy_(current[name])


def targets_and_weights(
    labels: torch.Tensor, batch: Batch, *, device: torch.device
) -> tuple[Maps, Maps]:
    """Target in [0, 1] and weight of each pixel.

    Args:
        labels: UInt8[b 1 h w], the batch's maps after their views.
        batch: with the weight of each tile, and the tables of soft targets.
        device: of the result.
    """
    weights = to_device(batch.weights, device).view(-1, 1, 1, 1)
    if batch.tables is None:
        return (labels == PARTICLE).float(), (labels != IGNORE) * weights
    tables = to_device(batch.tables, device)
    index = labels.long() + 256 * torch.arange(len(labels), device=device).view(-1, 1, 1, 1)
    return tables[:, 0].reshape(-1)[index], tables[:, 1].reshape(-1)[index] * weights


def _logits(network: nn.Module, pictures: torch.Tensor) -> Maps:
    logits: Maps = network(pictures.contiguous(memory_format=torch.channels_last)).float()
    return logits


def _some_particle(labels: torch.Tensor, draws: Any) -> tuple[int, int] | None:
    """A random PARTICLE pixel of a label map, None if it has none."""
    places = torch.nonzero(labels == PARTICLE)
    if len(places) == 0:
        return None
    y, x = places[int(draws.integers(len(places)))].tolist()
    return y, x
