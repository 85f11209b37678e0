r"""Steihaug and Toint's truncated conjugate gradients within a ball, and their path, to be cut again.

Conjugate gradients on :math:`g^\top p + \tfrac12 p^\top H p` from 0 make points of growing length
and falling model value. The step is where this path ends, leaves the ball, or meets a direction of
negative curvature, along which it goes to the edge. For a smaller ball the same path is cut
earlier: after a rejected trial no product is taken again.

References:
    Steihaug, The conjugate gradient method and trust regions in large scale optimization, 1983.
    Toint, Towards an efficient sparsity exploiting Newton method for minimization, 1981.
    Nash and Sofer, Assessing a search direction within a truncated-Newton method, 1990.
    Conn, Gould and Toint, Trust-region methods, 2000, algorithm 7.5.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from thalweg.errors import NonFiniteError, bad_argument
from thalweg.numerics.conjugate_directions import ConjugateDirections, Product
from thalweg.numerics.lanczos import inner
from thalweg.numerics.quadratic_model import ModelStep


__all__ = ["ConjugatePath", "Truncation", "steihaug", "to_boundary"]


@final
@dataclass(frozen=True)
class Truncation:
    r"""When conjugate gradients on a model are good enough.

    Args:
        residual: At a residual of this share of the gradient's length; the forcing term.
        decrease: Where the i-th move brought less than this, over i, of all that was gained: the
            test of Nash and Sofer, which sees progress where residuals do not; 0 for never.
        most: Products at most; None is twice the number of entries.
        flat: A curvature below this share of the largest that was met counts as negative; for
            searches along the result, which has no region to bound it.

    Example:
        >>> Truncation(residual=0.1).most is None
        True
    """

    residual: float = 1e-5
    decrease: float = 0.0
    most: int | None = None
    flat: float = 0.0


class _Piece(NamedTuple):
    """A move of the path: from z along d, to the minimum at ``length`` or as far as one likes."""

    direction: Tensor
    length: float  # inf along negative curvature
    slope: float  # what the model falls by at first, for each unit of d
    curvature: float  # d'Hd
    before: float  # |z|^2
    cross: float  # z'd
    squares: float  # |d|^2
    fallen: float  # the model's decrease at z

    def fall(self, t: float) -> float:
        return self.fallen + t * (self.slope - 0.5 * t * self.curvature)

    def reach(self, t: float) -> float:
        """|z + t d|^2."""
        return self.before + t * (2 * self.cross + t * self.squares)


@final
class ConjugatePath:
    """The path of conjugate gradients, as far as it was followed.

    Args:
        radius: Of the ball in which it was made.
        pieces: Its moves.
        why: ``"residual"``, ``"decrease"``, ``"limit"``, ``"boundary"`` or ``"negative"``.
        products: Products taken.
        like: A tensor as the steps are to be.

    Example:
        >>> path = steihaug(lambda v: v, torch.tensor([3.0, 4.0]), 2.0)
        >>> path.within(1.0).step, path.why
        (tensor([-0.6000, -0.8000]), 'boundary')
    """

    def __init__(
        self, radius: float, pieces: list[_Piece], why: str, products: int, like: Tensor
    ) -> None:
        self.radius, self.why, self.products = radius, why, products
        self._pieces, self._like = pieces, like

    @property
    def negative(self) -> Tensor | None:
        """The direction of negative curvature that was met, downhill; None if none was."""
        return self._pieces[-1].direction if self.why == "negative" else None

    def within(self, radius: float) -> ModelStep:
        """The step in a ball of at most the size in which the path was made; no new product.

        Raises:
            ValueError: If the radius is larger, or not positive.
        """
        if not 0 < radius <= self.radius:
            allowed = f"a number in (0, {self.radius}]"
            raise bad_argument("ConjugatePath.within", "radius", radius, allowed)
        step, decrease, length = torch.zeros_like(self._like), 0.0, 0.0
        for piece in self._pieces:
            leaves = piece.reach(piece.length) >= radius**2
            if leaves and math.isfinite(radius):
                t = to_boundary(piece.before, piece.cross, piece.squares, radius)
                step.add_(piece.direction, alpha=t)
                return ModelStep(step, piece.fall(t), radius, True, products=self.products)
            if math.isinf(piece.length):
                break
            step.add_(piece.direction, alpha=piece.length)
            decrease = piece.fall(piece.length)
            length = math.sqrt(max(piece.reach(piece.length), 0.0))
        return ModelStep(step, decrease, length, False, products=self.products)


def to_boundary(before: float, cross: float, squares: float, radius: float) -> float:
    r"""The t > 0 at which z + t d has the length of the radius, without cancellation.

    Args:
        before: :math:`\|z\|^2`, at most the radius squared.
        cross: :math:`z^\top d`.
        squares: :math:`\|d\|^2 > 0`.
        radius: The radius.

    Returns:
        t.

    Example:
        >>> to_boundary(1.0, 0.0, 4.0, 3.0) == 2**0.5
        True
    """
    start = math.sqrt(before)
    room = max((radius - start) * (radius + start), 0.0)
    root = math.sqrt(cross**2 + squares * room)
    return room / (cross + root) if cross > 0 else (root - cross) / squares


def steihaug(
    product: Product,
    gradient: Tensor,
    radius: float,
    stop: Truncation | None = None,
    preconditioner: Product | None = None,
) -> ConjugatePath:
    r"""Minimise a quadratic model approximately within :math:`\|p\| \le` radius.

    All directions are kept, a vector for each product, so that the path can be cut again.

    Args:
        product: v -> H v on flat tensors.
        gradient: g, flat.
        radius: > 0; infinity for no bound: then the path stops at negative curvature.
        stop: When it is good enough.
        preconditioner: v -> P v, symmetric and positive, near the inverse of H. The length is then
            that of :math:`\sqrt{p^\top P^{-1} p}`.

    Returns:
        The path; ``path.within(radius)`` is the step.

    Raises:
        ValueError: If the radius is not positive.
        NonFiniteError: If a product has a NaN or an infinite entry.

    Example:
        >>> H = torch.diag(torch.tensor([1.0, -1.0]))
        >>> path = steihaug(lambda v: H @ v, torch.tensor([1.0, 1.0]), 5.0)
        >>> path.why, round(float(path.within(5.0).step.norm()), 4)
        ('negative', 5.0)
    """
    if not radius > 0:
        raise bad_argument("steihaug", "radius", radius, "a number > 0")
    stop = stop or Truncation()
    limit = 2 * gradient.numel() if stop.most is None else stop.most
    cg = ConjugateDirections(product, -gradient, preconditioner)
    enough = stop.residual * math.sqrt(cg.squares)
    before = cross = fallen = largest = 0.0
    squares = cg.slope if preconditioner is not None else cg.squares
    pieces: list[_Piece] = []
    while True:
        if math.sqrt(cg.squares) <= enough or cg.slope <= 0.0:
            return ConjugatePath(radius, pieces, "residual", cg.products, gradient)
        if cg.products >= limit:
            return ConjugatePath(radius, pieces, "limit", cg.products, gradient)
        direction, slope, curvature = cg.direction, cg.slope, cg.look()
        if not math.isfinite(curvature):
            text = f"steihaug: product {cg.products} has a NaN or an infinite entry."
            raise NonFiniteError(text)
        steep = curvature / squares
        largest = max(largest, steep)
        negative = steep <= stop.flat * largest
        length = math.inf if negative else slope / curvature
        piece = _Piece(direction, length, slope, curvature, before, cross, squares, fallen)
        pieces.append(piece)
        if negative:
            return ConjugatePath(radius, pieces, "negative", cg.products, gradient)
        before = piece.reach(length)
        if before >= radius**2:
            return ConjugatePath(radius, pieces, "boundary", cg.products, gradient)
        cg.move()
        last, fallen = fallen, piece.fall(length)
        if len(pieces) * (fallen - last) <= stop.decrease * fallen:
            return ConjugatePath(radius, pieces, "decrease", cg.products, gradient)
        # |d|^2 and z'd by recurrence: in the preconditioner's metric there is no other way.
        cross = cg.turn * (cross + length * squares)
        if preconditioner is None:
            squares, cross = inner(cg.direction, cg.direction), max(cross, 0.0)
        else:
            squares = cg.slope + cg.turn**2 * squares
