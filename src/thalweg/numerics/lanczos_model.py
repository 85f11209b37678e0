r"""The trust-region problem in a Krylov space: Gould, Lucidi, Roma and Toint's method (GLTR).

In the basis Q that Lanczos builds from the gradient, the problem

.. math:: \min_p\ g^\top p + \tfrac12 p^\top H p \quad\text{over}\quad \|p\| \le r

has k unknowns, :math:`p = Q h`, and is solved to rounding for each k. What is missing from a
solution in the whole space is the residual :math:`(H + \sigma I) p + g`, known without a product.
Unlike Steihaug's path, the step goes on along the edge of the ball.

The Krylov space of g does not see what is orthogonal to g. Where it ends (an invariant space: g is
an eigenvector, say, or 0), and on request where the step has converged, a random direction is
followed too; an eigenvalue below :math:`-\sigma` that turns up is the hard case, and the step takes
its eigenvector in.

References:
    Gould, Lucidi, Roma and Toint, Solving the trust-region subproblem using the Lanczos method,
    1999.
    Ruhe, Implementation aspects of band Lanczos algorithms, 1979.
"""

from __future__ import annotations

import math
from typing import final

import numpy as np
import torch
from torch import Tensor

from thalweg.numerics.krylov_space import KrylovSpace
from thalweg.numerics.lanczos import ROUNDING, Product, inner
from thalweg.numerics.probes import Probes
from thalweg.numerics.quadratic_model import ModelStep
from thalweg.numerics.secular import Secular, secular
from thalweg.numerics.steihaug import Truncation


__all__ = ["LanczosModel", "lowest_eigenpair"]

_FLAT = 1e-2  # beside negative eigenvalues, smaller ones than this share count as this
_EVERY = 32  # up to so many basis vectors the small problem is solved after each product


