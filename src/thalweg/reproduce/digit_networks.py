"""Small networks trained on the digits, for experiments about what lies between their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.landscape import Trajectory
from thalweg.objective import Closure, Objective, Risk
from thalweg.problems.digits import digits_data
from thalweg.problems.streams import generator, global_stream, minibatches


__all__ = ["Trained", "closure", "layers", "risk", "train"]


@final
@dataclass(frozen=True, eq=False)
class Trained:
    """A network in evaluation mode, and where it comes from.

    Args:
        model: The network.
        path: Where it walked.
    """

    model: nn.Module
    path: Trajectory

    @property
    def start(self) -> Tensor:
        """Its first weights, flat."""
        return self.path.matrix()[0]


def layers(
    *widths: int, activation: Callable[[], nn.Module] = nn.ReLU, norm: bool = False
) -> nn.Sequential:
    """Linear layers with an activation between them, after BatchNorm if wanted.

    Example:
        >>> [type(layer).__name__ for layer in layers(2, 3, 1, norm=True)]
        ['Linear', 'BatchNorm1d', 'ReLU', 'Linear']
    """
    made: list[nn.Module] = []
    for before, after in pairwise(widths):
        made += [nn.Linear(before, after)]
        made += [nn.BatchNorm1d(after)] if norm else []
        made += [activation()]
    cut = 2 if norm else 1
    return nn.Sequential(*made[:-cut])


def train(
    build: Callable[[], nn.Module],
    optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer],
    steps: int,
    seed: int,
    batch: int = 64,
    every: int = 20,
) -> Trained:
    """Train a network on the digits; everything follows from the seed."""
    x, y = digits_data().train
    with global_stream(seed, "initialisation"):
        model = build()
    stepper = optimizer(model.parameters())
    with Trajectory(stepper, every, params=model) as path:
        for inputs, targets in islice(minibatches(x, y, batch, generator(seed, "order")), steps):
            stepper.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            stepper.step()
    return Trained(model.eval(), path)


def closure(model: nn.Module, split: str = "train") -> Closure:
    """The cross-entropy on all digits of a split."""
    return Objective(model, F.cross_entropy).closure(*digits_data().of(split))


def risk(model: nn.Module, batch: int = 146) -> Risk:
    """The cross-entropy on the training digits in batches."""
    x, y = digits_data().train
    return Objective(model, F.cross_entropy).over(zip(x.split(batch), y.split(batch), strict=True))
