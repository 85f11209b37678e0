r"""Gauss quadrature by Lanczos: what a vector sees of a spectrum.

A unit vector v and a symmetric A with eigenpairs :math:`(\lambda_i, u_i)` define a measure with the
weight :math:`(u_i^\top v)^2` at each eigenvalue, so that

.. math:: v^\top f(A)\, v = \int f\, d\mu_v .

The eigenvalues of Lanczos' tridiagonal matrix, with the squared first entries of its eigenvectors
as weights, are the Gauss quadrature of this measure: exact for polynomials of degree 2 m - 1.
Averaged over random v it is a quadrature for :math:`\operatorname{tr} f(A) / n`.

References:
    Golub and Welsch, Calculation of Gauss quadrature rules, 1969.
    Ubaru, Chen and Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature, 2017.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from thalweg.numerics.lanczos import Product, Tridiagonal, lanczos


__all__ = ["between", "gauss", "lanczos_quadrature"]


def gauss(tridiagonal: Tridiagonal, steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights from a tridiagonal matrix.

    Args:
        tridiagonal: From :func:`~thalweg.numerics.lanczos.lanczos`.
        steps: Use the first steps only; None uses all.

    Returns:
        The nodes, ascending, and their weights, which sum to one.

    Example:
        >>> t = Tridiagonal(np.array([2.0, 2.0]), np.array([1.0]), 0.0, None)
        >>> [part.round(6).tolist() for part in gauss(t)]
        [[1.0, 3.0], [0.5, 0.5]]
    """
    m = min(steps or len(tridiagonal.diagonal), len(tridiagonal.diagonal))
    part = Tridiagonal(tridiagonal.diagonal[:m], tridiagonal.off_diagonal[: m - 1], 0.0, None)
    nodes, vectors = part.eigh()
    weights = vectors[0] ** 2
    return nodes, weights / weights.sum()


def lanczos_quadrature(
    product: Product,
    start: Tensor,
    steps: int,
    *,
    reorthogonalize: bool = False,
    where: str = "lanczos_quadrature",
) -> tuple[np.ndarray, np.ndarray]:
    """The quadrature that a starting vector gives.

    Without re-orthogonalisation eigenvalues are repeated among the nodes, and the copies share the
    weight: integrals are right to rounding all the same, with more steps for the same accuracy.

    Args:
        product: The map; its argument is not to be changed by it.
        start: n entries, not all zero.
        steps: The number of nodes, at most n.
        reorthogonalize: Keep the basis orthonormal.
        where: The caller's name, for messages.

    Returns:
        Nodes and weights: fewer than ``steps`` where the Krylov space became invariant.

    Raises:
        ValueError: If the start is zero or not finite, or ``steps`` < 1.
        NonFiniteError: If a product has a NaN or an infinite entry.

    Example:
        >>> import torch
        >>> nodes, weights = lanczos_quadrature(lambda v: 3 * v, torch.ones(4), 2)
        >>> nodes.round(5).tolist(), weights.tolist()
        ([3.0], [1.0])

    References:
        Greenbaum, Behavior of slightly perturbed Lanczos and conjugate-gradient recurrences, 1989:
        why the nodes of an inexact run are those of a matrix with nearby eigenvalues.
    """
    t = lanczos(product, start, steps, reorthogonalize=reorthogonalize, where=where)
    return gauss(t)


def between(nodes: np.ndarray, weights: np.ndarray, x: float) -> tuple[float, float]:
    r"""What the measure of all below x can be, given its Gauss quadrature.

    By the inequalities of Chebyshev, Markov and Stieltjes the distribution function F of the
    measure satisfies :math:`\sum_{j < i} w_j \le F(\theta_i) \le \sum_{j \le i} w_j` at the nodes;
    between two nodes it is bounded by its values there. No smoothness is assumed.

    Args:
        nodes: Ascending; nodes of no weight are left out.
        weights: They sum to one.
        x: Where the distribution function is asked for.

    Returns:
        The bounds.

    Example:
        >>> between(np.array([0.0, 1.0, 2.0]), np.array([0.25, 0.5, 0.25]), 1.5)
        (0.25, 1.0)

    References:
        Szego, Orthogonal polynomials, section 3.41, 1939.
    """
    nodes, weights = nodes[weights > 0], weights[weights > 0]
    total = np.concatenate([[0.0], np.cumsum(weights)])
    below, upto = int(np.sum(nodes < x)), int(np.sum(nodes <= x))
    low = total[max(below - 1, 0)]
    high = total[min(upto + 1, len(nodes))]
    return float(low), float(min(high, 1.0))
