"""Eigenvalues and eigenvectors at the ends of a spectrum, and near a number inside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.symmetric import (
    check_symmetric,
    dense_eigh,
    symmetric_product,
    working_dtype,
)
from thalweg.errors import POSITIVE, bad_argument, integer_from, one_of
from thalweg.numerics.lanczos import orthogonalize
from thalweg.numerics.probes import Probes
from thalweg.numerics.thick_restart import Search, eigenpairs
from thalweg.vectors import Vector


__all__ = ["Eigenpairs", "eigsh", "eigsh_near"]

_FLOOR = 1e-3  # of the norm of A: eigenvalues smaller than this converge as if they had this size
_FRESH = 0.3  # length of the random part of a warm start
_LOOK = 4  # products beyond the starting vectors in which a new direction can show


@final
@dataclass(frozen=True)
class Eigenpairs:
    r"""Approximate eigenpairs :math:`(\theta_i, u_i)`, the most wanted first.

    Args:
        values: k eigenvalues, float64 on the CPU.
        vectors: n x k orthonormal columns on the operator's device.
        residuals: :math:`r_i = \|A u_i - \theta_i u_i\|`. An eigenvalue lies within it: this holds
            for any symmetric A (but which eigenvalue it is, it does not say).
        errors: The smaller of :math:`r_i` and :math:`r_i^2 / g_i`, where the gap :math:`g_i` to the
            rest of the spectrum is read from the other Ritz values and their residuals.
        products: Products spent.
        converged: Whether every residual is under its tolerance.
        ends: The smallest and the largest Ritz value seen, both inside the spectrum.

    Example:
        >>> from thalweg.curvature.dense import Dense
        >>> top = eigsh(Dense(torch.diag(torch.arange(1.0, 301.0) ** 2)), k=2)
        >>> bool((top.values - torch.tensor([90000.0, 89401.0])).abs().max() < 900)
        True

    References:
        Parlett, The symmetric eigenvalue problem, chapters 4, 11 and 13, 1998.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    errors: Tensor
    products: int
    converged: bool
    ends: tuple[float, float]

    def __str__(self) -> str:
        shown = ", ".join(
            f"{value:.6g} ± {error:.1g}"
            for value, error in zip(self.values.tolist(), self.errors.tolist(), strict=True)
        )
        state = "" if self.converged else ", not converged"
        return f"{shown} ({self.products} products{state})"


