"""A quadratic model in the span of the gradient's Krylov space and a few directions beside it.

References:
    Dauphin, Pascanu, Gulcehre, Cho, Ganguli and Bengio, Identifying and attacking the saddle point
    problem in high-dimensional non-convex optimization, 2014, appendix.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from thalweg.numerics.krylov_space import KrylovSpace
from thalweg.numerics.lanczos import Product
from thalweg.numerics.probes import Probes
from thalweg.numerics.quadratic_model import QuadraticModel


__all__ = ["krylov_model"]

_DAMPING = 1e-3  # of the step by which vectors are chosen


def krylov_model(
    product: Product,
    gradient: Tensor,
    most: int,
    beside: Tensor | None = None,
    seed: int | torch.Generator = 0,
) -> QuadraticModel:
    """The model in a subspace of fewer than ``most`` dimensions, with ``most`` products.

    The space starts from the gradient, from ``beside`` and from a random vector: at a saddle the
    gradient's own Krylov space does not see the way down. The last two are multiplied once each;
    the other products follow the gradient. Random vectors are 0 in the entries that neither the
    gradient nor the Hessian sees, so that nothing moves there; it takes the first product to know.

    Args:
        product: v -> H v on flat tensors; its argument is not to be changed by it.
        gradient: g, flat.
        most: Products, >= 2; one more than there are dimensions.
        beside: Another direction that belongs to it: the last step.
        seed: Of the random vector.

    Returns:
        The model; it knows nothing of what lies outside.

    Raises:
        NonFiniteError: If a product has a NaN or an infinite entry.

    Example:
        >>> H = torch.tensor([3.0, -1.0, 1.0])
        >>> krylov_model(lambda v: H * v, torch.ones(3), 4).values.round(3).tolist()
        [-1.0, 1.0, 3.0]
    """
    n = gradient.numel()
    probes = Probes(n, "gaussian", seed, dtype=gradient.dtype, device=gradient.device)
    first_draw = probes.draw(1)[:, 0]
    seen = (gradient != 0) | (product(first_draw) != 0)
    given = [gradient, beside, first_draw * seen]
    starts = [v / v.norm() for v in given if v is not None and bool(v.any())]
    starts = starts or [first_draw / first_draw.norm()]  # H and the gradient are 0
    most -= 1
    space = KrylovSpace(product, torch.stack(starts, 1), min(most, n), "krylov_model")
    others = len(starts) - int(bool(gradient.any()))
    first = True
    while space.filled < len(space.rows) and space.products < most:
        if not space.waiting and not space.add(probes.draw(1)[:, 0] * seen):
            break
        # The gradient, then each of the others; from then on what the gradient's chain left over.
        chosen = 0 if first or others > 0 else _heaviest(space)
        others -= not first
        first = False
        space.expand(chosen)
    m = space.filled
    values, turn, _ = space.ritz()
    rows = space.rows[:m]
    vectors = (torch.from_numpy(np.ascontiguousarray(turn.T)).to(rows) @ rows).T
    coordinates = (vectors.T.double() @ gradient.double()).cpu().numpy()
    return QuadraticModel.spanned(values, vectors, coordinates)


def _heaviest(space: KrylovSpace) -> int:
    """The waiting vector that carries most of what the step in the space leaves over.

    The gradient is a multiple of the first basis vector.
    """
    m = space.filled
    values, turn, _ = space.ritz()
    size = np.abs(values)
    step = turn @ (turn[0] / (size + _DAMPING * (size.max() or 1.0)))
    lengths = np.sqrt(np.maximum(np.diag(space.gram), 0.0))
    return int(np.argmax(lengths * np.abs(space.coupling[:, :m] @ step)))
