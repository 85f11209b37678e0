"""The lifecycle of methods whose step is a rule on each parameter's gradient.

A method writes its rule once, for one tensor. Here it is called tensor by tensor, or on all tensors
that share type, device and age as one :class:`~thalweg.vectors.Vector`: the same lines, the same
numbers.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from thalweg.errors import FLAG, NON_NEGATIVE, OPTIONAL_FLAG, Domain
from thalweg.optim.base import AbstractOptimizer
from thalweg.optim.lanes import lanes_of
from thalweg.optim.metadata import Common, Needs, Slot
from thalweg.optim.seams import Deferred, Group, Point, Ray
from thalweg.vectors import Vector


__all__ = ["AbstractFirstOrder"]

Pairs = list[tuple[Tensor, Tensor]]
_PLAIN = {"step", "fresh"}  # of a state: what is no slot
_STATELESS = SimpleNamespace(step=0.0, fresh=False)


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
        "compile": FLAG,
    }

    def __init__(self, params: Any, defaults: Group, common: Common) -> None:
        shared = {"l1": 0.0, "decoupled_weight_decay": False, "maximize": False}
        called = {"foreach": None, "compile": False}
        super().__init__(params, {**shared, **called, **defaults, **common})

    @abstractmethod
    def update(self, grad: Any, param: Any, state: Any, group: Group) -> Any:
        """The rule: from a gradient to the direction u of the step -lr u.

        Written in operations that a Tensor and a Vector share. What it reads is handed to it: where
        it is compiled there is no ``self``.

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
        held = [(group, _pairs(group)) for group in point.groups]
        if any(grad.is_sparse for _, pairs in held for _, grad in pairs):
            name = type(self).__name__
            raise TypeError(f"{name}.step(): sparse gradients are not supported; densify them.")
        return Ray(self._pieces(held))

    def _pieces(self, held: list[tuple[Group, Pairs]]) -> Iterator[tuple[Group, Any, Any]]:
        update = self.update
        for group, pairs in held:
            if not pairs:
                continue
            foreach = pairs[0][0].is_cuda if group["foreach"] is None else group["foreach"]
            slots = [slot for slot in self.slots if slot.when is None or group[slot.when]]
            plain = not (group["maximize"] or group["weight_decay"] or group["l1"])
            keeps = bool(slots) or self.counts
            opened = (
                (p, grad, self._open(p, slots, group) if keeps else _STATELESS) for p, grad in pairs
            )
            if group["compile"]:
                lanes = lanes_of(self)
                fitting, opened = lanes.part(opened)
                if fitting:
                    rule = functools.partial(_whole, type(self))
                    move = functools.partial(lanes.move, type(self), rule, group, fitting)
                    yield group, None, Deferred(move)
            for param, grad, state in _joined(opened) if foreach else opened:
                if param.is_complex():
                    param, grad, state = _as_real(param, grad, state)
                if not plain:
                    grad = _regularised(grad, param, group)
                yield group, param, update(grad, param, state, group)

    def _open(self, p: Tensor, slots: list[Slot], group: Group) -> SimpleNamespace:
        """The parameter's slots by name, made where they are missing, and its updates counted."""
        stored = self.state[p]
        state = SimpleNamespace(step=0.0, fresh=False)
        by_name = vars(state)
        for slot in slots:
            tensor = stored.get(slot.name)
            if tensor is None:
                tensor = torch.zeros_like(p, memory_format=torch.preserve_format)
                if slot.fill:
                    _real(tensor).fill_(group[slot.fill])
                stored[slot.name] = tensor
                by_name["fresh"] = True
            by_name[slot.name] = tensor
        if self.counts:
            step = stored.get("step", 0.0)
            if not isinstance(step, Tensor):  # none yet, or a number from an old checkpoint
                step = torch.tensor(float(step), dtype=torch.float32, device="cpu")
                stored["step"] = step
            step += 1
            by_name["step"] = step.item()
        return state


def _whole(cls: type[AbstractFirstOrder], grad: Any, param: Any, state: Any, group: Any) -> Any:
    """The rule with what stands before it, for a trace: all that it reads is handed to it."""
    nobody: Any = None
    return cls.update(nobody, _regularised(grad, param, group), param, state, group)


def _pairs(group: Group) -> Pairs:
    """Each parameter with its gradient, where it has one."""
    return [(p, grad) for p in group["params"] if (grad := p.grad) is not None]


def _joined(opened: Iterable[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """The entries that share device, type, age and freshness, each lot as one of Vectors."""
    alike: dict[Any, list[Any]] = {}
    for entry in opened:
        p, _, state = entry
        alike.setdefault((p.device, p.dtype, state.step, state.fresh), []).append(entry)
    for entries in alike.values():
        params, grads, states = zip(*entries, strict=True)
        first = vars(states[0])
        joined = {
            name: Vector(vars(state)[name] for state in states) if name not in _PLAIN else value
            for name, value in first.items()
        }
        yield Vector(params), Vector(grads), SimpleNamespace(**joined)


def _as_real(param: Any, grad: Any, state: Any) -> tuple[Any, Any, Any]:
    """Complex entries as pairs of reals."""
    slots = {n: v if n in _PLAIN else _real(v) for n, v in vars(state).items()}
    return _real(param), _real(grad), SimpleNamespace(**slots)


def _real(tensor: Any) -> Any:
    if isinstance(tensor, Vector):
        return tensor.map(_real)
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
