r"""Eigenpairs of a symmetric map by Lanczos with thick restart, from one vector or from several.

A :class:`~thalweg.numerics.krylov_space.KrylovSpace` grows by one product a step until the wanted
Ritz pairs have converged; when its basis is full it is cut down to its best Ritz vectors.

Every vector that enters is orthogonalised against the whole basis, so no eigenvalue is found twice
(there are no "ghosts"). A Krylov space from one vector sees one vector of each eigenspace; further
copies of a multiple eigenvalue are looked for by adding a random vector.

References:
    Wu and Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems, 2000.
    Ruhe, Implementation aspects of band Lanczos algorithms, 1979.
    Kuczynski and Wozniakowski, Estimating the largest eigenvalue by the power and Lanczos
    algorithms with a random start, 1992.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from thalweg.numerics.krylov_space import KrylovSpace
from thalweg.numerics.lanczos import Product
from thalweg.numerics.probes import Probes


__all__ = ["Order", "RitzPairs", "Search", "eigenpairs"]

# Ritz values and residual norms to indices, the most wanted first.
Order = Callable[[np.ndarray, np.ndarray], np.ndarray]
_MISS = 0.05  # probability, at most, that an eigenvalue stays hidden from the random vector


@final
@dataclass(frozen=True)
class Search:
    """What to look for and when to stop.

    Args:
        count: The number k of eigenpairs.
        order: Says which Ritz pairs are wanted most.
        tol: A pair has converged at a residual of ``tol`` times the smaller of its value and the
            spread of the Ritz values.
        floor: No value counts as smaller than this share of the largest, so that an eigenvalue at
            zero can converge.
        size: The largest number of basis vectors.
        most: The largest number of products.
        copies: Look for further copies of the eigenvalues found, and for what the start missed.
        least: Make at least so many products, so that a good start cannot hide what it lacks.
    """

    count: int
    order: Order
    tol: float
    floor: float
    size: int
    most: int
    copies: bool
    least: int = 1


@final
@dataclass(frozen=True)
class RitzPairs:
    """Approximate eigenpairs, the most wanted first.

    Args:
        values: k Ritz values.
        vectors: n x k, orthonormal columns.
        residuals: The norms of A u - value u.
        errors: A bound on each value's distance to an eigenvalue.
        products: The number of products made.
        converged: Whether every residual came under its tolerance.
        ends: The smallest and the largest Ritz value seen.
    """

    values: np.ndarray
    vectors: Tensor
    residuals: np.ndarray
    errors: np.ndarray
    products: int
    converged: bool
    ends: tuple[float, float]


def eigenpairs(
    product: Product,
    starts: Tensor,
    search: Search,
    probes: Probes,
    where: str = "eigenpairs",
) -> RitzPairs:
    r"""The k most wanted eigenpairs of a symmetric map.

    When the k wanted pairs have converged and ``search.copies`` asks for it, a random vector joins
    the basis and is followed for j products, until an eigenvalue that is still hidden would show:
    by Kuczynski and Wozniakowski it escapes with probability at most
    :math:`1.648 \sqrt n\, e^{-\sqrt\varepsilon (2 j - 1)}`, where epsilon is the gap between the
    wanted and the unwanted Ritz values as a share of their spread. If a wanted value changes
    meanwhile, the search goes on and the question is asked again.

    Args:
        product: The map; its argument is not to be changed by it.
        starts: n x p starting vectors, p <= ``search.size``; dependent ones are dropped.
        search: What to look for and when to stop.
        probes: Draws the random vectors.
        where: The caller's name, for messages.

    Returns:
        The pairs. With fewer products than wanted pairs there are fewer pairs.

    Raises:
        NonFiniteError: If a product has a NaN or an infinite entry.

    Example:
        >>> scale = torch.arange(1.0, 101.0)
        >>> largest = Search(1, lambda values, _: np.argsort(-values), 0.01, 1e-3, 20, 100, False)
        >>> pairs = eigenpairs(lambda v: scale * v, torch.ones(100, 1), largest, Probes(100))
        >>> bool(abs(pairs.values[0] - 100) < 1), pairs.products < 40
        (True, True)
    """
    space = KrylovSpace(product, starts, search.size, where)
    view = _View(space, search)
    while space.products < search.most and space.filled < space.length:
        if not space.waiting:
            view.explore(probes)
        if not space.expand(view.choice()):
            continue
        view.look()
        if view.converged:
            if not search.copies or view.nothing_hidden():
                break
            if not view.probing:
                view.probe(probes)
        if space.filled == search.size < space.length:
            view.restart()
    return view.result()


@final
class _View:
    """The Ritz pairs of a space as the search sees them."""

    def __init__(self, space: KrylovSpace, search: Search) -> None:
        self.space, self.search = space, search
        self.values = self.residuals = np.zeros(0)
        self.vectors = np.zeros((0, 0))
        self.order = np.zeros(0, dtype=int)
        self.low, self.high = math.inf, -math.inf
        self.unsettled = np.zeros(0, dtype=int)  # the wanted pairs that have not converged
        self.converged = False
        self.probing = False
        self.before = (np.zeros(0), np.zeros(0))  # wanted values and residuals when a probe began
        self.begun = self.frozen = 0  # products, and vectors waiting, at that moment

    def look(self) -> None:
        """Bring everything up to date."""
        self.values, self.vectors, self.residuals = self.space.ritz()
        self.order = self.search.order(self.values, self.residuals)
        self.low, self.high = min(self.low, self.values[0]), max(self.high, self.values[-1])
        values, residuals = self._wanted()
        size = np.maximum(np.abs(values), self.search.floor * max(abs(self.low), abs(self.high)))
        # A shift A + cI changes the values, not how well they are resolved: hence the spread.
        limit = self.search.tol * np.minimum(size, self.high - self.low)
        limit = np.maximum(limit, self.space.rounding * self.space.scale)
        self.unsettled = self.order[: len(values)][residuals > limit]
        enough = len(values) == min(self.search.count, self.space.length)
        # An invariant space has nothing more to show.
        late = self.space.products >= self.search.least or not self.space.waiting
        self.converged = enough and late and not len(self.unsettled)

    def _wanted(self) -> tuple[np.ndarray, np.ndarray]:
        wanted = self.order[: self.search.count]
        return self.values[wanted], self.residuals[wanted]

    def choice(self) -> int:
        """Which waiting vector to take: a start, the probe, or what improves the worst pair."""
        m = self.space.filled
        fresh = np.flatnonzero(~self.space.coupling[:, :m].any(axis=1))
        if len(fresh):
            return int(fresh[0])
        if (self.probing and len(self.space.waiting) > self.frozen) or not len(self.unsettled):
            return len(self.space.waiting) - 1
        worst = self.unsettled[np.argmax(self.residuals[self.unsettled])]
        lengths = np.sqrt(np.maximum(np.diag(self.space.gram), 0.0))
        shares = np.abs(self.space.coupling[:, :m] @ self.vectors[:, worst]) * lengths
        return int(np.argmax(shares))

    def restart(self) -> None:
        """Thick restart: the wanted pairs stay, with the better half of the others."""
        count = min(self.search.count, self.space.filled)
        kept = count + max((self.space.filled - count) // 2, 0)
        self.space.compress(self.vectors, self.order[: min(kept, self.space.filled - 1)])
        self.look()

    def probe(self, probes: Probes) -> None:
        """Add a random vector, and follow it to see whether something is hidden."""
        self.probing, self.begun, self.frozen = True, self.space.products, len(self.space.waiting)
        self.before = self._wanted()
        self.explore(probes)

    def explore(self, probes: Probes) -> None:
        """Add a random vector; one that the basis holds already, as a start may be, is no use."""
        for _ in range(8):
            if self.space.add(probes.draw(1)[:, 0]):
                return

    def nothing_hidden(self) -> bool:
        """Whether the random vector was followed for long enough and changed nothing."""
        if not self.probing:
            return False
        values, residuals = self._wanted()
        rounding = self.space.rounding * self.space.scale
        moved = np.abs(np.sort(values) - np.sort(self.before[0]))
        if np.any(moved > residuals.max() + self.before[1].max() + rounding):
            self.probing = False
            return False
        if len(self.space.waiting) <= self.frozen:
            return True  # the random vector lies in an invariant space, all of which was seen
        steps = self.space.products - self.begun
        odds = math.log(1.648 * math.sqrt(self.space.length) / _MISS)
        seen = (odds / max(2 * steps - 1, 1)) ** 2
        return seen <= max(self.search.tol, self._gap() / max(self.high - self.low, 1e-300))

    def _gap(self) -> float:
        """From the wanted Ritz values to the others, on the side where it is smaller."""
        wanted, others = self._wanted()[0], self.values[self.order[self.search.count :]]
        if not len(others):
            return 0.0
        above, below = wanted[wanted > others.max()], wanted[wanted < others.min()]
        gaps = [above.min() - others.max()] if len(above) else []
        gaps += [others.min() - below.max()] if len(below) else []
        return float(min(gaps, default=0.0))

    def result(self) -> RitzPairs:
        """The wanted pairs, with their errors."""
        wanted = self.order[: self.search.count]
        values, residuals = self._wanted()
        rounding = self.space.rounding * self.space.scale
        errors = np.maximum(_bounds(self.values, self.residuals)[wanted], rounding)
        turn = torch.from_numpy(np.ascontiguousarray(self.vectors[:, wanted].T))
        rows = turn.to(self.space.rows) @ self.space.rows[: self.space.filled]
        ends = (float(self.low), float(self.high))
        return RitzPairs(
            values, rows.T, residuals, errors, self.space.products, self.converged, ends
        )


def _bounds(values: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """The smaller of the residual r and r^2 / gap, to the nearest other Ritz value less its r."""
    apart = np.abs(values[:, None] - values[None, :]) - residuals[None, :]
    np.fill_diagonal(apart, np.inf)
    gap = apart.min(axis=1)
    squares = np.divide(residuals**2, gap, out=residuals.copy(), where=gap > residuals)
    return np.minimum(residuals, np.where(np.isfinite(gap), squares, residuals))
