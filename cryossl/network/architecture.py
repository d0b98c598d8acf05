"""Build the segmentation network: one channel in, one logit per pixel out; several can be one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.decoders.linknet.decoder import LinknetDecoder
from torch import nn

from cryossl.config import NetworkSettings
from cryossl.errors import ConfigError, nearest
from cryossl.network.checkpoints import StateDict
from cryossl.randomness import seed_of

_USUAL = ("resnet18", "resnet34", "resnet50", "efficientnet-b0", "mobilenet_v2")


def build(settings: NetworkSettings, *, seed: int) -> nn.Module:
    """Build the network of the settings; its initial weights depend on the seed alone.

    Its input is Float[b 1 h w] of z scores, with h and w multiples of `multiple(settings)`. Its
    output is Float[b 1 h w] of logits of PARTICLE. Nothing is downloaded but the weights that
    `encoder_weights` names.

    Raises:
        ConfigError: the encoder cannot be built with these settings, or its weights cannot be
            fetched.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "network"))
            network: nn.Module = smp.create_model(
                settings.architecture,
                encoder_name=settings.encoder,
                encoder_depth=settings.encoder_depth,
                in_channels=1,
                classes=1,
                encoder_weights=_weights(settings),
                **_decoder(settings),
            )
            if settings.architecture == "linknet":
                _widen_linknet(network, settings)
    except OSError:
        raise ConfigError(
            f"the imagenet weights of encoder {settings.encoder!r} cannot be fetched",
            cure="use --encoder-weights none, or fetch them once while online",
        ) from None
    except (KeyError, RuntimeError, ValueError, TypeError, IndexError) as error:
        _refuse_unknown(settings.encoder, str(error))
        cause = (
            str(error).strip("\"'").splitlines()[0][:120] if str(error) else type(error).__name__
        )
        raise ConfigError(
            f"encoder {settings.encoder!r} with depth {settings.encoder_depth} cannot be built: "
            f"{cause}",
            cure="choose another --encoder or --encoder-depth",
        ) from None
    return network


def _refuse_unknown(encoder: str, said: str) -> None:
    """Raise ConfigError that lists the encoders if there is none of this name.

    `said`: the error of the library, which knows the names of timm.
    """
    known = sorted(name for name in smp.encoders.get_encoder_names() if name[:3] != "tu-")
    if encoder not in known and (encoder[:3] != "tu-" or "Unknown model" in said):
        raise ConfigError(
            f"there is no encoder {encoder!r:.80}",
            cure=f"{nearest(encoder.removeprefix('tu-'), known)}there are {', '.join(_USUAL)} and "
            f"{len(known) - len(_USUAL)} others (segmentation-models-pytorch's documentation lists "
            "them), and tu-NAME for each model of timm",
        )


def multiple(settings: NetworkSettings) -> int:
    """The number, in px, of which the sides of a tile must be multiples.

    The encoder halves a tile `encoder_depth` times.
    """
    return int(2**settings.encoder_depth)


def _weights(settings: NetworkSettings) -> str | bool | None:
    if settings.encoder_weights == "none":
        return None
    # An encoder of timm has the name of its weights in its own name, and takes True or None.
    return True if settings.encoder.startswith("tu-") else settings.encoder_weights


def _decoder(settings: NetworkSettings) -> dict[str, Any]:
    """The decoder's widths: `decoder_width` at the finest stage, doubled at each coarser one."""
    widths = tuple(
        settings.decoder_width * 2**stage for stage in reversed(range(settings.encoder_depth))
    )
    if settings.architecture == "fpn":
        # FPN's group normalisation needs a multiple of 32 channels. The head enlarges the output of
        # the pyramid to the size of the tile.
        return {
            "decoder_pyramid_channels": widths[0],
            "decoder_segmentation_channels": -(-widths[1] // 32) * 32,
            "upsampling": 2 ** (settings.encoder_depth - 3),
        }
    return {} if settings.architecture == "linknet" else {"decoder_channels": widths}


def _widen_linknet(network: smp.Linknet, settings: NetworkSettings) -> None:
    """Give LinkNet's finest stage `decoder_width` channels.

    The other widths are the encoder's. `smp.create_model` has no argument for the finest one.
    """
    network.decoder = LinknetDecoder(
        encoder_channels=network.encoder.out_channels,
        n_blocks=settings.encoder_depth,
        prefinal_channels=settings.decoder_width,
    )
    network.segmentation_head = SegmentationHead(
        in_channels=settings.decoder_width, out_channels=1, kernel_size=1
    )
    network.initialize()


# --- several networks as one


class Ensemble(nn.Module):
    """Networks of one kind with different weights: their mean probability, returned as a logit."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Float[b 1 h w] of z scores -> logits, fp32."""
        found = [torch.sigmoid(network(pictures).float()) for network in self.networks]
        return torch.logit(torch.stack(found).mean(dim=0), eps=1e-7)


def together(networks: Sequence[nn.Module]) -> nn.Module:
    """The networks as one; a single network is itself."""
    return networks[0] if len(networks) == 1 else Ensemble(networks)


def weights_together(weights: Sequence[StateDict]) -> StateDict:
    """The weights of `together`, from those of its networks in the same order."""
    if len(weights) == 1:
        return weights[0]
    return {
        f"networks.{number}.{name}": tensor
        for number, one in enumerate(weights)
        for name, tensor in one.items()
    }
