r"""A quadratic model :math:`g^\top p + \tfrac12 p^\top H p` with its Hessian decomposed.

One eigendecomposition serves every step that a Newton method may want from a point: the nearly
exact trust-region step at any radius, the step with negative eigenvalues flipped or clipped, and
the direction of most negative curvature. A scale D makes them independent of the parameters' units:
everything is done in the coordinates :math:`D p`, with :math:`D^{-1} H D^{-1}`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from thalweg.errors import NonFiniteError, bad_argument
from thalweg.numerics.secular import secular


__all__ = ["ModelStep", "QuadraticModel", "diagonal_scale"]

_DROWNED = 1e8  # an entry so many times what the diagonal foretells leaves nothing of that


@final
@dataclass(frozen=True)
class ModelStep:
    r"""A step that a quadratic model proposes.

    Args:
        step: p, flat.
        decrease: What the model falls by, :math:`-(g^\top p + \tfrac12 p^\top H p)`.
        length: Its length, in the scale of the region.
        boundary: Whether the region bounds it.
        multiplier: The shift :math:`\sigma` with :math:`(H + \sigma D^2) p = -g`.
        hard: Whether a part along the lowest eigenvector was added.
        products: Products taken for it.

    Example:
        >>> ModelStep(torch.ones(1), 0.5, 1.0, True).multiplier
        0.0
    """

    step: Tensor
    decrease: float
    length: float
    boundary: bool
    multiplier: float = 0.0
    hard: bool = False
    products: int = 0


@final
class QuadraticModel:
    r"""The eigendecomposition of a Hessian, with a gradient in its coordinates.

    Args:
        gradient: g, n entries.
        hessian: H, n x n; its symmetric part counts.
        scale: The positive diagonal D, n entries; None is the identity.

    Raises:
        NonFiniteError: If the gradient or the Hessian has a NaN or an infinite entry.

    Example:
        >>> model = QuadraticModel(torch.tensor([1.0, 2.0]), torch.diag(torch.tensor([1.0, -4.0])))
        >>> model.newton(1e-3).step.tolist(), model.values.tolist()
        ([-1.0, -0.5], [-4.0, 1.0])
    """

    def __init__(self, gradient: Tensor, hessian: Tensor, scale: Tensor | None = None) -> None:
        if not (bool(gradient.isfinite().all()) and bool(hessian.isfinite().all())):
            raise NonFiniteError("QuadraticModel: NaN or infinite entries in the derivatives.")
        # In float64 whatever the entries are: an eigenvalue is right to eps times the largest.
        matrix, flat = hessian.double(), gradient.double()
        matrix = (matrix + matrix.T) / 2
        self.scale = None if scale is None else scale.double()
        if self.scale is not None:
            matrix = matrix / self.scale / self.scale[:, None]
            flat = flat / self.scale
        values, self.vectors = torch.linalg.eigh(matrix)
        self.values: np.ndarray = values.cpu().numpy()
        self.coordinates: np.ndarray = (self.vectors.T @ flat).cpu().numpy()
        self._like = gradient
        # What the entries' own type lets one tell of an eigenvalue.
        self._rounding = max(len(flat), 1) * torch.finfo(hessian.dtype).eps

    @classmethod
    def spanned(
        cls, values: np.ndarray, vectors: Tensor, coordinates: np.ndarray
    ) -> QuadraticModel:
        """The model in the span of some orthonormal vectors, in which H is diagonal.

        Args:
            values: k eigenvalues of H within the span, ascending.
            vectors: Their vectors, n x k.
            coordinates: The gradient's, of the same vectors.

        Returns:
            The model, without a scale.
        """
        model = cls.__new__(cls)
        model.values, model.vectors, model.coordinates = values, vectors, coordinates
        model.scale, model._like = None, vectors[:, 0]
        model._rounding = len(values) * torch.finfo(vectors.dtype).eps
        return model

    def within(self, radius: float) -> ModelStep:
        r"""The best step with :math:`\|D p\| \le` radius, to rounding.

        Raises:
            ValueError: If the radius is not a finite number > 0.
        """
        found = secular(self.values, self.coordinates, radius, rounding=self._rounding)
        length = float(np.linalg.norm(found.step))
        return ModelStep(
            self._leave(found.step),
            found.decrease,
            length,
            found.boundary,
            found.multiplier,
            found.hard,
        )

    def newton(
        self, floor: float, how: str = "flip", aside: float = 0.0, rounding: bool = False
    ) -> ModelStep:
        r"""The Newton step with positive eigenvalues in place of H's.

        Each eigenvalue becomes :math:`\max(|\lambda|, \delta)`, or :math:`\max(\lambda, \delta)`
        where ``how`` is ``"clip"``, with :math:`\delta` the share ``floor`` of the largest
        :math:`|\lambda|`. Clipping makes enormous steps along slightly negative eigenvalues, which
        flipping does not.

        Args:
            floor: In (0, 1].
            how: ``"flip"`` or ``"clip"``.
            aside: The least share of the step's length along the lowest eigenvector, where its
                eigenvalue is below minus the floor: near a saddle the gradient does not see it.
            rounding: Whether a positive eigenvalue is lifted to what rounding leaves of the largest
                only, which keeps one step on a quadratic however ill-conditioned that is.

        Returns:
            The step; its decrease is that of the real model, and may be negative. Where H is 0 it
            is the gradient step.

        Raises:
            ValueError: If an argument is not allowed.
        """
        if not 0 < floor <= 1:
            raise bad_argument("QuadraticModel.newton", "floor", floor, "a number in (0, 1]")
        if how not in ("flip", "clip"):
            raise bad_argument("QuadraticModel.newton", "how", how, "'flip' or 'clip'")
        largest = float(np.abs(self.values).max(initial=0.0)) or 1.0
        size = np.abs(self.values) if how == "flip" else self.values
        least = np.full(len(size), floor * largest)
        if rounding:
            least[self.values > 0] = min(floor, self._rounding) * largest
        p = -self.coordinates / np.maximum(size, least)
        if aside and self.values[0] < -floor * largest:
            least = aside * float(np.linalg.norm(p))
            p[0] = math.copysign(max(abs(p[0]), least), -self.coordinates[0])
        return self.along(p)

    def damped(self, share: float) -> ModelStep:
        r"""The step :math:`-(|H| + \lambda I)^{-1} g`, with :math:`\lambda` a share of the largest.

        Its decrease in the real model is positive whatever the signs of the eigenvalues are.

        Args:
            share: :math:`\lambda` over the largest :math:`|\lambda_i|`, >= 0; at 0, and where H is
                0, it is kept above rounding.
        """
        size = np.abs(self.values)
        largest = float(size.max(initial=0.0)) or 1.0
        return self.along(-self.coordinates / (size + max(share, self._rounding) * largest))

    def along(self, coordinates: np.ndarray) -> ModelStep:
        """The step with these coordinates in the eigenbasis, and the real model's decrease."""
        slope = self.coordinates + 0.5 * self.values * coordinates
        decrease = -float(slope @ coordinates)
        length = float(np.linalg.norm(coordinates))
        return ModelStep(self._leave(coordinates), decrease, length, False)

    def bends_down(self) -> bool:
        """Whether an eigenvalue is negative, by more than derivatives may be off."""
        largest = float(np.abs(self.values).max(initial=0.0))
        lowest = float(self.values.min(initial=0.0))
        return lowest < -math.sqrt(self._rounding) * largest

    def lowest(self) -> tuple[float, Tensor]:
        r"""The smallest eigenvalue, and the direction of its eigenvector, downhill if anything.

        Returns:
            The eigenvalue of :math:`D^{-1} H D^{-1}`, and :math:`D^{-1} v` for its unit vector v.
        """
        unit = np.zeros(len(self.values))
        unit[0] = -1.0 if self.coordinates[0] > 0 else 1.0
        return float(self.values[0]), self._leave(unit)

    def _leave(self, coordinates: np.ndarray) -> Tensor:
        p = self.vectors @ torch.from_numpy(coordinates).to(self.vectors)
        return (p if self.scale is None else p / self.scale).to(self._like)


