r"""How far a step moves a model's predictions: what is foreseen, and what came of it.

A loss L of outputs z has the matrix :math:`J^\top \nabla_z^2 L\,J` (the generalised Gauss-Newton
matrix) for small steps; for any step, its Bregman divergence in the space of outputs,

.. math:: D = L(z_1) - L(z_0) - \nabla L(z_0)^\top (z_1 - z_0) ,

which from logits and for squared error is the Kullback-Leibler divergence between the predictions
before and after, whatever the labels are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from thalweg.curvature.outputs import output_gradient, tangents_of
from thalweg.objective import AbstractClosure, Closure
from thalweg.objective.rows import row_count, rows_of


__all__ = ["Direction", "Prediction", "divergence", "gauss_newton", "inner_product"]

Direction = dict[int, Tensor]  # by the identity of a parameter


class Prediction(NamedTuple):
    """One batch's outputs, and the loss and its slope there."""

    outputs: Tensor
    targets: Any
    loss: Tensor
    slope: Tensor
    weight: float


def gauss_newton(
    closure: AbstractClosure,
    basis: list[Direction],
    share: float = 1.0,
    found: dict[str, str] | None = None,
    seen: list[Prediction] | None = None,
) -> Tensor:
    r"""The matrix :math:`(J v_i)^\top \nabla_z^2 L\,(J v_j)` between directions, in float64.

    A product with the Jacobian for each, and nothing backward.

    Args:
        closure: Of this step's batch.
        basis: The directions :math:`v_i`; what one leaves out is zero.
        share: Of each batch's samples.
        found: What is known of the model's tangents, from one step to the next.
        seen: Where each batch's prediction is noted.
    """
    still = closure.still(borrow=True)
    # The still closure's parameters are the live ones, or share their memory: by their places.
    places = {id(p): i for i, p in enumerate(closure.params)}
    columns = [{places[key]: part for key, part in v.items()} for v in basis]
    total, weight = torch.zeros(len(basis), len(basis), dtype=torch.float64), 0.0
    for batch in still.batches:
        part = _some_samples(batch, share)
        leaves = list(part.params)
        tangents, targets, loss = tangents_of(part, leaves, None, found)
        with batch.ledger.charge(forward=1, product=len(basis)):
            pushed = [
                tangents.forward(
                    [v.get(i, torch.zeros_like(p)).detach() for i, p in enumerate(leaves)],
                    record=False,
                )
                for v in columns
            ]
            fixed = tangents.outputs.detach()
            bent = [loss.hessian_product(fixed, targets, t) for t in pushed]
        made = torch.stack([torch.stack([(t * b).sum(dtype=torch.float64) for b in bent])
                            for t in pushed]).cpu()  # fmt: skip
        count = 1.0 if still.summed else loss.count(fixed, targets)
        whole = 1.0 / share if still.summed else 1.0
        total += count * whole * made
        weight += count
        if seen is not None:
            value, slope = output_gradient(loss, fixed, targets)
            seen.append(Prediction(fixed, targets, value, slope, count))
    return total if still.summed else total / weight


def divergence(closure: AbstractClosure, before: list[Prediction]) -> tuple[float, float]:
    """The loss where the parameters are now, and D from the predictions that were seen before."""
    value = apart = weight = 0.0
    for batch, old in zip(closure.batches, before, strict=True):
        with torch.no_grad():
            outputs, _ = batch.outputs()
            assert batch.loss_fn is not None  # gauss_newton has asked
            loss = batch.loss_fn(outputs, old.targets)
        moved = outputs.detach() - old.outputs
        rise = float(loss - old.loss) - float((old.slope * moved).sum(dtype=torch.float64))
        value += old.weight * float(loss)
        apart += old.weight * rise
        weight += old.weight
    scale = 1.0 if closure.summed else 1.0 / weight
    return value * scale, apart * scale


def inner_product(a: Direction, b: Direction) -> float:
    """A'b over the parameters that both have."""
    parts = [(part * b[key]).sum(dtype=torch.float64) for key, part in a.items() if key in b]
    return float(torch.stack(parts).sum()) if parts else 0.0


def _some_samples(batch: Closure, share: float) -> Closure:
    """The first samples of a batch."""
    program: Any = batch.program
    if share >= 1.0:
        return batch
    rows = row_count(program.batch)
    taken = max(1, round(share * rows))
    return Closure(program.bound(rows_of(program.batch, slice(0, taken))), batch.ledger)
