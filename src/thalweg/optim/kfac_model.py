r"""K-FAC's quadratic model of the loss: learning rate and momentum from it, and the damping.

The model at the parameters is :math:`M(\delta) = g^\top\delta + \tfrac12\delta^\top(F+\lambda I)
\delta`, with exact products of the Fisher matrix (the generalised Gauss-Newton matrix of the loss).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thalweg.curvature import GGN, How
from thalweg.objective import AbstractClosure
from thalweg.optim.seams import Group


__all__ = ["adapt_damping", "quadratic_step"]

_EVERY = 5  # steps between two adaptations
_FACTOR = (19 / 20) ** _EVERY


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
        chosen = [float(s) for s in solution]
    else:
        chosen = [float(group["lr"]), group["momentum"]][: len(basis)]
    c = torch.tensor(chosen, dtype=torch.float64)
    fall = float(slope @ c + 0.5 * c @ curvature @ c)
    undamped = fall - 0.5 * group["damping"] * float((columns.double() @ c).square().sum())
    rate, momentum = chosen[0], chosen[1] if len(chosen) > 1 else 0.0
    return rate, momentum, {"model": undamped, "rate": rate, "momentum": momentum}


def adapt_damping(
    closure: AbstractClosure, loss: Any, details: dict[str, float], group: Group, step: int
) -> dict[str, float]:
    r"""Every five steps compare the loss's fall with the model's, and move the damping.

    With :math:`\rho = (L(\theta+\delta) - L(\theta)) / M(\delta)` the damping is divided by
    :math:`(20/19)^5` where :math:`\rho > 3/4` and multiplied by it where :math:`\rho < 1/4`.

    Args:
        closure: Of this step's batch; the parameters have been moved.
        loss: Before the step.
        details: What the model promised.
        group: Whose ``damping`` is moved.
        step: Steps taken.

    Returns:
        The ratio, when it was looked at.
    """
    if not group["adaptive_damping"] or step % _EVERY or details["model"] == 0:
        return {}
    ratio = (float(closure.value()) - float(loss.detach())) / details["model"]
    if ratio > 0.75:
        group["damping"] = max(group["damping"] * _FACTOR, 1e-10)
    elif not ratio >= 0.25:
        group["damping"] = min(group["damping"] / _FACTOR, 1e10)
    return {"ratio": ratio}


def _flat(closure: AbstractClosure, place: dict[int, int], parts: dict[Tensor, Tensor]) -> Tensor:
    full = [torch.zeros_like(p) for p in closure.params]
    for p, part in parts.items():
        full[place[id(p)]] = part
    return torch.cat([part.detach().reshape(-1) for part in full])