def diagonal_scale(hessian: Tensor, floor: float = 1e-8) -> Tensor:
    r"""The scale :math:`D_i = \sqrt{|H_{ii}|}`, in which no parameter has units.

    Where :math:`H_{ii}` is 0, or rounding beside the other entries of its row, these give the
    scale: the least :math:`D_i` for which no :math:`|H_{ij}|` is above :math:`D_i D_j`. With x in
    other units, D is in the inverse ones, whatever the ratio of its entries is.

    Args:
        hessian: H, n x n.
        floor: :math:`D_i` where a whole row is zero, and nothing is known of the units, as a share
            of the largest.

    Returns:
        D, n positive entries; ones where H is zero.

    Example:
        >>> diagonal_scale(torch.diag(torch.tensor([4.0, -9.0]))).tolist()
        [2.0, 3.0]
        >>> diagonal_scale(torch.tensor([[0.0, 6.0], [6.0, 4.0]])).tolist()
        [3.0, 2.0]
    """
    size = hessian.abs()
    if not bool(size.any()):
        return torch.ones_like(hessian.diagonal())
    roots = size.diagonal().sqrt()
    # H_ii is not trusted where |H_ij| is far above sqrt(H_ii H_jj) for a j with a larger diagonal.
    larger = roots[:, None] <= roots
    drowned = (size > _DROWNED * roots[:, None] * roots) & larger
    trusted = (roots > 0) & ~drowned.any(1)
    coupled = torch.where(trusted, size / torch.where(trusted, roots, 1.0), 0.0).amax(1)
    alone = torch.where(trusted, 0.0, size).amax(1).sqrt()  # coupled to such as itself only
    scale = torch.where(trusted, roots, torch.where(coupled > 0, coupled, alone))
    return torch.where(scale > 0, scale, floor * scale.max())
