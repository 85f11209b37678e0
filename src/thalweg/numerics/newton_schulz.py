r"""The nearest orthonormal matrix, roughly, by matrix products alone.

With the singular value decomposition :math:`M = U S V^\top`, the quintic Newton-Schulz iteration

.. math::
    X \leftarrow a X + b\,(X X^\top) X + c\,(X X^\top)^2 X

maps each singular value s to :math:`a s + b s^3 + c s^5` and leaves U and V as they are. Jordan's
coefficients trade the limit for speed: small values grow by the factor a = 3.44 a step, and all end
between about 0.7 and 1.2 instead of at 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from thalweg.errors import bad_argument


__all__ = ["QUINTIC", "orthogonalized"]

QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalized(
    matrices: Tensor,
    steps: int = 5,
    coefficients: tuple[float, float, float] = QUINTIC,
    eps: float = 1e-7,
    dtype: torch.dtype | None = torch.bfloat16,
) -> Tensor:
    r"""About :math:`U V^\top` of each matrix's singular value decomposition.

    Args:
        matrices: ... x m x n; one matrix, or many of one shape.
        steps: The iterations, >= 0.
        coefficients: (a, b, c) of the polynomial; by default Jordan's, which after five steps takes
            singular values above about 1e-2 of the Frobenius norm into [0.68, 1.21]. With
            (15/8, -5/4, 3/8) the iteration converges to 1, slowly.
        eps: What the Frobenius norm is at least, for the division by it: a zero matrix stays zero.
        dtype: In which to iterate; bfloat16 is Jordan's. None: the matrices' own.

    Returns:
        The matrices, in ``dtype``.

    Raises:
        ValueError: If there is no matrix, or ``steps`` is negative.

    Example:
        >>> q = orthogonalized(torch.diag(torch.tensor([4.0, 2.0])), dtype=None)
        >>> torch.linalg.svdvals(q).sub(1).abs().max().item() < 0.32
        True

    References:
        Jordan, Muon: an optimizer for hidden layers in neural networks, 2024; Bernstein and
        Newhouse, Old optimizer, new norm, 2024.
    """
    if matrices.ndim < 2:
        raise bad_argument("orthogonalized", "matrices", tuple(matrices.shape), "of shape ...mn")
    if steps < 0:
        raise bad_argument("orthogonalized", "steps", steps, "an integer >= 0")
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.to(dtype or matrices.dtype)
    x = x.mT if tall else x
    norm = x.norm() if x.ndim == 2 else torch.linalg.matrix_norm(x, keepdim=True)
    x = x / norm.clamp(min=eps)
    a, b, c = coefficients
    if x.ndim > 3:
        shape, x = x.shape, x.flatten(0, -3)
        return _iterated(x, steps, a, b, c, tall).unflatten(0, shape[:-2])
    return _iterated(x, steps, a, b, c, tall)


def _iterated(x: Tensor, steps: int, a: float, b: float, c: float, tall: bool) -> Tensor:
    # The two calls that torch.optim.Muon makes, so that one matrix ends at torch's bits.
    product = torch.addmm if x.ndim == 2 else torch.baddbmm
    for _ in range(steps):
        gram = x @ x.mT
        x = product(x, product(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
