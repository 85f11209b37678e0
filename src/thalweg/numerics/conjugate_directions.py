r"""The recurrence of conjugate gradients, a direction at a time, for those who watch it.

A solver, a trust region and a truncated Newton method differ in where they stop and in what they
remember; what they do between is this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from thalweg.numerics.lanczos import inner


__all__ = ["ConjugateDirections"]

Product = Callable[[Tensor], Tensor]


@final
class ConjugateDirections:
    r"""Directions d that are conjugate with respect to A, from a residual r = b - A x.

    The user moves its own x: by ``look`` it learns the curvature :math:`d^\top A d` (one product),
    by ``move`` it is told the length :math:`\alpha` of the step along d, and the next direction is
    there.

    Args:
        product: v -> A v on flat tensors.
        residual: b - A x at the start; not changed.
        preconditioner: v -> P v, symmetric and positive, close to the inverse of A.

    Example:
        >>> x, cg = torch.zeros(2), ConjugateDirections(lambda v: 2 * v, torch.ones(2))
        >>> cg.look(), cg.move()
        (4.0, 0.5)
        >>> cg.squares
        0.0
    """

    def __init__(
        self, product: Product, residual: Tensor, preconditioner: Product | None = None
    ) -> None:
        self._product, self._preconditioner = product, preconditioner
        self.residual = residual.clone()
        self.squares = inner(self.residual, self.residual)  # r'r
        z = self._conditioned()
        self.direction = z.clone()
        self.slope = self._slope(z)  # r'z = r'd
        self.turned = torch.zeros_like(residual)  # A d
        self.curvature = 0.0  # d'A d
        self.turn = 0.0  # the beta of d = z + beta d
        self.products = 0

    def look(self) -> float:
        """Multiply the direction, and return its curvature."""
        self.turned = self._product(self.direction)
        self.products += 1
        self.curvature = inner(self.direction, self.turned)
        return self.curvature

    def move(self) -> float:
        """The length of the step to the minimum along the direction; then turn to the next."""
        length = self.slope / self.curvature
        self.residual.sub_(self.turned, alpha=length)
        self.squares = inner(self.residual, self.residual)
        z = self._conditioned()
        before, self.slope = self.slope, self._slope(z)
        self.turn = self.slope / before if before else 0.0
        self.direction = torch.add(z, self.direction, alpha=self.turn)
        return length

    def _conditioned(self) -> Tensor:
        if self._preconditioner is None:
            return self.residual
        return self._preconditioner(self.residual)

    def _slope(self, z: Tensor) -> float:
        return self.squares if self._preconditioner is None else inner(self.residual, z)
