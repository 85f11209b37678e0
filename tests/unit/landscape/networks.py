"""Small networks on which planes are measured."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.objective import AbstractClosure, Objective


def drawn(n: int, width: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, generator=generator)
    return x, torch.randint(classes, (n,), generator=generator)


def perceptron(*widths: int, bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(widths):
        layers += [nn.Linear(into, out, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def classifier(
    model: nn.Module, n: int = 40, width: int = 6, classes: int = 3, batches: int = 1
) -> AbstractClosure:
    """A closure on one batch, or a risk over ragged batches."""
    x, y = drawn(n, width, classes)
    objective = Objective(model, F.cross_entropy)
    if batches == 1:
        return objective.closure(x, y)
    size = n // batches + 1
    return objective.over(list(zip(x.split(size), y.split(size), strict=True)))


def images(n: int = 12, channels: int = 1, side: int = 6) -> Tensor:
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(1))
