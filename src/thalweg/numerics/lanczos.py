r"""Lanczos tridiagonalisation of a symmetric map that is known by its products.

From a vector :math:`q_1` the recurrence

.. math::
    \beta_j q_{j+1} = A q_j - \alpha_j q_j - \beta_{j-1} q_{j-1},
    \qquad \alpha_j = q_j^\top A q_j ,

builds an orthonormal basis Q of the Krylov space in which A is the tridiagonal T. In floating
point Q loses its orthogonality as soon as an eigenvalue of T has settled, and copies of it appear
("ghosts"). Quadratures are not harmed by them; eigenvalues are, so whoever wants these asks for
re-orthogonalisation, or for :mod:`thalweg.numerics.thick_restart`.

Vectors have the type and device of the start. All scalars are float64 numbers on the CPU: float32
dot products are off by 4e-4 at ten million entries, and T is small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from thalweg.errors import NonFiniteError, bad_argument


__all__ = ["ROUNDING", "Product", "Tridiagonal", "inner", "lanczos", "orthogonalize", "project"]

Product = Callable[[Tensor], Tensor]
ROUNDING = 8.0  # a residual of so many units in the last place of A's norm is rounding
# Entries that float32 sums at a time on the CPU, where it adds one by one: a whole row of half a
# million loses three digits. A graphics card sums as a tree.
_CHUNK = 2**14


@final
@dataclass(frozen=True)
class Tridiagonal:
    r"""What m steps give: :math:`A Q = Q T + \beta_m q_{m+1} e_m^\top`.

    Args:
        diagonal: :math:`\alpha_1 \dots \alpha_m`.
        off_diagonal: :math:`\beta_1 \dots \beta_{m-1}`.
        residual: :math:`\beta_m`; 0 where the Krylov space is invariant.
        basis: Q as n x m, its columns contiguous; None unless it was kept.

    Example:
        >>> t = Tridiagonal(np.array([2.0, 2.0]), np.array([1.0]), 0.0, None)
        >>> t.eigh()[0].tolist()
        [1.0, 3.0]
    """

    diagonal: np.ndarray
    off_diagonal: np.ndarray
    residual: float
    basis: Tensor | None

    def eigh(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of T, ascending, and its orthonormal eigenvectors in columns."""
        if len(self.diagonal) == 1:
            return self.diagonal.copy(), np.ones((1, 1))
        values, vectors = eigh_tridiagonal(self.diagonal, self.off_diagonal)
        return np.asarray(values), np.asarray(vectors)


def inner(first: Tensor, second: Tensor) -> float:
    """The inner product of two flat tensors, accumulated in float64.

    Args:
        first: n entries.
        second: n entries.

    Returns:
        The inner product.

    Example:
        >>> inner(torch.full((4,), 2.0), torch.ones(4))
        8.0
    """
    if first.dtype == torch.float64:
        return torch.dot(first, second).item()
    if first.device.type != "cpu":
        return torch.dot(first.double(), second.double()).item()
    parts = zip(first.split(4 * _CHUNK), second.split(4 * _CHUNK), strict=True)
    return sum(torch.dot(a.double(), b.double()).item() for a, b in parts)


def project(vector: Tensor, rows: Tensor, *, exact: bool = False) -> Tensor:
    """The products of a vector with each row of a matrix.

    Args:
        vector: n entries.
        rows: m x n.
        exact: Sum in float64; otherwise float32 is summed over chunks, two to three times faster,
            and right to about 1e-5 of the vector's length where a few entries are much larger than
            the rest.

    Returns:
        m entries, of the vector's type.

    Example:
        >>> project(torch.ones(3), torch.eye(2, 3)).tolist()
        [1.0, 1.0]
    """
    if vector.dtype == torch.float64 or (vector.device.type != "cpu" and not exact):
        return rows @ vector
    total = torch.zeros(len(rows), dtype=torch.float64, device=vector.device)
    chunk = _CHUNK if vector.device.type == "cpu" else 2**22
    for part, piece in zip(rows.split(chunk, 1), vector.split(chunk), strict=True):
        total += part.double() @ piece.double() if exact else part @ piece
    return total.to(vector.dtype)


