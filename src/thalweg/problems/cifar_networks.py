"""CIFAR-10 and CIFAR-100 with residual networks; training crops and mirrors, as the papers do.

A run takes from half an hour to many hours of one core. There is no target yet: nobody has tuned
the baselines here with this package. The default of 2,000 steps is about six epochs of 128 images;
the papers take 160 to 200 epochs, 56,000 steps and more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import nn
from torch.nn import functional as F

from thalweg.problems.cifar import CIFAR10, CIFAR100, MEANS, STDS, cifar_data
from thalweg.problems.data import Data
from thalweg.problems.pixels import CropAndFlip, Pixels
from thalweg.problems.problem import Problem
from thalweg.problems.residual import resnet18, resnet20, resnet32


__all__ = ["cifar10_resnet18", "cifar10_resnet20", "cifar100_resnet32"]


def _network(build: Callable[[int], nn.Module], classes: int) -> nn.Sequential:
    return nn.Sequential(Pixels(MEANS, STDS), CropAndFlip(), build(classes))


def cifar10_resnet20(root: str | Path | None = None, download: bool = False) -> Problem:
    """CIFAR-10 with the residual network of 20 layers.

    Raises:
        FileNotFoundError: If the files are nowhere.
    """
    return _problem(
        "cifar10-resnet20", resnet20, 10, cifar_data(CIFAR10, b"labels", root, download)
    )


def cifar10_resnet18(root: str | Path | None = None, download: bool = False) -> Problem:
    """CIFAR-10 with the wide residual network of 18 layers.

    Raises:
        FileNotFoundError: If the files are nowhere.
    """
    return _problem(
        "cifar10-resnet18", resnet18, 10, cifar_data(CIFAR10, b"labels", root, download)
    )


def cifar100_resnet32(root: str | Path | None = None, download: bool = False) -> Problem:
    """CIFAR-100 with the residual network of 32 layers.

    Raises:
        FileNotFoundError: If the files are nowhere.
    """
    data = cifar_data(CIFAR100, b"fine_labels", root, download)
    return _problem("cifar100-resnet32", resnet32, 100, data)


def _problem(name: str, build: Callable[[int], nn.Module], classes: int, data: Data) -> Problem:
    layers = build.__name__.removeprefix("resnet")
    return Problem(
        name,
        partial(_network, build, classes),
        F.cross_entropy,
        data,
        batch_size=128,
        steps=2000,
        probe=5000,
        title=f"CIFAR-{classes}, ResNet-{layers}",
        description=f"Photographs of 32 by 32 pixels in {classes} classes, cropped and mirrored at "
        f"random; a residual network of {layers} layers.",
    )
