r"""The linear model of residuals at a point, by products with its Jacobian alone."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from thalweg.errors import NonFiniteError
from thalweg.numerics.damped_least_squares import DampedStep
from thalweg.numerics.damping import column_scale
from thalweg.numerics.lanczos import inner
from thalweg.numerics.lsmr import lsmr
from thalweg.optim.dense_model import cosine_of
from thalweg.optim.residual_ground import ResidualGround
from thalweg.optim.residual_view import View


__all__ = ["ProductModel"]

_PROBES = 8
_LOOSEST = 0.1  # share of the gradient that an inexact solve may leave


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
        self.cosine = min(1.0, cosine_of(gradient, norms, math.sqrt(2 * view.fun)))
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
