r"""The linear model of residuals at a point: as a matrix, or by products."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from thalweg.numerics.damped_least_squares import DampedStep
from thalweg.optim.dense_model import DenseModel
from thalweg.optim.product_model import ProductModel
from thalweg.optim.residual_ground import ResidualGround
from thalweg.optim.residual_view import View


__all__ = ["LinearModel", "linear_model"]

_ENTRIES, _SIDE = 2**24, 3000  # of a matrix that is decomposed


class LinearModel(Protocol):
    """What a least-squares method knows at a point.

    ``scale`` is the diagonal of D; ``offset`` the root of the share of the cost that the model
    removes; ``cosine`` the largest cosine between the residuals and a column of J; ``rounding`` how
    far the cost may be off.
    """

    scale: Tensor
    offset: float
    cosine: float
    rounding: float

    def damped(self, damping: float) -> DampedStep:
        """The step with a damping."""
        ...


def linear_model(
    ground: ResidualGround, view: View, setting: dict[str, Any], before: Tensor | None
) -> DenseModel | ProductModel:
    """The model that the setting asks for; ``"auto"`` decomposes what is not too large."""
    m, n = view.residuals.numel(), view.x.numel()
    rule = setting.get("scaling", "marquardt")
    small = m * n <= _ENTRIES and min(m, n) <= _SIDE
    if setting["solver"] == "svd" or (setting["solver"] == "auto" and small):
        return DenseModel(ground, view, before, rule, setting.get("cutoff"))
    return ProductModel(ground, view, before, rule)
