"""Small networks that several problems share."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


__all__ = ["autoencoder", "cnn", "image_cnn", "perceptron"]


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


def image_cnn(shape: tuple[int, int, int], classes: int = 10) -> nn.Sequential:
    """Two convolutions of 16 and 32 channels with batch normalisation and ReLU, halved after each.

    Args:
        shape: Channels, height and width of an image.
        classes: Outputs of the linear layer.

    Example:
        >>> sum(p.numel() for p in image_cnn((1, 28, 28)).parameters())
        20586
    """
    channels, height, width = shape
    layers: list[nn.Module] = []
    for before, after in pairwise((channels, 16, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    features = 32 * (height // 4) * (width // 4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, classes))


def autoencoder(*widths: int) -> nn.Sequential:
    """Linear layers down the widths and up again, tanh between them, Glorot's uniform weights.

    The outputs are logits of the inputs.

    Example:
        >>> sum(p.numel() for p in autoencoder(784, 256, 128, 64, 16).parameters())
        487072
    """
    model = perceptron(*widths, *widths[-2::-1])
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model