@final
class LanczosModel:
    """A quadratic model in a Krylov space that grows when a step asks for it.

    Args:
        product: v -> H v on flat tensors; its argument is not to be changed by it.
        gradient: g, flat; it may be 0.
        size: Basis vectors at most, each of the gradient's size; None allows 100.
        seed: Of the random directions: an integer, or a generator of the CPU's.

    Example:
        >>> H = torch.tensor([2.0, -1.0, 1.0])
        >>> model = LanczosModel(lambda v: H * v, torch.tensor([1.0, 0.0, 0.0]))
        >>> step = model.within(3.0, explore=3)
        >>> step.hard, [abs(round(x, 4)) for x in step.step.tolist()]
        (True, [0.3333, 2.9814, 0.0])
    """

    def __init__(
        self,
        product: Product,
        gradient: Tensor,
        size: int | None = None,
        seed: int | torch.Generator = 0,
    ) -> None:
        self._like = gradient
        self._probes = Probes(
            gradient.numel(), "gaussian", seed, dtype=gradient.dtype, device=gradient.device
        )
        self.norm = math.sqrt(inner(gradient, gradient))
        start = gradient.unsqueeze(1) / self.norm if self.norm > 0 else self._probes.draw(1)
        most = min(gradient.numel(), 100 if size is None else size)
        self._seen = gradient != 0  # nothing else moves, though random directions go there

        def seeing(v: Tensor) -> Tensor:
            image = product(v)
            self._seen |= image != 0
            return image

        self.space = KrylovSpace(seeing, start, most, "LanczosModel")
        self._explored = 0
        self._rounding = ROUNDING * torch.finfo(gradient.dtype).eps

    @property
    def products(self) -> int:
        """Products taken so far."""
        return self.space.products

    def within(
        self,
        radius: float,
        stop: Truncation | None = None,
        *,
        explore: int = 0,
        everywhere: bool = False,
    ) -> ModelStep:
        r"""The step with :math:`\|p\| \le` radius; the space is kept for the next call.

        Args:
            radius: A finite number > 0; any, whatever it was before.
            stop: When the step is good enough. Its ``most`` counts all products of this model.
            explore: Products that may be spent on random directions, in all calls together.
            everywhere: Explore also where the step has converged in a space that is not invariant.

        Returns:
            The step; ``products`` counts those of this call.

        Raises:
            ValueError: If the radius is not a finite number > 0.
            NonFiniteError: If a product has a NaN or an infinite entry.
        """
        stop = stop or Truncation()
        space, begun = self.space, self.space.products
        most = 2 * space.length if stop.most is None else stop.most
        found, fallen, exploring = Secular(np.zeros(0), 0.0, False, False, 0.0), 0.0, False
        h, due = np.zeros(0), True
        while True:
            done = False
            last = space.filled == len(space.rows) or space.products >= most
            if space.filled and (due or last):
                found, vectors = self._solve(radius)
                h = vectors @ found.step
                done = self._enough(h, found, radius, stop, fallen) and not exploring
                fallen = found.decrease
            if last:
                break
            if done or not space.waiting:
                spent = self._explored >= explore
                known = space.waiting and self.norm > 0 and not everywhere
                # Without a gradient the space has begun with a random direction already.
                fresh = bool(space.waiting) and self.norm == 0.0 and not everywhere
                if spent or known or not (fresh or self._wander()):
                    break
                exploring = True
            due = self._grow(exploring)
            exploring = exploring and self._explored < explore
        return self._leave(h, found, radius, space.products - begun)

    def natural_length(self, stop: Truncation | None = None) -> float:
        """The length of the Newton step with negative eigenvalues flipped; 0 where the gradient is.

        The space grows until a first negative one turns up, or the step has converged.
        """
        stop = stop or Truncation()
        space = self.space
        most = len(space.rows) if stop.most is None else min(stop.most, len(space.rows))
        while space.waiting and space.products < most and self.norm > 0:
            self._grow(False)
            m = space.filled
            values, vectors = np.linalg.eigh(space.projected[:m, :m])
            if values[0] <= 0.0:
                break
            h = vectors @ (-self.norm * vectors[0] / values)
            if self._outside(h) <= stop.residual * self.norm:
                break
        if not space.filled or self.norm == 0.0:
            return 0.0
        m = space.filled
        values, vectors = np.linalg.eigh(space.projected[:m, :m])
        largest = float(np.abs(values).max())
        least = largest * (_FLAT if values[0] <= 0 else self._rounding)
        lifted = np.maximum(np.abs(values), least)
        return float(np.linalg.norm(self.norm * vectors[0] / lifted)) if largest > 0 else 0.0

    def lowest(self) -> tuple[float, Tensor]:
        """The lowest Ritz value so far and its unit vector, without what H does not see of it."""
        values, vectors, _ = self.space.ritz()
        rows = self.space.rows[: self.space.filled]
        whole = torch.from_numpy(vectors[:, 0].copy()).to(rows) @ rows
        vector = self._within_sight(whole)
        length = math.sqrt(inner(vector, vector))
        if not 0.0 < length < 1.0:
            return float(values[0]), vector if length > 0.0 else whole
        return float(values[0]) / length**2, vector / length

    def _within_sight(self, step: Tensor) -> Tensor:
        wandered = self._explored or self.norm == 0.0
        return step * self._seen if wandered else step

    # ---- inside ---------------------------------------------------------------------------
    def _solve(self, radius: float) -> tuple[Secular, np.ndarray]:
        m = self.space.filled
        values, vectors = np.linalg.eigh(self.space.projected[:m, :m])
        coordinates = self.norm * vectors[0]
        return secular(values, coordinates, radius, rounding=self._rounding), vectors

    def _enough(
        self, h: np.ndarray, found: Secular, radius: float, stop: Truncation, fallen: float
    ) -> bool:
        """Whether the residual, or what the last products brought, is small."""
        if self._outside(h) <= stop.residual * max(self.norm, found.multiplier * radius):
            return True
        gained = found.decrease - fallen
        return fallen > 0.0 and len(h) * gained <= stop.decrease * found.decrease

    def _outside(self, h: np.ndarray) -> float:
        """The length of what the products of Q h have outside the space."""
        parts = self.space.coupling[:, : len(h)] @ h
        return math.sqrt(max(float(parts @ self.space.gram @ parts), 0.0))

    def _grow(self, exploring: bool) -> bool:
        """Take one product; whether the small problem is to be solved now."""
        space = self.space
        chosen = len(space.waiting) - 1
        if not exploring and chosen:
            lengths = np.sqrt(np.maximum(np.diag(space.gram), 0.0))
            chosen = int(np.argmax(lengths * np.abs(space.coupling).max(axis=1, initial=0.0)))
        if space.expand(chosen) and exploring:
            self._explored += 1
        return space.filled <= _EVERY or space.filled % (space.filled // 16) == 0

    def _wander(self) -> bool:
        """Let a random direction wait; whether there is one outside the space."""
        return any(self.space.add(self._probes.draw(1)[:, 0]) for _ in range(8))

    def _leave(self, h: np.ndarray, found: Secular, radius: float, products: int) -> ModelStep:
        rows = self.space.rows[: len(h)]
        step = self._within_sight(torch.from_numpy(h).to(rows) @ rows)
        length = radius if found.boundary else float(np.linalg.norm(h))
        return ModelStep(
            step.to(self._like),
            found.decrease,
            length,
            found.boundary,
            found.multiplier,
            found.hard,
            products,
        )


def lowest_eigenpair(
    product: Product, like: Tensor, most: int, seed: int | torch.Generator = 0
) -> tuple[float, Tensor]:
    """The lowest eigenvalue that Lanczos' method finds from a random start, and its vector.

    Args:
        product: v -> H v on flat tensors.
        like: A flat tensor of the size and type of the vectors.
        most: Products at most; what is found after so many is an upper bound.
        seed: Of the start.

    Returns:
        The Ritz value and its unit vector.

    Example:
        >>> value, vector = lowest_eigenpair(lambda v: -v, torch.zeros(3), 1)
        >>> round(value, 5), round(float(vector.norm()), 5)
        (-1.0, 1.0)
    """
    model = LanczosModel(product, torch.zeros_like(like), most, seed)
    while model.space.waiting and model.space.filled < len(model.space.rows):
        model.space.expand(len(model.space.waiting) - 1)
    return model.lowest()
