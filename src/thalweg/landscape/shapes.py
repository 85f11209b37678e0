r"""A path through weights: coefficients times anchors.

.. math:: \phi(t) = \sum_j c_j(t)\, w_j, \qquad \sum_j c_j(t) = 1,

with hat functions (a polyline, such as a band) or Bernstein polynomials (a Bezier curve).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


__all__ = ["Route"]


@final
@dataclass(frozen=True, eq=False)
class Route:
    """A path from one end to the other.

    Args:
        anchors: (m, n) the points that it is made of, the ends first and last.
        knots: (m,) where on the path they stand, from 0 to 1; None: a Bezier curve, which touches
            only its ends.
        converged: Whether it was found to the tolerance; None where that is not known.
        steps: How many steps it took.
        summit: Which anchor stands on a saddle: the image that climbed there; None: none does.

    Example:
        >>> anchors = torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 0.0]])
        >>> Route(anchors).at(0.5).tolist()
        [1.0, 1.0]
        >>> Route(anchors, torch.tensor([0.0, 0.5, 1.0])).at(0.25).tolist()
        [0.5, 1.0]
    """

    anchors: Tensor
    knots: Tensor | None = None
    converged: bool | None = None
    steps: int = 0
    summit: int | None = None

    def coefficients(self, t: float) -> Tensor:
        """(m,) the weights of the anchors at t, in float64."""
        m = len(self.anchors)
        if self.knots is None:
            k = range(m)
            terms = [math.comb(m - 1, j) * t**j * (1 - t) ** (m - 1 - j) for j in k]
            return torch.tensor(terms, dtype=torch.float64)
        knots = self.knots.double().cpu()
        right = int(torch.searchsorted(knots, t)) if t > 0 else 1
        right = min(max(right, 1), m - 1)
        width = float(knots[right] - knots[right - 1])
        share = (t - float(knots[right - 1])) / width if width > 0 else 0.0
        found = torch.zeros(m, dtype=torch.float64)
        found[right - 1], found[right] = 1.0 - share, share
        return found

    def at(self, t: float) -> Tensor:
        """(n,) the point at t in [0, 1]."""
        if t in (0.0, 1.0):
            return self.anchors[-int(t)].clone()
        found = torch.zeros_like(self.anchors[0])
        for weight, anchor in zip(self.coefficients(t).tolist(), self.anchors, strict=True):
            if weight:
                found.add_(anchor, alpha=weight)
        return found
