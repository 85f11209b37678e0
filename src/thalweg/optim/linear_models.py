r"""The linear model of residuals at a point, as a matrix or by products."""

from __future__ import annotations

import math
from typing import Any, Protocol, final

import torch
from torch import Tensor

from thalweg.errors import NonFiniteError
from thalweg.numerics.damped_least_squares import DampedLeastSquares, DampedStep
from thalweg.numerics.damping import column_scale
from thalweg.numerics.lanczos import inner
from thalweg.numerics.lsmr import lsmr
from thalweg.optim.residual_ground import ResidualGround, View


__all__ = ["DenseModel", "LinearModel", "ProductModel", "linear_model"]

_ENTRIES, _SIDE = 2**24, 3000  # of a matrix that is decomposed
_PROBES = 8
_LOOSEST = 0.1  # share of the gradient that an inexact solve may leave


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
        self.cosine = _cosine(jacobian.T @ residuals, norms, size)
        self.rounding = ground.rounding(view, jacobian.abs() @ view.x.abs())

    @property
    def rank(self) -> int:
        """The rank of the Jacobian."""
        return self.problem.rank

    def damped(self, damping: float) -> DampedStep:
        """The step with a damping."""
        return self.problem.damped(damping)


@final
class ProductModel:
    """Products with the Jacobian and its transpose, and LSMR.

    The columns' lengths are estimated from eight backward passes with random signs. The solve is
    inexact: it leaves at most a tenth of the gradient, and less as the method converges.

    Args:
        ground: Where the method stands.
        view: The point of the model.
        before: The scale one step earlier.
        rule: Of the scale.

    Raises:
        NonFiniteError: If the gradient is NaN or infinite.
    """

    def __init__(
        self, ground: ResidualGround, view: View, before: Tensor | None, rule: str
    ) -> None:
        self._ground, self._view = ground, view
        self._r = view.residuals.to(view.x)
        gradient = view.adjoint(self._r)
        if not bool(gradient.isfinite().all()):
            raise NonFiniteError("Least squares: the gradient has NaN or infinite entries.")
        norms = self._norms()
        self.scale = column_scale(norms, before, rule)
        # An estimate may be too low, a cosine not above 1.
        self.cosine = min(1.0, _cosine(gradient, norms, math.sqrt(2 * view.fun)))
        self.offset = self.cosine
        moved = view.forward(ground.split(view.x.clone()))
        self.rounding = ground.rounding(view, moved.abs())

    def _norms(self) -> Tensor:
        generator = torch.Generator().manual_seed(20_263)
        squares = torch.zeros_like(self._view.x)
        for _ in range(_PROBES):
            signs = torch.randint(0, 2, self._r.shape, generator=generator).to(self._r) * 2 - 1
            squares += self._view.adjoint(signs).square()
        return (squares / _PROBES).sqrt()

    def damped(self, damping: float) -> DampedStep:
        """The step with a damping, nearly."""
        scale, split = self.scale, self._ground.split
        solved = lsmr(
            lambda v: self._view.forward(split(v / scale)).to(v),
            lambda u: self._view.adjoint(u) / scale,
            -self._r,
            math.sqrt(damping),
            min(_LOOSEST, math.sqrt(self.cosine)),
        )
        step = solved.x / scale
        moved = self._view.forward(split(step)).to(step)
        slope, fitted = inner(moved, self._r), inner(moved, moved)
        length = math.sqrt(inner(solved.x, solved.x))
        fall = -slope - 0.5 * fitted
        return DampedStep(step, damping, length, fall, slope, damping == 0.0)


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


def _cosine(gradient: Tensor, norms: Tensor, size: float) -> float:
    if size == 0.0 or not gradient.numel():
        return 0.0
    # Divided before it is multiplied, so that nothing overflows.
    shares = gradient.double().abs() / torch.where(norms > 0, norms, torch.ones_like(norms))
    return float(shares.max()) / size
