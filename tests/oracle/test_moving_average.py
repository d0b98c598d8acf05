"""The moving average of weights against torch.optim.swa_utils.AveragedModel."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from cryossl.network.objectives.averaged import average_of, move_average


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.999])
def test_the_average_is_that_of_torch_with_the_same_decay_at_each_step(decay):
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))

    def towards(kept: torch.Tensor, current: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        # torch takes the first network as it is, and counts from it.
        memory = min(1 - 1 / (float(number) + 1), decay)
        return memory * kept + (1 - memory) * current

    theirs = AveragedModel(network, avg_fn=towards, use_buffers=True)
    ours = average_of(network)
    draws = torch.Generator().manual_seed(0)
    for step in range(20):
        network.train()(torch.randn(2, 1, 8, 8, generator=draws))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=draws))
        move_average(ours, network, step=step, decay=decay)
        theirs.update_parameters(network)
    expected = theirs.module.state_dict()
    for name, found in ours.state_dict().items():
        if found.is_floating_point():
            torch.testing.assert_close(found, expected[name])
    assert not torch.equal(ours[0].weight, network[0].weight)
    assert int(ours[1].num_batches_tracked) == 20