def eigsh(
    A: AbstractOperator,
    k: int = 1,
    which: str = "LA",
    *,
    tol: float = 0.01,
    start: Tensor | Vector | Eigenpairs | None = None,
    max_products: int | None = None,
    copies: bool = True,
    seed: int | torch.Generator = 0,
    progress: bool = False,
) -> Eigenpairs:
    r"""Eigenpairs at the ends of the spectrum, by Lanczos with thick restart.

    The basis is re-orthogonalised fully, so no eigenvalue is reported twice. A pair is accepted
    when its residual is below ``tol`` times its value (or the spread of the Ritz values, if that is
    smaller). The eigenvalue's error goes with the square of the residual: the default of 1 % leaves
    about 1e-4 of the largest eigenvalue of a trained network, after 5 to 8 products.

    A run from one vector sees one vector of each eigenspace. For k > 1, ``copies`` follows a random
    vector afterwards until a hidden copy would have shown with 95 % probability; that costs 10 to
    40 products more, and ``copies=False`` saves them where eigenvalues are known to be simple.

    A warm start takes the eigenvectors of an earlier call. It spends at least four products more
    than it has vectors, because an eigenvector that has ceased to be the top one looks as
    converged as ever. A direction that is much smaller than the known ones shows only in a cold
    start.

    Args:
        A: A symmetric operator.
        k: The number of pairs, 1 to n.
        which: ``"LA"`` largest, ``"SA"`` smallest, ``"LM"`` largest in magnitude, ``"BE"`` both
            ends (one more from the high end if k is odd).
        tol: Relative residual, > 0. Eigenvalues under a thousandth of the norm of A are held to
            ``tol`` times that thousandth.
        start: Vectors to start from: n entries, n x p columns, or an earlier result.
        max_products: At most so many products, at least k; default 300 + 40 k.
        copies: For k > 1, look for further copies of multiple eigenvalues.
        seed: An integer, or a generator of the CPU's.
        progress: Show a progress bar.

    Returns:
        The pairs. n products and LAPACK are used where the basis would hold all of the space.

    Raises:
        ValueError: If A is not symmetric, or an argument is outside its range.
        NonFiniteError: If a product has a NaN or an infinite entry.

    Example:
        >>> from thalweg.curvature.operator import Expression
        >>> scale = torch.cat([torch.tensor([9.0, -5.0]), torch.linspace(-1, 1, 500)])[:, None]
        >>> A = Expression((502, 502), lambda v: scale * v, symmetric=True)
        >>> [round(value) for value in eigsh(A, 2, "BE").values.tolist()]
        [9, -5]

    References:
        Wu and Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems, 2000.
    """
    one_of(*_ORDERS).check("eigsh", "which", which)

    def order(values: np.ndarray, residuals: np.ndarray) -> np.ndarray:
        del residuals
        return _ORDERS[which](values)

    most = 300 + 40 * k if max_products is None else max_products
    size = max(2 * k + 10, 20)
    search = Search(k, order, tol, _FLOOR, size, most, copies and k > 1)
    return _solve("eigsh", A, search, start, seed, progress)


def eigsh_near(
    A: AbstractOperator,
    shift: float,
    k: int = 1,
    *,
    tol: float = 0.01,
    size: int | None = None,
    start: Tensor | Vector | Eigenpairs | None = None,
    max_products: int = 2000,
    seed: int | torch.Generator = 0,
    progress: bool = False,
) -> Eigenpairs:
    r"""Eigenpairs whose eigenvalues are nearest to a number inside the spectrum.

    Lanczos with thick restart on A itself, which returns the Ritz vectors with the smallest
    :math:`\|(A - \sigma) u\| = \sqrt{(\theta - \sigma)^2 + r^2}`: a Ritz value that passes by the
    shift without being near an eigenvalue has a large residual r. The Krylov space of A holds that
    of :math:`(A - \sigma)^2` of half the degree, which costs the same products, and inverting
    :math:`A - \sigma` by MINRES needs hundreds of products a step.

    Eigenvalues inside a dense part of a spectrum take very many products by any method without
    factorisation: see ``converged``. Of a multiple eigenvalue one copy is found. That no
    eigenvalue is nearer is likely, not certain.

    Args:
        A: A symmetric operator.
        shift: The number, finite.
        k: The number of pairs, 1 to n.
        tol: Relative residual, as for :func:`eigsh`.
        size: Vectors in the basis; default max(80, 40 + 4 k). More converge in fewer products.
        start: Vectors to start from.
        max_products: At most so many products, at least k.
        seed: An integer, or a generator of the CPU's.
        progress: Show a progress bar.

    Returns:
        The pairs, the nearest first.

    Raises:
        ValueError: If A is not symmetric, or an argument is outside its range.
        NonFiniteError: If a product has a NaN or an infinite entry.

    Example:
        >>> from thalweg.curvature.dense import Dense
        >>> A = Dense(torch.diag(torch.arange(50.0)))
        >>> eigsh_near(A, 17.2, k=2).values.round(decimals=3).tolist()
        [17.0, 18.0]

    References:
        Morgan, Computing interior eigenvalues of large matrices, 1991.
    """
    if not np.isfinite(shift):
        raise bad_argument("eigsh_near", "shift", shift, "a finite number")

    def order(values: np.ndarray, residuals: np.ndarray) -> np.ndarray:
        apart = np.abs(values - shift)
        best = np.argsort(np.hypot(apart, residuals))[:k]
        # The rest of what a restart keeps serves best if it is merely near.
        rest = np.argsort(apart)
        return np.concatenate([best, rest[~np.isin(rest, best)]])

    basis = max(80, 40 + 4 * k) if size is None else size
    if basis < k + 2:
        raise bad_argument("eigsh_near", "size", basis, f"at least k + 2 = {k + 2}")
    search = Search(k, order, tol, _FLOOR, basis, max_products, False)
    return _solve("eigsh_near", A, search, start, seed, progress)


