r"""The linear model of residuals at a point, its Jacobian decomposed."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from thalweg.errors import NonFiniteError
from thalweg.numerics.damped_least_squares import DampedLeastSquares, DampedStep
from thalweg.numerics.damping import column_scale
from thalweg.optim.residual_ground import ResidualGround
from thalweg.optim.residual_view import View


__all__ = ["DenseModel", "cosine_of"]


@final
class DenseModel:
    """The Jacobian as a matrix, decomposed.

    Args:
        ground: Where the method stands.
        view: The point of the model; where the method stands or a trial.
        before: The scale one step earlier.
        rule: Of the scale.
        cutoff: Of singular values.

    Raises:
        NonFiniteError: If an entry of the Jacobian is NaN or infinite.
    """

    def __init__(
        self,
        ground: ResidualGround,
        view: View,
        before: Tensor | None,
        rule: str,
        cutoff: float | None = None,
    ) -> None:
        jacobian, residuals = view.jacobian(), view.residuals.to(view.x)
        if not bool(jacobian.isfinite().all()):
            raise NonFiniteError("Least squares: the Jacobian has NaN or infinite entries.")
        norms = jacobian.norm(dim=0)
        self.scale = column_scale(norms, before, rule)
        size = math.sqrt(2 * view.fun)
        self.problem = DampedLeastSquares(jacobian, residuals, self.scale, cutoff, size)
        self.offset = self.problem.offset
        self.cosine = cosine_of(jacobian.T @ residuals, norms, size)
        self.rounding = ground.rounding(view, jacobian.abs() @ view.x.abs())

    @property
    def rank(self) -> int:
        """The rank of the Jacobian."""
        return self.problem.rank

    def damped(self, damping: float) -> DampedStep:
        """The step with a damping."""
        return self.problem.damped(damping)


def cosine_of(gradient: Tensor, norms: Tensor, size: float) -> float:
    """The largest cosine between the residuals and a column of J.

    Args:
        gradient: J'r.
        norms: The lengths of the columns.
        size: The length of the residuals.

    Example:
        >>> cosine_of(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0]), 5.0)
        0.6
    """
    if size == 0.0 or not gradient.numel():
        return 0.0
    # Divided before it is multiplied, so that nothing overflows.
    shares = gradient.double().abs() / torch.where(norms > 0, norms, torch.ones_like(norms))
    return float(shares.max()) / size
