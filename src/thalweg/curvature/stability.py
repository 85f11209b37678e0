r"""The largest stable learning rate of an optimizer, from its groups and its state.

On a quadratic with curvature :math:`\lambda` along an eigenvector, a linear method with learning
rate :math:`\eta` divides the gradient by a diagonal P and passes it through a momentum filter with
transfer function G(z). It loses its stability at z = -1, where the iterates jump from side to side:

.. math:: \eta\, \lambda_{\max}(P^{-1/2} H P^{-1/2}) < \frac{2}{G(-1)} .

Plain gradient descent has G = 1 and the limit 2; heavy ball 2 (1 + β); Nesterov's method
2 (1 + β) / (1 + 2 β); Adam's average 2 (1 + β) / (1 - β), which is 38 at β = 0.9. What is read here
are torch's names of groups and state, which this package shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from thalweg.curvature.step_families import FAMILIES, Family, family_by_names


__all__ = ["StepRule", "step_rule"]

_AROUND = {"Lookahead", "WeightAveraging", "ProjectedGradient"}


@final
@dataclass(frozen=True)
class StepRule:
    r"""What decides whether an optimizer is stable on a quadratic.

    Args:
        optimizer: The class's name.
        lr: The learning rate of the first group.
        lrs: The learning rate of each group.
        factor: :math:`2 / G(-1)`: the limit of :math:`\eta \lambda`; None where none is known.
        formula: The factor in signs.
        preconditioned: Whether the gradient is divided by a diagonal.
        note: What else to know; where ``factor`` is None, why.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.ones(2))
        >>> step_rule(torch.optim.SGD([p], lr=0.1, momentum=0.5)).factor
        3.0
    """

    optimizer: str
    lr: float
    lrs: tuple[float, ...]
    factor: float | None
    formula: str
    preconditioned: bool
    note: str = ""


def step_rule(optimizer: Any) -> StepRule:
    """Read what decides the stability of an optimizer.

    Args:
        optimizer: A ``torch.optim.Optimizer``: torch's, this package's, or one with the groups and
            the state of theirs. Weight decay that adds to the gradient adds to the curvature;
            AdamW's decay, which multiplies parameters by nearly one, is left out.

    Returns:
        The rule. Where no limit is known (sign methods, line searches, an adaptive method that
        has not stepped yet), its ``factor`` is None and its ``note`` says why.

    Raises:
        TypeError: If it has no parameter groups.

    Example:
        >>> import torch
        >>> p = torch.nn.Parameter(torch.ones(2))
        >>> step_rule(torch.optim.Adam([p])).note
        'Adam has not taken a step yet, so what it divides gradients by is not known.'

    References:
        Polyak, Some methods of speeding up the convergence of iteration methods, 1964; Cohen et
        al., Gradient descent on neural networks typically occurs at the edge of stability, 2021,
        and Adaptive gradient methods at the edge of stability, 2022.
    """
    if not hasattr(optimizer, "param_groups"):
        raise TypeError(f"optimizer={optimizer!r}: a torch.optim.Optimizer is needed.")
    name, groups = _name(optimizer), optimizer.param_groups
    lrs = tuple(float(group.get("lr", 1.0)) for group in groups)
    family, reason = family_of(optimizer)
    if family is None:
        return StepRule(name, lrs[0], lrs, None, "", False, reason)
    filters = [family.filter(group) for group in groups]
    least = max(filters, key=lambda f: f.gain)
    notes = []
    if len({f.gain for f in filters}) > 1:
        notes.append("Groups differ in momentum; each is counted with its own, approximately.")
    if (inner := _inner(optimizer)) is not optimizer:
        notes.append(f"The limit is that of {type(inner).__name__} inside {_name(optimizer)}.")
    return StepRule(
        name,
        lrs[0],
        lrs,
        2.0 / least.gain,
        least.formula,
        family.divisor is not None,
        " ".join(notes),
    )


def family_of(optimizer: Any) -> tuple[Family | None, str]:
    """The family of an optimizer, or None and why no limit is known."""
    optimizer = _inner(optimizer)
    name, group = _name(optimizer), optimizer.param_groups[0]
    if any(g.get("maximize") for g in optimizer.param_groups):
        return None, f"{name} maximises, and the limits here are of descent."
    family = FAMILIES.get(type(optimizer).__name__)
    if family is None and getattr(optimizer, "nameless", False):
        slots = {slot for p in _params(optimizer) for slot in optimizer.state.get(p, {})}
        family = family_by_names(group, slots)
    if family is None:
        return None, f"No stable limit is known for {name}."
    if family.divisor is None:
        return family, ""
    states = [optimizer.state[p] for p in _params(optimizer) if p in optimizer.state]
    if not any(family.slot in state for state in states):
        why = "has not taken a step yet, so what it divides gradients by is not known"
        return None, f"{name} {why}."
    if "betas" in group and not 0 <= float(group["betas"][0]) < 1:
        return None, f"{name}(betas={group['betas']}): no limit is known."
    return family, ""


def rates(optimizer: Any) -> dict[int, tuple[Tensor | float, float]]:
    r"""For each parameter's id: :math:`\eta\, G(-1) / (2 p)` entry by entry, and its L2 decay.

    The method is stable where :math:`\lambda_{\max}(D^{1/2} (H + W) D^{1/2}) < 1` with these two
    diagonals D and W.
    """
    family, reason = family_of(optimizer)
    if family is None:
        raise ValueError(reason)
    inner = _inner(optimizer)
    found: dict[int, tuple[Tensor | float, float]] = {}
    for group in inner.param_groups:
        rate = float(group.get("lr", 1.0)) * family.filter(group).gain / 2.0
        for p in group["params"]:
            decay = float(group.get("weight_decay", 0.0) or 0.0)
            if group.get("decoupled_weight_decay") or type(inner).__name__ == "AdamW":
                plain = family.divisor is None and not group.get("momentum")
                decay = decay if plain else 0.0
            if family.divisor is None:
                found[id(p)] = rate, decay
            elif p in inner.state and family.slot in inner.state[p]:
                state = inner.state[p]
                found[id(p)] = rate / family.divisor(group, state).detach().clamp_min(1e-30), decay
    return found


def _inner(optimizer: Any) -> Any:
    """The method whose step decides: a wrapper's inner one where the wrapper only averages."""
    inner = getattr(optimizer, "inner", None)
    if inner is not None and type(optimizer).__name__ in _AROUND:
        return _inner(inner)
    return optimizer


def _name(optimizer: Any) -> str:
    return str(getattr(optimizer, "label", "") or type(optimizer).__name__)


def _params(optimizer: Any) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
