"""One neuron with one input: two parameters, so that the whole loss surface is a picture."""

from __future__ import annotations

from functools import cache
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.problems.data import Data
from thalweg.problems.metric import Target
from thalweg.problems.problem import Problem
from thalweg.problems.streams import generator


__all__ = ["Neuron", "sigmoid_neuron"]


@final
class Neuron(nn.Module):
    r"""One neuron, :math:`\sigma(w x + b)`, that starts saturated.

    Two parameters: the loss surface is a picture, and it has a plateau. Weight and bias start near
    -3, drawn from a normal distribution of standard deviation 0.3.

    Example:
        >>> model = Neuron()
        >>> sum(p.numel() for p in model.parameters())
        2
    """

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)
        nn.init.normal_(self.line.weight, -3.0, 0.3)
        nn.init.normal_(self.line.bias, -3.0, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs in (0, 1), shape ``(n, 1)``, of inputs of the same shape."""
        return torch.sigmoid(self.line(x))


@cache
def neuron_data() -> Data:
    """Inputs in [-4, 4] and the outputs of the neuron with weight 1.5 and bias 0.5."""
    inputs = torch.rand(300, 1, generator=generator(0, "neuron")) * 8 - 4
    return Data.split(
        inputs, torch.sigmoid(1.5 * inputs + 0.5), source="made from a seed", licence="MIT"
    )


def sigmoid_neuron() -> Problem:
    """One neuron under the squared error, from its plateau to a known minimum.

    Example:
        >>> sigmoid_neuron().title
        'One sigmoid neuron'
    """
    return Problem(
        "sigmoid-neuron",
        Neuron,
        F.mse_loss,
        neuron_data(),
        batch_size=None,
        target=Target("validation_loss", 1.06e-06),
        steps=300,
        title="One sigmoid neuron",
        description="One input, a weight and a bias, squared error, full batch; the start is on a "
        "plateau, the minimum at weight 1.5 and bias 0.5 with loss 0.",
    )
