"""Families of optimizers by what matters for stability: their momentum filter and their divisor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor


__all__ = ["FAMILIES", "Family", "Filter", "family_by_names"]

Group = Mapping[str, Any]


@final
@dataclass(frozen=True)
class Filter:
    """Of one group: the gain G(-1) of its momentum, and that in signs."""

    gain: float
    formula: str


Divisor = Callable[[Group, Mapping[str, Any]], Tensor]


@final
@dataclass(frozen=True)
class Family:
    """How one kind of method filters, and what it divides by: a parameter's state to a tensor."""

    filter: Callable[[Group], Filter]
    divisor: Divisor | None = None
    slot: str = ""


# ---- momentum filters ---------------------------------------------------------------------------
def _ball(group: Group) -> Filter:
    beta = float(group.get("momentum", 0.0) or 0.0)
    kept = 1.0 - float(group.get("dampening", 0.0) or 0.0)
    if beta == 0.0:
        return Filter(1.0, "2 / λ")
    if group.get("nesterov"):
        return Filter((1 + 2 * beta) / (1 + beta), "2 (1 + β) / ((1 + 2β) λ)")
    shown = "2 (1 + β) / λ" if kept == 1.0 else "2 (1 + β) / ((1 - τ) λ)"
    return Filter(max(kept, 1e-30) / (1 + beta), shown)


def _nesterov(group: Group) -> Filter:
    return _ball({**group, "nesterov": True})


def _average(group: Group) -> Filter:
    beta = float(group["betas"][0])
    return Filter((1 - beta) / (1 + beta), "2 (1 + β₁) / ((1 - β₁) λ)")


# ---- divisors -----------------------------------------------------------------------------------
def _adam(group: Group, state: Mapping[str, Any]) -> Tensor:
    second = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    correction = 1.0 - float(group["betas"][1]) ** max(float(state["step"]), 1.0)
    return (second / correction).sqrt() + float(group["eps"])


def _rmsprop(group: Group, state: Mapping[str, Any]) -> Tensor:
    second = state["square_avg"]
    if group.get("centered"):
        second = (second - state["grad_avg"].square()).clamp_min(0)
    eps = float(group["eps"])
    return (second + eps).sqrt() if group.get("eps_inside") else second.sqrt() + eps


def _adagrad(group: Group, state: Mapping[str, Any]) -> Tensor:
    decayed = 1.0 + max(float(state["step"]) - 1.0, 0.0) * float(group.get("lr_decay", 0.0))
    return (state["sum"].sqrt() + float(group["eps"])) * decayed


FAMILIES = {
    "SGD": Family(_ball),
    "Nesterov": Family(_nesterov),
    "Adam": Family(_average, _adam, "exp_avg_sq"),
    "AdamW": Family(_average, _adam, "exp_avg_sq"),
    "RMSprop": Family(_ball, _rmsprop, "square_avg"),
    "Adagrad": Family(_ball, _adagrad, "sum"),
}


def family_by_names(group: Group, slots: set[str]) -> Family | None:
    """The family of an optimizer whose class is not known, by the names in its group and state.

    Args:
        group: A parameter group.
        slots: The names of what is kept for a parameter.

    Returns:
        The family; None where the names are of none, or of a relative of one.
    """
    if "betas" in group and {"exp_avg", "exp_avg_sq", "step"} <= slots:
        known = slots <= {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"}
        return FAMILIES["Adam"] if known else None
    if "alpha" in group and "square_avg" in slots:
        return FAMILIES["RMSprop"]
    if "sum" in slots and "step" in slots:
        return FAMILIES["Adagrad"]
    if slots <= {"momentum_buffer"} and {"lr", "momentum"} <= set(group):
        return FAMILIES["SGD"]
    return None
