"""The lifecycle of methods whose step is a rule on each parameter's gradient.

A method writes its rule once, for one tensor. Here it is called tensor by tensor, or on all tensors
that share type, device and age as one :class:`~thalweg.vectors.Vector`: the same lines, the same
numbers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from thalweg.errors import FLAG, NON_NEGATIVE, OPTIONAL_FLAG, Domain
from thalweg.optim.base import AbstractOptimizer
from thalweg.optim.metadata import Common, Needs
from thalweg.optim.seams import Group, Piece, Point, Ray, tensors_with_grad
from thalweg.vectors import Vector


__all__ = ["AbstractFirstOrder"]


class AbstractFirstOrder(AbstractOptimizer):
    """A rule on the gradient, written once and called per tensor or on all tensors at once.

    Args:
        params: Parameters, groups or named parameters, as torch takes them.
        defaults: The method's own hyper-parameters.
        common: Those that every such method takes.

    Raises:
        ValueError: If a hyper-parameter is outside its domain.
    """

    needs: ClassVar[Needs] = Needs.GRADIENT
    counts: ClassVar[bool] = False
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "lr": NON_NEGATIVE,
        "weight_decay": NON_NEGATIVE,
        "l1": NON_NEGATIVE,
        "decoupled_weight_decay": FLAG,
        "maximize": FLAG,
        "foreach": OPTIONAL_FLAG,
    }

    def __init__(self, params: Any, defaults: Group, common: Common) -> None:
        shared = {"l1": 0.0, "decoupled_weight_decay": False, "maximize": False, "foreach": None}
        super().__init__(params, {**shared, **defaults, **common})

    @abstractmethod
    def update(self, grad: Any, param: Any, state: Any, group: Group) -> Any:
        """The rule: from a gradient to the direction u of the step -lr u.

        Written in operations that a Tensor and a Vector share.

        Args:
            grad: The gradient, regularised; not to be changed.
            param: The parameter; not to be changed.
            state: Its slots by name, to be changed in place; ``state.step`` counts this parameter's
                updates from 1 where the method counts them, ``state.fresh`` says that the slots
                are new.
            group: The hyper-parameters.

        Returns:
            The direction, of the gradient's shape.
        """

    @final
    def descend(self, point: Point) -> Ray:
        """The ray along the rule's direction, computed as it is walked."""
        for _, p in tensors_with_grad(point.groups):
            if p.grad is not None and p.grad.is_sparse:
                name = type(self).__name__
                raise TypeError(f"{name}.step(): sparse gradients are not supported; densify them.")
        return Ray(self._pieces())

    def _pieces(self) -> Iterator[Piece]:
        for group in self.param_groups:
            entries = [(p, *self._state(p, group)) for p in group["params"] if p.grad is not None]
            for bucket in _buckets(entries, group["foreach"]):
                param, grad, state = self._gather(bucket)
                grad = _regularised(grad, param, group)
                yield Piece(group, param, self.update(grad, param, state, group))

    def _state(self, p: Tensor, group: Group) -> tuple[float, bool]:
        """Make the slots that are missing and count the update; (updates, slots are new)."""
        state = self.state[p]
        fresh = False
        for slot in self.slots:
            if (slot.when is None or group[slot.when]) and state.get(slot.name) is None:
                made = state[slot.name] = torch.zeros_like(p, memory_format=torch.preserve_format)
                if slot.fill:
                    _real(made).fill_(group[slot.fill])
                fresh = True
        if not self.counts:
            return 0.0, fresh
        if "step" not in state:
            state["step"] = torch.zeros((), dtype=torch.float32, device="cpu")
        state["step"] += 1
        return float(state["step"]), fresh

    def _gather(self, bucket: list[tuple[Tensor, float, bool]]) -> tuple[Any, Any, Any]:
        """The bucket's parameters, gradients and slots: tensors for one entry, Vectors for many."""
        params = [p for p, _, _ in bucket]
        grads = [p.grad for p in params if p.grad is not None]
        slots = {
            slot.name: _joined([self.state[p][slot.name] for p in params])
            for slot in self.slots
            if all(isinstance(self.state[p].get(slot.name), Tensor) for p in params)
        }
        _, step, fresh = bucket[0]
        state = SimpleNamespace(step=step, fresh=fresh, **slots)
        return _joined([p.detach() for p in params]), _joined(grads), state


def _buckets(
    entries: list[tuple[Tensor, float, bool]], foreach: bool | None
) -> Iterable[list[tuple[Tensor, float, bool]]]:
    """One entry at a time, or all that share device, type, age and freshness."""
    if foreach is None:
        foreach = bool(entries) and entries[0][0].is_cuda
    if not foreach:
        return ([entry] for entry in entries)
    alike: dict[Any, list[tuple[Tensor, float, bool]]] = {}
    for entry in entries:
        p, step, fresh = entry
        alike.setdefault((p.device, p.dtype, step, fresh), []).append(entry)
    return alike.values()


def _joined(tensors: list[Tensor]) -> Any:
    """One tensor, or many as a Vector; complex ones as pairs of reals."""
    real = [_real(t) for t in tensors]
    return real[0] if len(real) == 1 else Vector(real)


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _regularised(grad: Any, param: Any, group: Group) -> Any:
    """The gradient with its sign, L2 and L1 terms; never in place, ``.grad`` is the user's."""
    if group["maximize"]:
        grad = grad.neg()
    if group["weight_decay"] and not group["decoupled_weight_decay"]:
        grad = grad.add(param, alpha=group["weight_decay"])
    if group["l1"]:
        grad = grad.add(param.sign(), alpha=group["l1"])
    return grad
