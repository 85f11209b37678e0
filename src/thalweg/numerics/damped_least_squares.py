r"""Linear least squares with a damping, decomposed once and solved for any damping.

.. math:: \min_p \tfrac12 \lVert J p + r \rVert^2 + \tfrac{\mu}{2} \lVert D p \rVert^2

With :math:`J D^{-1} = U S V^\top` it is :math:`p = -D^{-1} V\, S U^\top r / (S^2 + \mu)`: a step
costs a product with V, and its length and what it gains cost nothing. The normal equations, which
square the condition number, are not formed.

References:
    More, The Levenberg-Marquardt algorithm: implementation and theory, 1978; Golub and Van Loan,
    Matrix computations, 2013, section 5.5.
"""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from thalweg.numerics.secular import secular


__all__ = ["DampedLeastSquares", "DampedStep"]

_CLOSE = 0.01  # how far the length may be from the radius: more digits gain nothing


class DampedStep(NamedTuple):
    r"""A step and what the linear model says of it.

    Args:
        step: p, flat.
        damping: :math:`\mu`.
        length: :math:`\lVert D p\rVert`.
        decrease: What :math:`\tfrac12\lVert J p + r\rVert^2` falls by from p = 0.
        slope: :math:`(J^\top r)^\top p`, <= 0.
        interior: Whether it is the undamped step.
    """

    step: Tensor
    damping: float
    length: float
    decrease: float
    slope: float
    interior: bool


@final
class DampedLeastSquares:
    r"""One linear least-squares problem, ready for every damping and radius.

    Args:
        jacobian: J, of shape (m, n).
        residuals: r, of shape (m,).
        scale: The diagonal of D, positive, of shape (n,).
        size: What the offset is measured by; None: the length of r.
        cutoff: Singular values of :math:`J D^{-1}` below this share of the largest are zero; None:
            the rounding of the numbers times the larger of m and n.

    Raises:
        torch.linalg.LinAlgError: If the decomposition fails.

    Example:
        >>> J, r = torch.tensor([[2.0], [0.0]]), torch.tensor([4.0, 3.0])
        >>> problem = DampedLeastSquares(J, r, torch.ones(1))
        >>> problem.damped(0.0).step, problem.damped(4.0).step, problem.within(0.5).step
        (tensor([-2.]), tensor([-1.]), tensor([-0.5...]))
        >>> problem.offset
        0.8
    """

    def __init__(
        self,
        jacobian: Tensor,
        residuals: Tensor,
        scale: Tensor,
        cutoff: float | None = None,
        size: float | None = None,
    ) -> None:
        m, n = jacobian.shape
        scaled = jacobian / scale
        self._scaled, self._scale = scaled, scale
        # What the residuals do not depend on stays, to the last digit.
        self._idle = ~(scaled != 0).any(0)
        right = residuals
        if m > n:
            q, scaled = torch.linalg.qr(scaled)
            right = q.T @ residuals
        left, singular, self._right = torch.linalg.svd(scaled, full_matrices=False)
        eps = torch.finfo(jacobian.dtype).eps
        self.singular: np.ndarray = singular.double().cpu().numpy()
        coefficients: np.ndarray = (left.T @ right).double().cpu().numpy()
        largest = float(self.singular[0]) if len(self.singular) else 0.0
        least = (eps * max(m, n) if cutoff is None else cutoff) * largest
        self._kept = self.singular > least
        self._coefficients = np.where(self._kept, coefficients, 0.0)
        self._norm = float(residuals.double().norm()) if size is None else size

    @property
    def rank(self) -> int:
        """The number of singular values that are not zero."""
        return int(self._kept.sum())

    @property
    def offset(self) -> float:
        r"""The share of r that the undamped step removes, :math:`|U^\top r| / |r|`.

        It is the cosine of the angle between r and the space that J spans, from 0 at a minimum to
        1; linear changes of variables do not change it (Bates and Watts 1981).
        """
        return float(np.linalg.norm(self._coefficients)) / self._norm if self._norm else 0.0

    def damped(self, damping: float) -> DampedStep:
        """The minimiser for a damping; for 0 the shortest of the minimisers in D's norm."""
        s = self.singular
        under = np.where(self._kept, s * s + damping, 1.0)
        return self._step(np.where(self._kept, -s * self._coefficients / under, 0.0), damping)

    def within(self, radius: float) -> DampedStep:
        """The minimiser with no damping over the steps of length at most ``radius`` in D's norm."""
        kept = self._kept
        found = secular(
            self.singular[kept] ** 2,
            self.singular[kept] * self._coefficients[kept],
            radius,
            tolerance=_CLOSE,
        )
        whole = np.zeros_like(self.singular)
        whole[kept] = found.step
        return self._step(whole, found.multiplier)

    def applied(self, damping: float, vector: Tensor) -> Tensor:
        r""":math:`-(J^\top J + \mu D^2)^{-1} J^\top` times a vector of the residuals' space."""
        s = self.singular
        inverse = np.where(self._kept, 1.0 / np.where(self._kept, s * s + damping, 1.0), 0.0)
        along = self._right @ (self._scaled.T @ vector)
        made = -(self._right.T @ (along * torch.from_numpy(inverse).to(along))) / self._scale
        return made.masked_fill(self._idle, 0.0)

    def _step(self, along: np.ndarray, damping: float) -> DampedStep:
        """From coordinates in V."""
        flat = self._right.T @ torch.from_numpy(along).to(self._right)
        length = float(np.linalg.norm(along))
        fitted = float(np.sum((self.singular * along) ** 2))
        held = damping * length**2
        return DampedStep(
            (flat / self._scale).masked_fill(self._idle, 0.0),
            damping,
            length,
            0.5 * fitted + held,
            -(fitted + held),
            interior=damping == 0.0,
        )
