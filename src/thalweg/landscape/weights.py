"""Weights in any form, as one flat point; and what a function of them is evaluated by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.errors import bad_argument, closest
from thalweg.objective import AbstractClosure, FunctionObjective, Objective
from thalweg.vectors import Vector


__all__ = ["Weights", "bound_closure", "flat_weights"]

Weights = nn.Module | Mapping[str, Any] | Vector | Tensor


def flat_weights(
    weights: Weights, closure: AbstractClosure, where: str = "flat_weights", name: str = "weights"
) -> Tensor:
    """Weights as a flat copy, in the order of a closure's parameters.

    Args:
        weights: A module, a state_dict, a Vector, or a flat tensor (of a function: its argument).
        closure: Whose parameters they are values of.
        where: Who asks, for messages.
        name: As what, for messages.

    Returns:
        A tensor of n entries with the parameters' type and device, without history.

    Raises:
        ValueError: If names are missing or shapes differ.
        TypeError: If it is something else.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> closure = Objective(model, nn.functional.mse_loss).closure(
        ...     torch.ones(1, 2), torch.ones(1, 1)
        ... )
        >>> state = {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}
        >>> flat_weights(state, closure)
        tensor([1., 2., 3.])
    """
    like = closure.params
    if isinstance(weights, nn.Module):
        weights = dict(weights.named_parameters(remove_duplicate=False))
    if isinstance(weights, Mapping):
        weights = Vector(_named(weights, closure.names, where, name))
    if isinstance(weights, Vector):
        parts = [(tuple(p.shape), tuple(q.shape)) for p, q in zip(weights, like, strict=False)]
        if len(weights) != len(like) or any(given != wanted for given, wanted in parts):
            wanted = f"weights of the shapes {_shapes(like)}"
            raise bad_argument(where, name, _shapes(weights), wanted)
        weights = torch.cat([part.detach().reshape(-1) for part in weights])
    if not isinstance(weights, Tensor):
        raise TypeError(
            f"{where}({name}=...): a module, a state_dict, a Vector or a flat tensor is needed, "
            f"got {type(weights).__name__}."
        )
    alone = len(like) == 1 and weights.shape == like[0].shape
    if not alone and (weights.ndim != 1 or weights.numel() != like.numel()):
        wanted = f"a flat tensor of {like.numel()} entries"
        raise bad_argument(where, name, tuple(weights.shape), wanted)
    return weights.detach().reshape(-1).to(like[0], copy=True)


def _named(weights: Mapping[str, Any], names: Iterable[str], where: str, name: str) -> list[Tensor]:
    parts = []
    for wanted in names:
        part = weights.get(wanted)
        if not isinstance(part, Tensor):
            nearest = closest(wanted, weights)
            hint = f" Did you mean {nearest!r}?" if nearest else ""
            held = ", ".join(map(repr, list(weights)[:6])) + (", ..." if len(weights) > 6 else "")
            raise ValueError(
                f"{where}({name}=...): the state_dict has no tensor {wanted!r}.{hint} "
                f"It has {held}."
            )
        parts.append(part)
    return parts


def _shapes(weights: Vector) -> str:
    shown = ", ".join(str(tuple(part.shape)) for part in list(weights)[:4])
    return shown + (", ..." if len(weights) > 4 else "")


def bound_closure(
    objective: Any, loader: Iterable[Any] | None, weights: Any, where: str
) -> AbstractClosure:
    """What a loss is evaluated by: a closure as it is, an objective over its data.

    Args:
        objective: A closure; an Objective, with ``loader``; or a function of one tensor, alone or
            as ``Objective.of(fn)``.
        loader: Batches, for an Objective.
        weights: Weights that show a function's shape and type.
        where: Who asks, for messages.

    Raises:
        TypeError: If the objective is something else, or has no data.

    Example:
        >>> closure = bound_closure(lambda x: x.sum(), None, torch.ones(2), "interpolate")
        >>> closure.value(torch.tensor([1.0, 2.0]))
        tensor(3.)
    """
    if isinstance(objective, AbstractClosure):
        if loader is not None:
            raise TypeError(f"{where}(loader=...): a closure's batches are bound; pass no loader.")
        return objective
    if isinstance(objective, Objective):
        if loader is None:
            raise TypeError(
                f"{where}(loader=None): an Objective needs batches, such as loader=[(x, y)]; or "
                "pass objective.over(loader)."
            )
        return objective.over(loader)
    if not isinstance(objective, FunctionObjective) and not _is_function(objective):
        raise TypeError(
            f"{where}(objective={type(objective).__name__}): a closure, an Objective or a function "
            "of one tensor is needed."
        )
    if not isinstance(weights, Tensor):
        raise TypeError(f"{where}: the weights of a function must be a tensor, got {weights!r}.")
    made = objective if isinstance(objective, FunctionObjective) else Objective.of(objective)
    return made.closure(weights.detach().clone().requires_grad_())


def _is_function(objective: Any) -> bool:
    return isinstance(objective, Callable) and not isinstance(objective, (nn.Module, type))
