r"""Inverse roots and eigenbases of symmetric positive semi-definite matrices, whatever they are.

Preconditioners are made of second moments, which are rank deficient at the start, badly scaled
later, and NaN when a run goes wrong. Here each matrix of a batch stands alone: what fails in its
own precision is tried again in float64, and what fails there too is reported, not raised, so that
the caller can keep what it had.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.errors import bad_argument


__all__ = ["Eigen", "eigen", "inverse_root", "refined_basis"]


class Eigen(NamedTuple):
    """Eigenvalues (ascending, in the last axis), eigenvectors in columns, and which are good.

    Example:
        >>> eigen(torch.eye(2)).good
        tensor(True)
    """

    values: Tensor
    vectors: Tensor
    good: Tensor


def eigen(matrices: Tensor) -> Eigen:
    """The symmetric eigendecomposition of each matrix.

    Only the lower triangles are read.

    Args:
        matrices: ... x n x n.

    Returns:
        Values ... x n, vectors ... x n x n, and a flag for each matrix that tells whether it
        succeeded. Where it did not (an entry is NaN or infinite, or LAPACK gives up in float64
        too), the values are 1 and the vectors the identity.

    Raises:
        ValueError: If the matrices are not square.

    Example:
        >>> found = eigen(torch.tensor([[[2.0, 0.0], [0.0, 3.0]], [[float("nan")] * 2] * 2]))
        >>> found.values.tolist(), found.good.tolist()
        ([[2.0, 3.0], [1.0, 1.0]], [True, False])
    """
    if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2]:
        raise bad_argument("eigen", "matrices", tuple(matrices.shape), "of shape ...nn")
    flat = matrices.reshape(math.prod(matrices.shape[:-2]), *matrices.shape[-2:])
    good = _finite(flat)
    if bool(good.all()):
        found = _decomposed(flat)
        if found is not None:
            return _shaped(Eigen(*found, good), matrices)
    eye = torch.eye(flat.shape[-1], dtype=flat.dtype, device=flat.device)
    values, vectors = eye.new_ones(flat.shape[:2]), eye.expand_as(flat).clone()
    for i in good.nonzero().flatten().tolist():
        found = _decomposed(flat[i])
        if found is None and flat.dtype is not torch.float64:
            found = _decomposed(flat[i].double())
        if found is None:
            good[i] = False
        else:
            values[i], vectors[i] = found
    return _shaped(Eigen(values, vectors, good), matrices)


def inverse_root(matrices: Tensor, root: float, floor: float = 1e-4) -> tuple[Tensor, Tensor]:
    r"""The inverse root :math:`A^{-1/p}` of each matrix, with small eigenvalues lifted.

    .. math::
        A^{-1/p} = V\, \operatorname{diag}\bigl(
            \max(\lambda_i, \epsilon\,\lambda_{\max})^{-1/p}\bigr)\, V^\top .

    The floor is relative, so that the root of c A is :math:`c^{-1/p}` times the root of A however
    small c is: directions in which a rank-deficient matrix knows nothing are scaled up by at most
    :math:`\epsilon^{-1/p}` beside the largest. The root of a zero matrix is the identity.

    Args:
        matrices: ... x n x n, symmetric positive semi-definite; the lower triangles are read.
        root: p > 0; 4 for Shampoo's factors of a matrix.
        floor: :math:`\epsilon` in (0, 1].

    Returns:
        The roots, and a flag for each that tells whether it is to be trusted; the identity stands
        where it is not.

    Raises:
        ValueError: If the matrices are not square, ``root`` is not positive or ``floor`` is outside
            its range.

    Example:
        >>> root, good = inverse_root(torch.diag(torch.tensor([16.0, 81.0])), 4)
        >>> root.diagonal(), good
        (tensor([0.5000, 0.3333]), tensor(True))

    References:
        Gupta, Koren and Singer, Shampoo: preconditioned stochastic tensor optimization, 2018.
    """
    if not root > 0:
        raise bad_argument("inverse_root", "root", root, "a number > 0")
    if not 0 < floor <= 1:
        raise bad_argument("inverse_root", "floor", floor, "a number in (0, 1]")
    values, vectors, good = eigen(matrices)
    if not matrices.shape[-1]:
        return vectors, good
    largest = values[..., -1:]
    lifted = torch.where(largest > 0, values.clamp(min=floor * largest), torch.ones_like(values))
    roots = (vectors * lifted.pow(-1.0 / root).unsqueeze(-2)) @ vectors.mT
    fine = good & _finite(roots)  # 1e-40 to the power -1 is none in float32
    if bool(fine.all()):
        return roots, fine
    eye = torch.eye(roots.shape[-1], dtype=roots.dtype, device=roots.device)
    return torch.where(fine[..., None, None], roots, eye), fine


def refined_basis(matrices: Tensor, bases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""One step of the power method from a basis towards each matrix's eigenvectors.

    The columns of Q are ordered by :math:`q_i^\top A\, q_i`, largest first, and replaced by the
    orthonormal factor of :math:`A Q`: cheaper than an eigendecomposition, and as good where the
    matrix has moved little since the last.

    Args:
        matrices: ... x n x n, symmetric.
        bases: ... x n x n, orthonormal columns.

    Returns:
        The new bases, the order in which the old columns were taken (... x n), and a flag for each
        that tells whether it succeeded; where it did not, the basis and the order are the old.

    Example:
        >>> a = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
        >>> refined_basis(a, torch.eye(2))[1]
        tensor([1, 0])

    References:
        Vyas et al., SOAP: improving and stabilizing Shampoo using Adam, 2024, algorithm 4.
    """
    images = matrices @ bases
    order = torch.argsort((bases * images).sum(-2), dim=-1, descending=True, stable=True)
    columns = order.unsqueeze(-2).expand_as(images)
    good = _finite(images)
    safe = images if bool(good.all()) else torch.where(good[..., None, None], images, bases)
    found = torch.linalg.qr(safe.gather(-1, columns))[0]
    good = good & _finite(found)
    if not bool(good.all()):
        found = torch.where(good[..., None, None], found, bases)
        order = torch.where(good[..., None], order, torch.arange(order.shape[-1]).to(order))
    return found, order, good


def _decomposed(matrices: Tensor) -> tuple[Tensor, Tensor] | None:
    """LAPACK's answer, or None where it has none."""
    try:
        values, vectors = torch.linalg.eigh(matrices)
    except torch.linalg.LinAlgError:
        return None
    return (values, vectors) if bool(_finite(vectors).all()) else None


def _finite(matrices: Tensor) -> Tensor:
    """Whether no entry of each is NaN or infinite."""
    good = matrices.sum((-2, -1)).isfinite()  # one pass; a sum may leave the range of its terms
    return good if bool(good.all()) else matrices.isfinite().flatten(-2).all(-1)


def _shaped(found: Eigen, like: Tensor) -> Eigen:
    return Eigen(
        found.values.reshape(like.shape[:-1]).to(like.dtype),
        found.vectors.reshape(like.shape).to(like.dtype),
        found.good.reshape(like.shape[:-2]),
    )
