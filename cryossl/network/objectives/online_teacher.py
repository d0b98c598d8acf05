"""Consistency with a teacher that is the moving average of the student."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from cryossl.data.labels import IGNORE, PARTICLE
from cryossl.network.augment import box_mask, strong_view, weak_view
from cryossl.network.batches import Batch
from cryossl.network.device import Replayed, to_device
from cryossl.network.losses import Loss, Maps, Scalar, loss_of
from cryossl.network.objectives.averaged import average_of, move_average
from cryossl.network.objectives.objective import Inputs, logits_of, targets_and_weights
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
        self._replayed = Replayed(wanted=False)
        self._confidence: float | torch.Tensor = settings.particle_range[0]
        self._means: dict[str, float] = {}
        self._multipliers: dict[str, float] = {}

    @property
    def replayable(self) -> bool:
        """Without the prior's penalty, whose running means are numbers of Python."""
        return not self._settings.match_prior

    def begin(self, network: nn.Module, *, captured: bool = False) -> None:
        """Start the average as a copy of the network."""
        self._average = average_of(network)
        self._replayed = Replayed(wanted=captured)

    def model(self, network: nn.Module) -> nn.Module:  # noqa: ARG002 (the average stands for it)
        """The moving average."""
        return self._average

    def inputs(self, batch: Batch, *, step: int, device: torch.device) -> Inputs:
        """Weak views of labelled tiles, strong views of the others with the average's labels."""
        seed, iteration = self._counter
        count = batch.labelled
        pictures, labels = weak_view(
            to_device(batch.pictures, device),
            to_device(batch.labels, device),
            generator=generator(seed, "augment", iteration, step),
            any_angle=self._any_angle,
        )
        target, weight = targets_and_weights(labels, batch, device=device)
        with torch.no_grad():
            guess = self._replayed(self._probabilities, pictures[count:])
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
        return Inputs(pictures, target, weight, count, batch.sources)

    def loss(self, network: nn.Module, inputs: Inputs) -> Scalar:
        """The loss on labelled tiles plus that on the others."""
        count, target, weight = inputs.labelled, inputs.target, inputs.weight
        logits = logits_of(network, inputs.pictures)
        total = self._loss(
            logits[:count], target[:count], weight[:count]
        ) + self._settings.weight * self._loss(logits[count:], target[count:], weight[count:])
        return (
            total + self._prior_penalty(logits[count:], inputs.sources[count:])
            if self._settings.match_prior
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
            "confidence": float(self._confidence),
            "means": dict(self._means),
            "multipliers": dict(self._multipliers),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the average, the running means and the multipliers."""
        self._average.load_state_dict(state["average"])
        self._confidence, self._means = state["confidence"], dict(state["means"])
        # A checkpoint of a training without the penalty may have none.
        self._multipliers = dict(state.get("multipliers", {}))

    def _probabilities(self, pictures: torch.Tensor) -> Maps:
        return torch.sigmoid(logits_of(self._average, pictures))

    def _pseudo(self, guess: Maps) -> tuple[Maps, Maps]:
        """Target and weight of each pixel from the average's probabilities.

        The threshold for particles is the running mean of the average's own confidence.
        """
        low, high = self._settings.particle_range
        threshold: float | torch.Tensor
        if guess.is_cuda:
            self._confidence = moved_confidence(self._confidence, guess)
            threshold = self._confidence.clamp(low, high)
        else:
            particle = guess >= 0.5
            if bool(particle.any()):
                self._confidence = MEMORY * float(self._confidence) + (1 - MEMORY) * float(
                    guess[particle].mean()
                )
            threshold = min(max(float(self._confidence), low), high)
        taken = guess >= threshold
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


def moved_confidence(confidence: float | torch.Tensor, guess: Maps) -> Float[torch.Tensor, ""]:
    """The running mean of the probability of particle pixels, moved by one batch.

    Nothing waits for the device. On a CPU, Python computes it in double precision, as before.
    """
    particle = guess >= 0.5
    count = particle.sum()
    now = torch.where(particle, guess.float(), 0.0).sum() / count.clamp(min=1)
    before = (
        confidence
        if isinstance(confidence, torch.Tensor)
        else torch.full((), confidence, device=guess.device)
    )
    return torch.where(count > 0, MEMORY * before + (1 - MEMORY) * now, before)


def _some_particle(labels: torch.Tensor, draws: Any) -> tuple[int, int] | None:
    """A random PARTICLE pixel of a label map, None if it has none."""
    places = torch.nonzero(labels == PARTICLE)
    if len(places) == 0:
        return None
    y, x = places[int(draws.integers(len(places)))].tolist()
    return y, x
