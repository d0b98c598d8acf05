"""What a training step minimises: a loss on labels, or consistency with a teacher that is the student's own average.

An objective draws from counters (seed, iteration, step), so it has no state but what `state_dict`
returns, and a training goes on after an interruption as if there had been none.
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

MEMORY = (
    0.95  # of the running means: of the particle confidence, and of the prediction of each source
)
PRIOR_WEIGHT = 0.1
PRIOR_TOLERANCE = math.log(
    1.25
)  # the band is a factor of 1.5; the pull starts sooner, as few tiles a step make the mean vary
PRIOR_RATE = 0.05
PRIOR_MOST = 10.0
PENALTY = [PRIOR_WEIGHT, PRIOR_TOLERANCE, PRIOR_RATE, PRIOR_MOST]


@runtime_checkable
class Objective(Protocol):
    """What `training.fit` asks of an objective."""

    def begin(self, network: nn.Module) -> None:
        """Hears the network once, on its device, before the first step or a checkpoint's state."""

    def model(self, network: nn.Module) -> nn.Module:
        """The network that is validated and kept."""

    def loss(self, network: nn.Module, batch: Batch, *, step: int, device: torch.device) -> Scalar:
        """The loss of a step, in fp32, under the caller's autocast."""

    def after_step(self, network: nn.Module, step: int) -> None:
        """Hears that the step's update was made."""

    def identity(self) -> dict[str, Any]:
        """What decides the loss, in JSON's types."""

    def state_dict(self) -> dict[str, Any]:
        """What changes from step to step: tensors and numbers."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take such a state."""


class Supervised:
    """A loss between the network's answer to weak views and their labels, be they true, pseudo or soft.

    Args:
        seed: of the run.
        iteration: of self-training; with seed and step it decides the views.
        loss: its name.
        prior: particle ratio of the labelled part, which the weighted loss wants.
        noise: whether tiles are seen under noise and with boxes of each other.
    """

    def __init__(
        self,
        *,
        seed: int,
        iteration: int,
        loss: LossName = "bce_dice",
        prior: float = 0.5,
        noise: bool = False,
    ) -> None:
        self._counter, self._noise = (seed, iteration), noise
        self._identity = {
            "loss": loss,
            "prior": prior if loss == "weighted" else None,
            "noise": noise,
        }
        self._loss = loss_of(loss, prior=prior)

    def begin(self, network: nn.Module) -> None:
        """Nothing to prepare."""

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
        )
        target, weight = targets_and_weights(labels, batch, device=device)
        if self._noise:
            pictures, target, weight = noised(
                pictures, target, weight, generator=generator(seed, "noise", iteration, step)
            )
        return self._loss(_logits(network, pictures), target, weight)

    def after_step(self, network: nn.Module, step: int) -> None:
        """Nothing changes but the network."""

    def identity(self) -> dict[str, Any]:
        """Loss, and the prior where it decides the loss."""
        return self._identity

    def state_dict(self) -> dict[str, Any]:
        """None."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """None."""


class OnlineTeacher:
    """Weak-to-strong consistency with a teacher that is the student's own moving average.

    Labelled tiles are learned as in `Supervised`. On unlabelled ones the student learns, from a
    strong view, what its average says of the weak view.

    FixMatch (Sohn et al. 2020, arXiv 2001.07685) with the mean teacher of Tarvainen and Valpola
    (2017, arXiv 1703.01780) as in UniMatch V2 (Yang et al. 2024, arXiv 2410.10777), CutMix (Yun et
    al. 2019, arXiv 1905.04899), and on request bidirectional copy-paste (Bai et al. 2023, arXiv
    2305.00673) and Topaz's pull to a known particle ratio (Bepler et al. 2019), made tolerant, with
    a multiplier learned as in Platt and Barr (1988). The average covers buffers too, or its
    BatchNorm would answer for another network.

    Args:
        seed, iteration, loss: as for `Supervised`.
        settings: thresholds, weights and plug-ins.
        priors: source -> particle ratio, in (0, 1).
        prior: of the labelled part.
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
    ) -> None:
        self._counter, self._settings = (seed, iteration), settings
        self._priors, self._prior = dict(priors), prior
        self._loss_name: LossName = loss
        self._loss: Loss = loss_of(loss, prior=prior)
        self._average: nn.Module = nn.Identity()
        self._confidence = settings.particle_range[0]
        self._means: dict[str, float] = {}
        self._multipliers: dict[str, float] = {}

    def begin(self, network: nn.Module) -> None:
        """The average starts as the network it is given."""
        self._average = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)

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
        """Move the average: decay min(1 - 1 / (step + 1), `decay`) with steps counted from 0; integer buffers are copied."""
        decay = min(1 - 1 / (step + 1), self._settings.decay)
        with torch.no_grad():
            current = network.state_dict()
            for name, kept in self._average.state_dict().items():
                if kept.is_floating_point():
                    kept.lerp_(current[name], 1 - decay)
                else:
                    kept.copy_(current[name])

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
        """Take a state."""
        self._average.load_state_dict(state["average"])
        self._confidence, self._means = state["confidence"], dict(state["means"])
        self._multipliers = dict(
            state.get("multipliers", {})
        )  # a checkpoint made without a penalty may have none

    def _pseudo(self, guess: Maps) -> tuple[Maps, Maps]:
        """Target and weight of what the average says; its particle threshold follows its own confidence."""
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
        """(mask, order) of each exchange: inside its mask a tile takes what the tile `order` names has there.

        CutMix among the unlabelled tiles; with `paste` also a box around a labelled particle into
        an unlabelled tile, and what was there into the labelled one. Pictures, targets and weights
        move together.
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
        """(0.1 + l_s) relu(e_s), e_s = |log(m_s / pi_s)| - log 1.25, over the batch's sources; m_s: running mean prediction.

        The multiplier l_s moves by 0.05 e_s a step, within [0, 10]: it grows while the source is
        beyond a factor of 1.25.
        """
        probability = torch.sigmoid(logits).mean(dim=(1, 2, 3))
        penalty = torch.zeros((), device=logits.device)
        for source in sorted(set(sources)):
            members = torch.tensor([one == source for one in sources], device=logits.device)
            now = probability[members].mean()
            running = MEMORY * self._means.get(source, float(now.detach())) + (1 - MEMORY) * now
            self._means[source] = float(running.detach())
            # The mean moves by 1 - MEMORY of each batch; dividing by it gives the gradient the
            # batch's own size.
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


def targets_and_weights(
    labels: torch.Tensor, batch: Batch, *, device: torch.device
) -> tuple[Maps, Maps]:
    """What each pixel is to be learned as, in [0, 1], and how strongly, from the maps of a batch after its views."""
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
