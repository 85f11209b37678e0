"""Small networks that several problems share."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


__all__ = ["cnn", "perceptron"]


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers from the first width to the last, tanh between them.

    Two widths make it linear: logistic regression, under cross-entropy.

    Example:
        >>> sum(p.numel() for p in perceptron(64, 64, 64, 10).parameters())
        8970
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def cnn(side: int, classes: int = 10) -> nn.Sequential:
    """Two convolutions of 8 and 16 channels with ReLU, halved after each, and a linear layer.

    Example:
        >>> sum(p.numel() for p in cnn(8).parameters())
        1898
    """
    return nn.Sequential(
        nn.Unflatten(1, (1, side, side)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (side // 4) ** 2, classes),
    )
