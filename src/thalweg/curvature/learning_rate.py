"""The learning rate in use against the largest stable one."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from thalweg.curvature.eigen import eigsh
from thalweg.curvature.findings import Stability
from thalweg.curvature.layer_table import shares_of
from thalweg.curvature.measured import Quantity
from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.preconditioned import step_curvature
from thalweg.curvature.stability import step_rule
from thalweg.objective import AbstractClosure


__all__ = ["stability_of"]


def stability_of(
    hessian: AbstractOperator,
    closure: AbstractClosure,
    optimizer: Any,
    *,
    known: tuple[Quantity, Tensor] | None = None,
    start: Tensor | None = None,
    seed: int = 0,
) -> tuple[Stability, Tensor | None]:
    """Measure an optimizer's learning rate against its limit on the local quadratic.

    Args:
        hessian: The Hessian of ``closure``.
        closure: The loss; its parameters are the live ones.
        optimizer: What moves them.
        known: The largest eigenvalue of the Hessian and its eigenvector, where they are known: a
            method that scales all directions alike needs no other.
        start: A first guess of the eigenvector, as returned by an earlier call.
        seed: Of the Lanczos start.

    Returns:
        The finding; and the eigenvector of the step's own curvature, for a warm start (None where
        none was computed).
    """
    rule = step_rule(optimizer)
    plain = Stability(
        rule.optimizer, rule.lr, rule.formula, rule.factor, rule.preconditioned, note=rule.note
    )
    if rule.factor is None:
        return plain, None
    if not rule.lr > 0:
        return dataclasses.replace(plain, note="The learning rate is zero: nothing moves."), None
    step = step_curvature(hessian, list(closure.params), optimizer)
    if not bool(step.root.any()):
        note = f"{rule.optimizer} moves none of these parameters."
        return dataclasses.replace(plain, note=note), None
    if known is not None and step.multiple is not None:
        ratio, vector = known[0].times(step.multiple, "from λ_max"), known[1]
    else:
        pair = eigsh(step.operator, 1, "LA", start=start, seed=seed)
        ratio = Quantity(float(pair.values[0]), float(pair.errors[0]), pair.products, "lanczos")
        vector = pair.vectors[:, 0]
    note = rule.note
    if len(set(rule.lrs)) > 1:
        note = f"{note} Groups differ in learning rate; the limit is for all scaled alike.".strip()
    plain = dataclasses.replace(plain, ratio=ratio, multiple=step.multiple, note=note)
    if not ratio.value > 0:
        return dataclasses.replace(plain, note="No direction curves up here: no limit."), vector
    return dataclasses.replace(
        plain,
        sharpness=ratio.times(rule.factor / rule.lr, "its own Hessian, by lanczos"),
        limit=ratio.inverse(rule.lr, rule.formula),
        shares=shares_of(step.root * vector, closure.params, closure.names),
    ), vector
