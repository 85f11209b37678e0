"""Matrices of many rows and few columns: inner products and orthonormal bases.

The rows are taken a block at a time and the sums are float64, whatever the entries are, so that
nothing of the matrix's own size is copied into double precision.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


__all__ = ["column_dots", "inner", "orthonormal"]

_ROWS = 2**16


def inner(left: Tensor, right: Tensor) -> Tensor:
    """The matrix of the inner products of columns, ``left.T @ right``, in float64.

    Args:
        left: n x p.
        right: n x q.

    Returns:
        p x q.

    Example:
        >>> inner(torch.ones(3, 1), torch.ones(3, 2))
        tensor([[3., 3.]], dtype=torch.float64)
    """
    total = left.new_zeros(left.shape[1], right.shape[1], dtype=torch.float64)
    for a, b in _blocks(left, right):
        total += a.T @ b
    return total


def column_dots(left: Tensor, right: Tensor) -> Tensor:
    """The inner product of each column of ``left`` with that of ``right``, in float64."""
    total = left.new_zeros(left.shape[1], dtype=torch.float64)
    for a, b in _blocks(left, right):
        total += (a * b).sum(0)
    return total


def orthonormal(columns: Tensor) -> tuple[Tensor, Tensor]:
    """A basis of the columns' span: Q with orthonormal columns and R in float64, columns = Q R.

    Householder's QR of blocks of rows, then of the stacked triangles: as stable as of the whole.

    Args:
        columns: n x k with k <= n.

    Returns:
        Q, n x k of the columns' type, and the upper triangular R, k x k.
    """
    n, k = columns.shape
    rows = max(_ROWS, k)
    if n <= 2 * rows:
        q, r = torch.linalg.qr(columns.double())
        return q.to(columns.dtype), r
    # The last block takes the rest, so that none has fewer rows than columns.
    sizes = [rows] * (n // rows - 1)
    sizes.append(n - sum(sizes))
    q = torch.empty_like(columns)
    pieces = columns.split(sizes)
    triangles = [torch.linalg.qr(piece.double(), mode="r").R for piece in pieces]
    combined, r = torch.linalg.qr(torch.cat(triangles))
    parts = combined.split(k)
    for place, piece, part in zip(q.split(sizes), pieces, parts, strict=True):
        place.copy_(torch.linalg.qr(piece.double()).Q @ part)
    return q, r


def _blocks(left: Tensor, right: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for a, b in zip(left.split(_ROWS), right.split(_ROWS), strict=True):
        yield a.double(), b.double()
