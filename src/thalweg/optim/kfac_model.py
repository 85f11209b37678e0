r"""K-FAC's quadratic model of the loss: learning rate and momentum from it, and the damping.

The model at the parameters is :math:`M(\delta) = g^\top\delta + \tfrac12\delta^\top(F+\lambda I)
\delta`, with exact products of the Fisher matrix (the generalised Gauss-Newton matrix of the loss).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from thalweg.curvature import GGN, How
from thalweg.objective import AbstractClosure
from thalweg.optim.seams import Group


__all__ = ["adapt_damping", "quadratic_step"]

_EVERY = 5  # steps between two adaptations
_FACTOR = (19 / 20) ** _EVERY
_REFUSED = 4.0  # times the damping, where a step is refused
_LEAST, _MOST = 1e-8, 1e8


def quadratic_step(
    closure: AbstractClosure,
    path: dict[Tensor, Tensor],
    last: dict[Tensor, Tensor | None],
    group: Group,
) -> tuple[float, float, dict[str, float]]:
    r"""The :math:`(\alpha, \mu)` that minimise :math:`M(-\alpha u + \mu\delta_0)`.

    Args:
        closure: Of this step's batch.
        path: The preconditioned direction u of each parameter.
        last: The last step :math:`\delta_0`, where there was one.
        group: The hyper-parameters; without ``quadratic_model`` its own rate and momentum are kept,
            and the model's fall is computed for them.

    Returns:
        The rate, the momentum, and what the model promised.
    """
    params = list(path)
    place = {id(p): i for i, p in enumerate(closure.params)}
    kept = [p for p in params if id(p) in place]
    u = _flat(closure, place, {p: -path[p] for p in kept})
    old = _flat(closure, place, {p: d for p in kept if (d := last[p]) is not None})
    gradient = _flat(closure, place, {p: p.grad for p in kept if p.grad is not None})
    matrix = GGN(closure, how=How(borrow=True, check=False))
    basis = [u, old] if float(old.abs().max()) > 0 else [u]
    columns = torch.stack(basis, 1)
    products = (matrix @ columns + group["damping"] * columns).double()
    curvature = columns.double().T @ products
    slope = columns.double().T @ gradient.double()
    if group["quadratic_model"]:
        solution = torch.linalg.lstsq(curvature, -slope[:, None], driver="gelsd").solution[:, 0]
        c = _shortened(solution, curvature, group)
    else:
        c = columns.new_tensor([float(group["lr"]), group["momentum"]][: len(basis)]).double()
    fall = float(slope @ c + 0.5 * c @ curvature @ c)
    undamped = fall - 0.5 * group["damping"] * float((columns.double() @ c).square().sum())
    rate, momentum = float(c[0]), float(c[1]) if len(c) > 1 else 0.0
    return rate, momentum, {"model": undamped, "rate": rate, "momentum": momentum}


def _shortened(c: Tensor, curvature: Tensor, group: Group) -> Tensor:
    """The step kept to the length that momentum builds up from steps of the constraint's."""
    length = float(c @ curvature @ c)
    limit = group["constraint"] / (1.0 - group["momentum"]) ** 2
    return c * (limit / length) ** 0.5 if group["constraint"] and length > limit else c


def adapt_damping(
    closure: AbstractClosure, loss: Any, details: dict[str, float], group: Group, step: int
) -> bool:
    r"""Compare the loss's fall with the model's: keep the step or not, and move the damping.

    With :math:`\rho = (L(\theta+\delta) - L(\theta)) / M(\delta)`, every five steps the damping is
    multiplied by :math:`(19/20)^5` where :math:`\rho > 3/4` and divided by it where
    :math:`\rho < 1/4`. A step on which the model promised a fall and the loss rose, or is not
    finite, is refused, and the damping made four times larger.

    Args:
        closure: Of this step's batch; the parameters have been moved.
        loss: Before the step.
        details: What the model promised; ``ratio`` is added.
        group: Whose ``damping`` is moved.
        step: Steps taken.

    Returns:
        Whether the step is kept.
    """
    after, before = float(closure.value()), float(loss.detach())
    promised = details["model"]
    details["ratio"] = ratio = (after - before) / promised if promised else 1.0
    slack = 1e-6 * max(abs(before), 1e-6)
    if not math.isfinite(after) or (promised < 0 and after > before + slack):
        if group["adaptive_damping"]:
            group["damping"] = min(group["damping"] * _REFUSED, _MOST)
        return False
    if group["adaptive_damping"] and step % _EVERY == 0 and promised < 0:
        if ratio > 0.75:
            group["damping"] = max(group["damping"] * _FACTOR, _LEAST)
        elif ratio < 0.25:
            group["damping"] = min(group["damping"] / _FACTOR, _MOST)
    return True


def _flat(closure: AbstractClosure, place: dict[int, int], parts: dict[Tensor, Tensor]) -> Tensor:
    full = [torch.zeros_like(p) for p in closure.params]
    for p, part in parts.items():
        full[place[id(p)]] = part
    return torch.cat([part.detach().reshape(-1) for part in full])
