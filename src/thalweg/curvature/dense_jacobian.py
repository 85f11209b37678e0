r"""The Jacobian as a matrix, by whichever way costs least.

* by rows: backward passes through one graph, many rows at a time;
* by columns: forward passes with dual numbers, where there are far more rows than columns;
* by samples: where a model's samples do not see each other, a backward pass for each *output of a
  sample* gives all rows at once. It is compared with the backward pass through the whole batch.

Only first derivatives are taken; where one way is not supported by some layer, the next one is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import grad, vmap

from thalweg.curvature.tangents import Tangents
from thalweg.errors import UNTRANSFORMABLE
from thalweg.objective.program import ModelProgram
from thalweg.objective.rows import row_count, rows_of


__all__ = ["dense_jacobian", "jacobian_by_samples"]

_ENTRIES = 2**22  # of rows, or of outputs, that one batched pass holds
_OVERHEAD = 2**14  # numbers that could be worked on while one forward pass is set up


def dense_jacobian(tangents: Tangents, leaves: Sequence[Tensor]) -> Tensor:
    """The matrix of a function's first derivatives.

    Args:
        tangents: The function at its point.
        leaves: The point, as ``tangents`` has it.

    Returns:
        Of shape (outputs, entries of the leaves).

    Example:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> dense_jacobian(Tangents(lambda p: p[0] ** 2, [x]), [x])
        tensor([[2., 0.],
                [0., 4.]])
    """
    m, n = tangents.outputs.numel(), sum(leaf.numel() for leaf in leaves)
    if not tangents.outputs.requires_grad or not m * n:
        return tangents.outputs.new_zeros(m, n)
    # A batched backward pass works on m numbers for each of m rows.
    if m > n and m * m > _OVERHEAD * n:
        return _by_columns(tangents, leaves, n)
    return _by_rows(tangents, leaves, m, n)


def _by_rows(tangents: Tangents, leaves: Sequence[Tensor], m: int, n: int) -> Tensor:
    outputs = tangents.outputs
    made: list[Tensor] = []
    at_once = max(1, _ENTRIES // max(m, n))
    for first in range(0, m, at_once):
        picks = outputs.new_zeros(min(at_once, m - first), m)
        picks[:, first : first + len(picks)].fill_diagonal_(1.0)
        made.append(_rows(outputs, leaves, picks.view(-1, *outputs.shape)))
    return torch.cat(made)


def _rows(outputs: Tensor, leaves: Sequence[Tensor], picks: Tensor) -> Tensor:
    """Some rows: in one batched pass, or one after the other where a layer cannot be batched."""

    def back(pick: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            outputs, list(leaves), pick, retain_graph=True, materialize_grads=True
        )

    try:
        parts = vmap(back)(picks)
    except UNTRANSFORMABLE:
        single = [back(pick) for pick in picks]
        return torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in single])
    return torch.cat([part.reshape(len(picks), -1) for part in parts], 1)


def _by_columns(tangents: Tangents, leaves: Sequence[Tensor], n: int) -> Tensor:
    first = leaves[0]
    sizes = [leaf.numel() for leaf in leaves]
    made = []
    for j in range(n):
        pick = torch.zeros(n, dtype=first.dtype, device=first.device)
        pick[j] = 1.0
        pairs = zip(pick.split(sizes), leaves, strict=True)
        column = tangents.forward([part.view_as(leaf) for part, leaf in pairs])
        made.append(column.detach().reshape(-1))
    return torch.stack(made, 1)


def jacobian_by_samples(
    program: ModelProgram, theta: Sequence[Tensor], kept: Sequence[int], outputs: Tensor
) -> Tensor | None:
    """The Jacobian of a model's outputs, all samples in one pass for each output of a sample.

    Args:
        program: A model on one batch, whose samples are rows.
        theta: The point, over all its parameters.
        kept: The places of the parameters that make the columns; those require a gradient.
        outputs: What the model gives there, with its graph.

    Returns:
        Of shape (outputs, entries); None where samples see each other or cannot be told apart, or
        where rows of the whole batch are no dearer.

    Example:
        >>> from thalweg.objective import Objective
        >>> objective = Objective(torch.nn.Linear(1, 1, bias=False), torch.nn.functional.mse_loss)
        >>> closure = objective.closure(torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1))
        >>> z, _ = closure.outputs()
        >>> jacobian_by_samples(closure.program, list(closure.params), [0], z)
        tensor([[1.],
                [2.]])
    """
    if not outputs.ndim or not outputs.requires_grad:
        return None
    count = len(outputs)
    each = outputs.numel() // max(count, 1)
    try:
        if count <= 1 or row_count(program.batch) != count:
            return None
        made = [_samples_rows(program, theta, kept, outputs, place, each) for place in range(each)]
    except UNTRANSFORMABLE:
        return None
    rows = torch.stack(made, 1).reshape(count * each, -1)
    generator = torch.Generator().manual_seed(20_262)
    weights = torch.randn(outputs.numel(), generator=generator).to(outputs)
    whole = torch.autograd.grad(
        outputs,
        [theta[i] for i in kept],
        weights.view_as(outputs),
        retain_graph=True,
        materialize_grads=True,
    )
    gap = weights @ rows - torch.cat([part.reshape(-1) for part in whole])
    allowed = torch.finfo(rows.dtype).eps ** 0.5 * float(rows.norm()) + 1e-300
    return rows if float(gap.norm()) <= allowed else None


def _samples_rows(
    program: ModelProgram,
    theta: Sequence[Tensor],
    kept: Sequence[int],
    outputs: Tensor,
    place: int,
    each: int,
) -> Tensor:
    """The gradients of one output of every sample."""
    fixed = [leaf.detach() for leaf in theta]

    def entry(parts: Sequence[Tensor], index: Tensor) -> Tensor:
        full = list(fixed)
        for i, part in zip(kept, parts, strict=True):
            full[i] = part
        z, _ = program.bound(rows_of(program.batch, index[None])).outputs(full)
        return z.reshape(each)[place]

    order = torch.arange(len(outputs), device=outputs.device)
    parts = vmap(grad(entry), in_dims=(None, 0), randomness="error")(
        [fixed[i] for i in kept], order
    )
    return torch.cat([part.reshape(len(outputs), -1) for part in parts], 1).detach()
