r"""Cholesky's factorisation of a matrix that need not be positive: of :math:`H + \tau D^2`.

The shift is found by trying, at about an eighth of the cost of an eigendecomposition for each try.
With :math:`D_i = \sqrt{|H_{ii}|}` it is relative to each parameter's own curvature, so that neither
the scale of the function nor that of a parameter changes the step.

References:
    Nocedal and Wright, Numerical optimization, 2006, algorithm 3.3 and section 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from thalweg.errors import NonFiniteError, bad_argument
from thalweg.numerics.quadratic_model import diagonal_scale


__all__ = ["Factor", "modified_cholesky"]


@final
@dataclass(frozen=True)
class Factor:
    r"""A lower triangle L with :math:`D L L^\top D = H + \tau D^2`.

    Args:
        lower: L.
        scale: D's diagonal.
        shift: :math:`\tau`; 0 where H is positive enough.
        tries: Factorisations made.

    Example:
        >>> modified_cholesky(torch.eye(2)).solve(torch.tensor([2.0, 3.0])).tolist()
        [2.0, 3.0]
    """

    lower: Tensor
    scale: Tensor
    shift: float
    tries: int

    def solve(self, b: Tensor) -> Tensor:
        """The x with (H + shift D^2) x = b."""
        scaled = (b.to(self.lower) / self.scale).unsqueeze(1)
        return (torch.cholesky_solve(scaled, self.lower).squeeze(1) / self.scale).to(b)


def modified_cholesky(hessian: Tensor, start: float = 1e-3, floor: float | None = None) -> Factor:
    r"""Factorise :math:`H + \tau D^2`, with the first :math:`\tau` of a rising sequence that works.

    Args:
        hessian: H, n x n; its symmetric part counts.
        start: The first shift above what the diagonal asks for, > 0; tenfold at each try.
        floor: The least squared pivot of L, in the scaled matrix whose diagonal is 1; None is n
            times the type's rounding.

    Returns:
        The factor, in float64.

    Raises:
        ValueError: If ``start`` is not positive.
        NonFiniteError: If the Hessian has a NaN or an infinite entry.

    Example:
        >>> modified_cholesky(torch.diag(torch.tensor([4.0, -1.0]))).shift
        1.001

    References:
        Nocedal and Wright, Numerical optimization, 2006, algorithm 3.3.
    """
    if not start > 0:
        raise bad_argument("modified_cholesky", "start", start, "a number > 0")
    if not bool(hessian.isfinite().all()):
        raise NonFiniteError("modified_cholesky: the Hessian has a NaN or an infinite entry.")
    matrix = hessian.double()
    matrix = (matrix + matrix.T) / 2
    least = len(matrix) * torch.finfo(hessian.dtype).eps if floor is None else floor
    scale = diagonal_scale(matrix)
    matrix = matrix / scale / scale[:, None]
    low = float(matrix.diagonal().min()) if len(matrix) else 1.0
    shift, tries = (0.0 if low > 0 else start - low), 0
    while True:
        shifted = matrix.clone()
        shifted.diagonal().add_(shift)
        lower, info = torch.linalg.cholesky_ex(shifted)
        tries += 1
        pivots = lower.diagonal().square()
        if int(info) == 0 and (not len(pivots) or float(pivots.min()) >= least):
            return Factor(lower, scale, shift, tries)
        shift = max(10 * shift, start)