def orthogonalize(vector: Tensor, rows: Tensor) -> tuple[Tensor, float]:
    r"""A unit vector orthogonal to orthonormal rows, by passes of two matrix-vector products.

    One pass is :math:`q \leftarrow q - Q^\top (Q q)`. It is repeated while it takes away a
    noticeable part of the vector, since what is left then carries the rounding of what was taken.

    Args:
        vector: n entries; not changed.
        rows: m x n, the basis in rows; m may be 0.

    Returns:
        The unit vector, and its share of the length of ``vector``: 0, with a zero vector, if
        nothing but rounding is left.

    Example:
        >>> q, left = orthogonalize(torch.tensor([3.0, 4.0]), torch.tensor([[1.0, 0.0]]))
        >>> q.tolist(), left
        ([0.0, 1.0], 0.8)

    References:
        Giraud, Langou, Rozloznik and van den Eshof, Rounding error analysis of the classical
        Gram-Schmidt orthogonalization process, 2005.
    """
    norm = math.sqrt(inner(vector, vector))
    left = 1.0 if norm > 0 else 0.0
    unit = vector / norm if norm > 0 else torch.zeros_like(vector)
    passes = 4 if len(rows) and norm > 0 else 0
    for _ in range(passes):
        unit.addmv_(rows.T, project(unit, rows, exact=True), alpha=-1)
        kept = math.sqrt(inner(unit, unit))
        left *= kept
        if left < 100 * torch.finfo(vector.dtype).eps:
            return torch.zeros_like(vector), 0.0
        unit /= kept
        if kept > 0.7:
            break
    return unit, left


def lanczos(
    product: Product,
    start: Tensor,
    steps: int,
    *,
    reorthogonalize: bool = False,
    where: str = "lanczos",
) -> Tridiagonal:
    """Tridiagonalise a symmetric map from a starting vector.

    Without re-orthogonalisation three vectors are kept and a step costs three passes over them
    beside the product. With it all m are kept in one matrix, and each new vector is cleaned by two
    passes of two matrix-vector products. Where ``steps`` reaches n it is always on, because the
    basis is then small and n exact steps are the whole spectrum.

    Args:
        product: The map; its argument is not to be changed by it.
        start: n real floating-point entries, not all zero; any length.
        steps: The number m of steps, >= 1; at most n are made, and fewer where the Krylov space
            becomes invariant.
        reorthogonalize: Keep the basis, orthonormal to rounding.
        where: The caller's name, for messages.

    Returns:
        The tridiagonal matrix, and the basis where it was kept.

    Raises:
        ValueError: If the start is zero or not finite, or ``steps`` < 1.
        NonFiniteError: If a product has a NaN or an infinite entry.

    Example:
        >>> scale = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
        >>> t = lanczos(lambda v: scale * v, torch.ones(3, dtype=torch.float64), 3)
        >>> t.eigh()[0].round(6).tolist()
        [1.0, 2.0, 4.0]

    References:
        Lanczos, An iteration method for the solution of the eigenvalue problem, 1950. The order of
        operations is that of Paige, Computational variants of the Lanczos method, 1972.
    """
    norm = math.sqrt(inner(start, start))
    if steps < 1:
        raise bad_argument(where, "steps", steps, "an integer >= 1")
    if not (math.isfinite(norm) and norm > 0):
        raise bad_argument(where, "start", f"a vector of norm {norm}", "finite and not zero")
    n = start.numel()
    steps = min(steps, n)
    rows = start.new_empty(steps, n) if reorthogonalize or steps == n else None
    rounding = ROUNDING * torch.finfo(start.dtype).eps
    current, previous = start / norm, torch.zeros_like(start)
    diagonal: list[float] = []
    off: list[float] = []
    scale = beta = 0.0
    for step in range(steps):
        # Out of place: a product may hand back its own argument.
        image = torch.add(product(current), previous, alpha=-beta)
        diagonal.append(inner(current, image))
        image.add_(current, alpha=-diagonal[-1])
        if rows is not None:
            rows[step] = current
            image.addmv_(rows[: step + 1].T, project(image, rows[: step + 1]), alpha=-1)
        beta = math.sqrt(inner(image, image))
        if not math.isfinite(diagonal[-1] + beta):
            raise NonFiniteError(f"{where}: product {step + 1} has a NaN or an infinite entry.")
        scale = max(scale, abs(diagonal[-1]) + beta)
        if beta <= rounding * scale or step + 1 == n:
            beta = 0.0
        off.append(beta)
        if beta == 0.0 or step + 1 == steps:
            break
        previous, current = current, image.div_(beta)
        if rows is not None:
            current, left = orthogonalize(current, rows[: step + 1])
            if left == 0.0:
                off[-1] = 0.0
                break
    made = len(diagonal)
    basis = rows[:made].T if rows is not None and reorthogonalize else None
    return Tridiagonal(np.array(diagonal), np.array(off[:-1]), off[-1], basis)
