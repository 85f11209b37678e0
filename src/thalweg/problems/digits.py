"""Handwritten digits of 8 by 8 pixels, with three models: the default problem.

1797 images from scikit-learn, 1168 to train on, 270 for validation and 359 for the test. A run of
400 steps takes 0.1 to 0.7 seconds of one core, without evaluation.

The targets were measured with torch's SGD (Nesterov 0.9), Adam and RMSprop at a constant learning
rate, the best of six values over three decades at one seed, then run with five fresh seeds: each
target is the median final validation loss of the second best optimizer, and 2 %, rounded.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
from torch.nn import functional as F

from thalweg.problems.data import Data
from thalweg.problems.metric import Target
from thalweg.problems.networks import cnn, perceptron
from thalweg.problems.problem import Problem


__all__ = ["digits", "digits_cnn", "digits_logistic"]


@cache
def digits_data() -> Data:
    """The images, divided by 16 to lie in [0, 1], and their digits; read once a process.

    Example:
        >>> [tuple(x.shape) for x, y in (digits_data().train, digits_data().validation)]
        [(1168, 64), (270, 64)]
    """
    from sklearn.datasets import load_digits  # scikit-learn takes a second to import

    images, labels = load_digits(return_X_y=True)
    return Data.split(
        np.asarray(images) / 16.0,
        labels,
        source="scikit-learn load_digits: the test set of Optical Recognition of Handwritten "
        "Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998",
        licence="CC BY 4.0 (UCI); BSD-3-Clause (scikit-learn)",
    )


def digits() -> Problem:
    """Digits with a perceptron: the problem that everything starts with.

    Example:
        >>> digits().steps, digits().batch_size
        (400, 64)
    """
    return Problem(
        "digits",
        partial(perceptron, 64, 64, 64, 10),
        F.cross_entropy,
        digits_data(),
        target=Target("validation_loss", 0.12),
        title="Handwritten digits, perceptron 64-64-64-10",
        description="Images of 8 by 8 pixels in ten classes; two hidden layers of 64 with tanh.",
    )


def digits_logistic() -> Problem:
    """Digits with logistic regression: the convex case.

    Example:
        >>> digits_logistic().name
        'digits-logistic'
    """
    return Problem(
        "digits-logistic",
        partial(perceptron, 64, 10),
        F.cross_entropy,
        digits_data(),
        target=Target("validation_loss", 0.13),
        title="Handwritten digits, logistic regression",
        description="Images of 8 by 8 pixels in ten classes; one linear layer, a convex problem.",
    )


def digits_cnn() -> Problem:
    """Digits with a small convolutional network.

    Example:
        >>> digits_cnn().name
        'digits-cnn'
    """
    return Problem(
        "digits-cnn",
        partial(cnn, 8),
        F.cross_entropy,
        digits_data(),
        target=Target("validation_loss", 0.12),
        title="Handwritten digits, small convolutional network",
        description="Images of 8 by 8 pixels in ten classes; two convolutions with ReLU.",
    )
