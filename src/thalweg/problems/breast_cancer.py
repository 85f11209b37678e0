"""A diagnosis from thirty measures of cell nuclei, by logistic regression; from scikit-learn."""

from __future__ import annotations

from functools import cache, partial

from torch.nn import functional as F

from thalweg.problems.data import Data
from thalweg.problems.metric import Target
from thalweg.problems.networks import perceptron
from thalweg.problems.problem import Problem


__all__ = ["breast_cancer"]


@cache
def breast_cancer_data() -> Data:
    """Thirty measures of cell nuclei, and whether the tumour is benign (1) or malignant (0)."""
    from sklearn.datasets import load_breast_cancer  # takes a second to import

    inputs, labels = load_breast_cancer(return_X_y=True)
    return Data.split(
        inputs,
        labels,
        source="scikit-learn load_breast_cancer: Breast Cancer Wisconsin (Diagnostic), W. Wolberg, "
        "W. Street and O. Mangasarian, UCI Machine Learning Repository, 1995",
        licence="CC BY 4.0 (UCI); BSD-3-Clause (scikit-learn)",
    ).standardised()


def breast_cancer() -> Problem:
    """Benign or malignant, by logistic regression: small, real and convex.

    Example:
        >>> len(breast_cancer().data.train[0])
        370
    """
    return Problem(
        "breast-cancer",
        partial(perceptron, 30, 2),
        F.cross_entropy,
        breast_cancer_data(),
        target=Target("validation_loss", 0.0674),
        title="Breast cancer, logistic regression",
        description="Benign or malignant from thirty measures of cell nuclei; one linear layer, a "
        "convex problem.",
    )
