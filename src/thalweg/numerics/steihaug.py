r"""Steihaug and Toint's truncated conjugate gradients: a path that a ball cuts, and cuts again.

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


_FLAT = 1e-2  # of the largest curvature: what a flat direction counts as
__all__ = ["ConjugatePath", "Truncation", "to_boundary"]


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
    r"""The path of conjugate gradients on a model, followed as far as a step asks for it.

    All directions are kept, a vector for each product. A ball smaller than one before takes no
    product; a larger one takes those that are missing.

    Args:
        product: v -> H v on flat tensors.
        gradient: g, flat.
        stop: When it is good enough.
        preconditioner: v -> P v, symmetric and positive, near the inverse of H. Lengths are then
            those of :math:`\sqrt{p^\top P^{-1} p}`.

    Example:
        >>> path = ConjugatePath(lambda v: v, torch.tensor([3.0, 4.0]))
        >>> path.within(1.0).step, path.within(9.0).step, path.products
        (tensor([-0.6000, -0.8000]), tensor([-3., -4.]), 1)
    """

    def __init__(
        self,
        product: Product,
        gradient: Tensor,
        stop: Truncation | None = None,
        preconditioner: Product | None = None,
    ) -> None:
        self.why = ""  # "residual", "decrease", "limit" or "negative" where the path has ended
        self._stop = stop or Truncation()
        self._like, self._plain = gradient, preconditioner is None
        self._cg = ConjugateDirections(product, -gradient, preconditioner)
        self._enough = self._stop.residual * math.sqrt(self._cg.squares)
        most = self._stop.most
        self._most = 2 * gradient.numel() if most is None else most
        self._pieces: list[_Piece] = []
        self._largest = 0.0

    @property
    def products(self) -> int:
        """Products taken so far."""
        return self._cg.products

    @property
    def negative(self) -> Tensor | None:
        """The direction of negative curvature that was met, downhill; None if none was."""
        return self._pieces[-1].direction if self.why == "negative" else None

    def within(self, radius: float) -> ModelStep:
        """The step in a ball.

        Args:
            radius: > 0; infinity for no bound: then the step ends before negative curvature.

        Returns:
            The step; its decrease is 0 if there is nothing to gain.

        Raises:
            ValueError: If the radius is not positive.
            NonFiniteError: If a product has a NaN or an infinite entry.
        """
        if not radius > 0:
            raise bad_argument("ConjugatePath.within", "radius", radius, "a number > 0")
        step, decrease, length, index = torch.zeros_like(self._like), 0.0, 0.0, 0
        while index < len(self._pieces) or self._follow():
            piece = self._pieces[index]
            if math.isfinite(radius) and piece.reach(piece.length) >= radius**2:
                t = to_boundary(piece.before, piece.cross, piece.squares, radius)
                step.add_(piece.direction, alpha=t)
                return ModelStep(step, piece.fall(t), radius, True, products=self.products)
            if math.isinf(piece.length):
                break
            step.add_(piece.direction, alpha=piece.length)
            decrease = piece.fall(piece.length)
            length = math.sqrt(max(piece.reach(piece.length), 0.0))
            index += 1
        return ModelStep(step, decrease, length, False, products=self.products)

    def flipped(self) -> ModelStep:
        """The whole path, and along negative curvature as far as if it were positive.

        A curvature counts as a hundredth of the largest that was met at least, so that a flat
        direction is not followed to infinity.
        """
        whole = self.within(math.inf)
        if self.why != "negative":
            return whole
        last = self._pieces[-1]
        least = _FLAT * self._largest * last.squares
        size = max(abs(last.curvature), least) or last.slope
        t = last.slope / size
        step, length = whole.step.add_(last.direction, alpha=t), math.sqrt(last.reach(t))
        return ModelStep(step, last.fall(t), length, False, products=self.products)

    def natural_length(self) -> float:
        """The length of the whole path, with the step along negative curvature flipped."""
        return self.flipped().length

    def _follow(self) -> bool:
        """Take one product and add a piece; False where the path has ended."""
        cg, stop = self._cg, self._stop
        last = self._pieces[-1] if self._pieces else None
        if last is not None and not self.why:
            self._turn(last)
        if not self.why and (math.sqrt(cg.squares) <= self._enough or cg.slope <= 0.0):
            self.why = "residual"
        if not self.why and cg.products >= self._most:
            self.why = "limit"
        if self.why:
            return False
        start = last or _Piece(cg.direction, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        before, fallen = start.reach(start.length), start.fall(start.length)
        cross, squares = self._across
        direction, slope, curvature = cg.direction, cg.slope, cg.look()
        if not math.isfinite(curvature):
            text = f"ConjugatePath: product {cg.products} has a NaN or an infinite entry."
            raise NonFiniteError(text)
        steep = curvature / squares
        self._largest = max(self._largest, steep)
        negative = steep <= stop.flat * self._largest
        length = math.inf if negative else slope / curvature
        self._pieces.append(
            _Piece(direction, length, slope, curvature, before, cross, squares, fallen)
        )
        self.why = "negative" if negative else ""
        return True

    def _turn(self, last: _Piece) -> None:
        """Move to the end of the last piece, unless the path ends there."""
        self._cg.move()
        fallen = last.fall(last.length)
        if len(self._pieces) * (fallen - last.fallen) <= self._stop.decrease * fallen:
            self.why = "decrease"

    @property
    def _across(self) -> tuple[float, float]:
        """Z'd and |d|^2 of the next direction; the preconditioner's metric has recurrences only."""
        cg = self._cg
        if not self._pieces:
            return 0.0, cg.slope
        last = self._pieces[-1]
        cross = cg.turn * (last.cross + last.length * last.squares)
        if self._plain:
            return max(cross, 0.0), inner(cg.direction, cg.direction)
        return cross, cg.slope + cg.turn**2 * last.squares


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
