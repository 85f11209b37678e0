"""The nearest points of sets in the Euclidean norm: pure functions on the last dimension.

The classes in ``projections.py`` hold a set's numbers and call these.
"""

from __future__ import annotations

import torch
from torch import Tensor


__all__ = ["onto_affine", "onto_ball", "onto_l1_ball", "onto_simplex"]


def onto_ball(x: Tensor, radius: float = 1.0) -> Tensor:
    r"""The nearest point with :math:`\|y\|_2 \le r`: x itself, or :math:`r x / \|x\|_2`.

    Example:
        >>> onto_ball(torch.tensor([3.0, 4.0]))
        tensor([0.6000, 0.8000])
    """
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float64)
    return torch.where(norm <= radius, x, (x * (radius / norm)).to(x.dtype))


def onto_simplex(x: Tensor, total: float = 1.0) -> Tensor:
    r"""The nearest point with :math:`y \ge 0` and :math:`\sum_i y_i = s`; exact, by sorting.

    It is :math:`\max(x - \tau, 0)`, with :math:`\tau = (\sum_{i \le k} u_i - s) / k` for u sorted
    from above and k the largest index whose :math:`u_k` is above its :math:`\tau`
    (Duchi, Shalev-Shwartz, Singer and Chandra, 2008).

    Example:
        >>> onto_simplex(torch.tensor([1.0, 0.5, -1.0]))
        tensor([0.7500, 0.2500, 0.0000])
    """
    exact = x.double()
    ordered = exact.sort(dim=-1, descending=True).values
    excess = ordered.cumsum(-1) - total
    places = torch.arange(1, x.shape[-1] + 1, device=x.device)
    k = (ordered * places > excess).sum(-1, keepdim=True).clamp_min(1)
    return (exact - excess.gather(-1, k - 1) / k).clamp_min(0).to(x.dtype)


def onto_l1_ball(x: Tensor, radius: float = 1.0) -> Tensor:
    r"""The nearest point with :math:`\sum_i |y_i| \le r`: x, or its magnitudes on the simplex.

    Example:
        >>> onto_l1_ball(torch.tensor([-1.0, 0.5, 0.1]))
        tensor([-0.7500,  0.2500,  0.0000])
    """
    size = x.abs()
    inside = size.sum(-1, keepdim=True, dtype=torch.float64) <= radius
    return torch.where(inside, x, x.sign() * onto_simplex(size, radius))


def onto_affine(x: Tensor, matrix: Tensor, target: Tensor, inverse: Tensor) -> Tensor:
    """The nearest point with A y = b, given the pseudo-inverse of A: x - A^+ (A x - b).

    Example:
        >>> row = torch.ones(1, 2)
        >>> onto_affine(torch.zeros(2), row, torch.tensor([2.0]), torch.linalg.pinv(row))
        tensor([1., 1.])
    """
    exact = x.to(matrix.dtype)
    return (exact - (exact @ matrix.mT - target) @ inverse.mT).to(x.dtype)
