r"""Fisher matrices by their rows: F = R'R, with a row for each sample and cotangent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap

from thalweg.curvature.factors import fisher_slopes
from thalweg.errors import UNTRANSFORMABLE
from thalweg.objective import AbstractClosure, Closure
from thalweg.objective.rows import rows_of


__all__ = ["fisher_rows", "solve_with_rows"]


def fisher_rows(
    closure: AbstractClosure, kept: Sequence[int], fisher: str, samples: int, seed: int, most: int
) -> Tensor | None:
    r"""The matrix R with :math:`F = R^\top R`, where it is small and samples are apart.

    Args:
        closure: With a loss of a known kind.
        kept: The places of the parameters among the closure's.
        fisher: ``"exact"``, ``"monte-carlo"`` or ``"empirical"``.
        samples: Draws of labels.
        seed: Of the draws.
        most: Rows at most.

    Returns:
        Rows x parameters; None where there are more rows, or where samples cannot be taken apart
        (BatchNorm in train mode, outputs that are no row a sample).

    Raises:
        TypeError: If the loss gives no distribution to draw from.
    """
    still = closure.still(borrow=True)
    made: list[Tensor] = []
    weights: list[float] = []
    for k, batch in enumerate(still.batches):
        found = _batch_rows(batch, kept, fisher, samples, seed + 7919 * k, most)
        if found is None:
            return None
        rows, weight = found
        made.append(rows)
        weights.append(weight)
    total = 1.0 if still.summed else sum(weights)
    parts = [rows * (w / total) ** 0.5 for rows, w in zip(made, weights, strict=True)]
    joined = torch.cat(parts)
    return joined if len(joined) <= most else None


def solve_with_rows(rows: Tensor, g: Tensor, damping: Tensor) -> Tensor:
    r"""(D + R'R)^-1 g with a diagonal D, by Woodbury's identity in float64.

    Args:
        rows: R, fewer rows than columns.
        g: The right-hand side, flat.
        damping: The diagonal of D, > 0.

    Example:
        >>> solve_with_rows(torch.tensor([[1.0, 0.0]]), torch.ones(2), torch.ones(2)).tolist()
        [0.5, 1.0]
    """
    r, g64, inverse = rows.double(), g.double(), damping.double().reciprocal()
    scaled = r * inverse
    small = scaled @ r.T
    small.diagonal().add_(1.0)
    weights = torch.linalg.solve(small, scaled @ g64)
    return (g64 * inverse - scaled.T @ weights).to(g)


def _batch_rows(
    batch: Closure, kept: Sequence[int], fisher: str, samples: int, seed: int, most: int
) -> tuple[Tensor, float] | None:
    program: Any = batch.program
    slopes = fisher_slopes(batch, fisher, samples, seed, "NaturalGradient")
    leaves = [p.detach() for p in batch.params]
    wanted = [leaves[i].requires_grad_() for i in kept]
    with torch.enable_grad(), batch.ledger.charge(forward=1):
        outputs, targets = program.outputs(leaves)
    if not isinstance(outputs, Tensor) or not outputs.ndim:
        return None
    cotangents = slopes(outputs, targets)
    count = len(outputs)
    if count * len(cotangents) > most:
        return None

    def inner(parts: Sequence[Tensor], index: Tensor, slope: Tensor) -> Tensor:
        full = [leaf.detach() for leaf in leaves]
        for place, part in zip(kept, parts, strict=True):
            full[place] = part
        z, _ = program.bound(rows_of(program.batch, index[None])).outputs(full)
        return (z * slope[None]).sum()

    each = vmap(grad(inner), in_dims=(None, 0, 0), randomness="different")
    order = torch.arange(count, device=outputs.device)
    fixed = [p.detach() for p in wanted]
    made = []
    for cotangent in cotangents:
        try:
            with batch.ledger.charge(backward=1):
                parts = each(fixed, order, cotangent)
        except UNTRANSFORMABLE:
            return None
        rows = torch.cat([part.reshape(count, -1) for part in parts], 1).detach()
        whole = torch.autograd.grad(
            outputs, wanted, cotangent, retain_graph=True, materialize_grads=True
        )
        gap = rows.sum(0) - torch.cat([g.reshape(-1) for g in whole])
        if float(gap.norm()) > 1e-3 * float(rows.norm()) + 1e-30:  # samples see each other
            return None
        made.append(rows)
    return torch.cat(made), program.weigh((outputs, targets))
