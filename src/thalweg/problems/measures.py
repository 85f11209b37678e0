"""The metrics that built-in problems report beside their loss."""

from __future__ import annotations

from torch import Tensor

from thalweg.problems.metric import Metric


__all__ = ["ACCURACY", "EXPLAINED_VARIANCE", "MEAN_SQUARED_ERROR", "PIXEL_ERROR"]


def _accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).float().mean()


def _mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean()


def _explained_variance(outputs: Tensor, targets: Tensor) -> Tensor:
    spread = (targets - targets.mean(0)).square().sum()
    return 1 - (outputs - targets).square().sum() / spread


def _pixel_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.sigmoid() - targets).square().flatten(1).sum(1).mean()


ACCURACY = Metric("accuracy", _accuracy, True)
"""Share of samples whose largest output, over dimension 1, is the target class."""

MEAN_SQUARED_ERROR = Metric("mean squared error", _mean_squared_error, False)
"""Mean of the squared difference; outputs and targets have one shape."""

EXPLAINED_VARIANCE = Metric("R2", _explained_variance, True)
"""One minus the squared error over that of the targets' own mean; 0 for a constant, 1 for exact."""

PIXEL_ERROR = Metric("squared error", _pixel_error, False)
"""Squared error between the sigmoid of the outputs and the pixels, summed over an image."""
