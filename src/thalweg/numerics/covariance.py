r"""What a least-squares fit says of the uncertainty of its parameters."""

from __future__ import annotations

import torch
from torch import Tensor


__all__ = ["covariance"]


def covariance(jacobian: Tensor, squares: float) -> Tensor:
    r"""The covariance :math:`s^2 (J^\top J)^{-1}` of the parameters, :math:`s^2 = S / (m - n)`.

    It holds for independent errors of one variance and a model that is linear within a standard
    deviation. Columns are scaled before the decomposition, so that units do not decide the rank.

    Args:
        jacobian: J at the minimum, of shape (m, n).
        squares: S, the sum of squares there.

    Returns:
        Of shape (n, n), in float64. Parameters that the data do not determine (J has not full rank)
        have infinite variance, and NaN beside it; with no more residuals than parameters all are
        NaN.

    Example:
        >>> J = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
        >>> covariance(J, 4.0).diagonal()
        tensor([1.3333,    inf], dtype=torch.float64)
    """
    m, n = jacobian.shape
    wide = jacobian.double()
    if m <= n:
        return torch.full((n, n), torch.nan, dtype=wide.dtype, device=wide.device)
    norms = wide.norm(dim=0)
    norms = torch.where(norms > 0, norms, torch.ones_like(norms))
    _, singular, right = torch.linalg.svd(torch.linalg.qr(wide / norms).R)
    kept = singular > torch.finfo(jacobian.dtype).eps * m * singular[:1]
    inverse = torch.where(kept, 1 / torch.where(kept, singular, 1.0), 0.0)
    half = right * inverse[:, None]
    made = half.T @ half * (squares / (m - n)) / torch.outer(norms, norms)
    missing = (right[~kept].abs() > 1e-8).any(0)
    made[missing] = torch.nan
    made[:, missing] = torch.nan
    made[missing, missing] = torch.inf
    return made