def _both_ends(values: np.ndarray) -> np.ndarray:
    """The highest, the lowest, the second highest, and so on."""
    falling = np.argsort(-values)
    mixed = np.stack([falling, falling[::-1]], axis=1).reshape(-1)
    return mixed[: len(values)]


_ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "LA": lambda values: np.argsort(-values),
    "SA": np.argsort,
    "LM": lambda values: np.argsort(-np.abs(values)),
    "BE": _both_ends,
}


def _solve(
    where: str,
    A: AbstractOperator,
    search: Search,
    start: Tensor | Vector | Eigenpairs | None,
    seed: int | torch.Generator,
    progress: bool,
) -> Eigenpairs:
    check_symmetric(where, A)
    n, k = A.shape[0], search.count
    integer_from(1).check(where, "k", k)
    POSITIVE.check(where, "tol", search.tol)
    if k > n:
        raise bad_argument(where, "k", k, f"at most {n}, the number of rows")
    integer_from(k).check(where, "max_products", search.most)
    given = None if start is None else _columns(where, A, start)
    if search.size >= n and search.most >= n:
        return _dense(where, A, search)
    probes = Probes(n, "gaussian", seed, working_dtype(A), A.device)
    least = 1
    if given is None:
        given = probes.draw(1)
    else:
        given = given[:, : max(k, 1) + 4].clone()
        unit, _ = orthogonalize(probes.draw(1)[:, 0], given.new_empty(0, n))
        given[:, 0] += _FRESH * given[:, 0].norm() * unit
        least = given.shape[1] + _LOOK
    search = replace(search, size=min(search.size, n), least=least)
    with symmetric_product(where, A, progress, search.most) as product:
        pairs = eigenpairs(product, given, search, probes, where)
    return Eigenpairs(
        torch.from_numpy(pairs.values),
        pairs.vectors,
        torch.from_numpy(pairs.residuals),
        torch.from_numpy(pairs.errors),
        pairs.products,
        pairs.converged,
        pairs.ends,
    )


def _columns(where: str, A: AbstractOperator, start: Tensor | Vector | Eigenpairs) -> Tensor:
    if isinstance(start, Eigenpairs):
        start = start.vectors
    if isinstance(start, Vector):
        start = torch.cat([part.detach().reshape(-1) for part in start])
    n = A.shape[0]
    fits = isinstance(start, Tensor) and start.ndim in (1, 2) and len(start) == n
    if not fits or not start.numel() or not bool(start.isfinite().all()) or not start.any():
        shown = tuple(start.shape) if isinstance(start, Tensor) else start
        raise bad_argument(where, "start", shown, f"{n} finite entries, or columns of them, not 0")
    return start.detach().to(A.device, working_dtype(A)).reshape(n, -1)


def _dense(where: str, A: AbstractOperator, search: Search) -> Eigenpairs:
    values, vectors = dense_eigh(where, A)
    picked = search.order(values, np.zeros_like(values))[: search.count]
    kind = working_dtype(A)
    rounding = float(np.abs(values).max()) * torch.finfo(kind).eps
    errors = torch.full((len(picked),), rounding, dtype=torch.float64)
    columns = torch.from_numpy(vectors[:, picked]).to(A.device, kind)
    found = torch.from_numpy(values[picked])
    ends = (float(values[0]), float(values[-1]))
    return Eigenpairs(found, columns, errors, errors.clone(), A.shape[0], True, ends)
