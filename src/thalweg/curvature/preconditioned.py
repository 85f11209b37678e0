r"""Curvature as an optimizer's step sees it: scaled by its learning rates and its divisors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from thalweg.curvature.operator import AbstractOperator, Expression
from thalweg.curvature.stability import rates


__all__ = ["StepCurvature", "scaled", "step_curvature"]


@final
@dataclass(frozen=True)
class StepCurvature:
    r"""The Hessian in the units of an optimizer's step.

    Args:
        operator: S.
        root: The diagonal of :math:`D^{1/2}`: an eigenvector u of S moves parameters along
            :math:`D^{1/2} u`.
        multiple: Where S is a multiple of H, which one; else None.
    """

    operator: Expression
    root: Tensor
    multiple: float | None


def step_curvature(
    hessian: AbstractOperator, params: Sequence[Tensor], optimizer: Any
) -> StepCurvature:
    r"""The Hessian in the units of an optimizer's step.

    .. math:: S = D^{1/2} (H + W) D^{1/2},
        \qquad D = \tfrac12\, G(-1)\, \operatorname{diag}(\eta_i / p_i) ,

    with each parameter's learning rate, divisor and momentum (:mod:`thalweg.curvature.stability`)
    and its L2 decay W. On the local quadratic the optimizer is stable where the largest eigenvalue
    of S is below 1: that eigenvalue is the learning rate over the largest stable one. Parameters
    that the optimizer does not move have zero rows.

    Args:
        hessian: The operator over all of ``params``.
        params: The live parameters, in the operator's order.
        optimizer: The optimizer that moves them.

    Returns:
        S, the diagonal of :math:`D^{1/2}`, and its square where S is a multiple of H.

    Raises:
        ValueError: If no limit is known for the optimizer.

    Example:
        >>> from thalweg.curvature.dense import Dense
        >>> p = torch.nn.Parameter(torch.ones(2))
        >>> S = step_curvature(Dense(torch.eye(2) * 8), [p], torch.optim.SGD([p], lr=0.5))
        >>> (S.operator @ torch.ones(2)).tolist()
        [2.0, 2.0]
    """
    found = rates(optimizer)
    parts, decays = [], []
    for p in params:
        rate, decay = found.get(id(p), (0.0, 0.0))
        whole = torch.as_tensor(rate, device=hessian.device).to(hessian.dtype)
        parts.append(whole.expand(p.shape).reshape(-1))
        decays.append(torch.full((p.numel(),), decay, device=hessian.device, dtype=hessian.dtype))
    root, shift = torch.cat(parts).sqrt(), torch.cat(decays)
    decayed = bool(shift.any())
    uniform = not decayed and bool((root == root[0]).all())
    operator = scaled(hessian, root, shift if decayed else None)
    return StepCurvature(operator, root, float(root[0]) ** 2 if uniform else None)


def scaled(operator: AbstractOperator, root: Tensor, shift: Tensor | None = None) -> Expression:
    """``diag(root) (A + diag(shift)) diag(root)`` of a symmetric operator A.

    Args:
        operator: A.
        root: n entries.
        shift: n entries; None for zeros.

    Returns:
        The operator, with the names of A.
    """
    column = root[:, None]
    added = None if shift is None else shift[:, None]

    def product(v: Tensor) -> Tensor:
        inner = column * v
        image = operator.apply(inner)
        return column * (image if added is None else image + added * inner)

    return Expression(
        operator.shape,
        product,
        dtype=operator.dtype,
        device=operator.device,
        symmetric=True,
        domain=operator.domain,
        names=operator.names,
    )
