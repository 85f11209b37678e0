"""The lifecycle of methods whose step is a rule on each parameter's gradient.

A method writes its rule once, for one tensor. Here it is called tensor by tensor, or on all tensors
that share type, device and age as one :class:`~thalweg.vectors.Vector`: the same lines, the same
numbers.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from thalweg.errors import FLAG, NON_NEGATIVE, OPTIONAL_FLAG, Domain
from thalweg.optim.base import AbstractOptimizer
from thalweg.optim.lanes import move, part
from thalweg.optim.metadata import Common, Needs, Slot
from thalweg.optim.seams import Deferred, Group, Point, Ray, State
from thalweg.vectors import Vector


__all__ = ["AbstractFirstOrder"]

Pairs = list[tuple[Tensor, Tensor]]
_STATELESS = State({})
_ONE = torch.ones((), dtype=torch.float32, device="cpu")


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
        if any([grad.is_sparse for _, pairs in held for _, grad in pairs]):  # noqa: C419 (faster)
            name = type(self).__name__
            raise TypeError(f"{name}.step(): sparse gradients are not supported; densify them.")
        return Ray(self._pieces(held))

    def _pieces(self, held: list[tuple[Group, Pairs]]) -> Iterator[tuple[Group, Any, Any]]:
        update = self.update
        for group, pairs in held:
            if not pairs:
                continue
            foreach = pairs[0][0].is_cuda if group["foreach"] is None else group["foreach"]
            plain = not (group["maximize"] or group["weight_decay"] or group["l1"])
            entries = self._entries(group, pairs)
            if group["compile"]:
                lots, entries = part(entries)
                if lots:
                    names = [slot.name for slot in self._kept(group)]
                    rule = functools.partial(_whole, type(self))
                    walk = functools.partial(move, type(self), rule, group, names, lots)
                    yield group, None, Deferred(walk)
            for param, grad, state in _joined(entries) if foreach else entries:
                if param.is_complex():
                    param, grad, state = _as_real(param, grad, state)
                if not plain:
                    grad = _regularised(grad, param, group)
                yield group, param, update(grad, param, state, group)

    def _kept(self, group: Group) -> list[Slot]:
        """The slots that the group's options ask for."""
        return [slot for slot in self.slots if slot.when is None or group[slot.when]]

    def _entries(self, group: Group, pairs: Pairs) -> Iterable[tuple[Tensor, Tensor, State]]:
        """Each pair with its slots, made where they are missing, and its updates counted."""
        slots = [(slot.name, slot.fill) for slot in self._kept(group)]
        if not (slots or self.counts):
            return [(p, grad, _STATELESS) for p, grad in pairs]
        stores = [self.state[p] for p, _ in pairs]
        steps = _counted(stores) if self.counts else [0.0] * len(pairs)
        return [
            (p, grad, _opened(p, stored, slots, group, step))
            for (p, grad), stored, step in zip(pairs, stores, steps, strict=True)
        ]


def _opened(
    p: Tensor,
    stored: dict[str, Any],
    slots: list[tuple[str, str | None]],
    group: Group,
    step: float,
) -> State:
    """The slots of a parameter by name, made where they are missing."""
    held: dict[str, Any] = {}
    fresh = False
    for name, fill in slots:
        tensor = stored.get(name)
        if tensor is None:
            fresh = True
            tensor = torch.zeros_like(p, memory_format=torch.preserve_format)
            if fill:
                _real(tensor).fill_(group[fill])
            stored[name] = tensor
        held[name] = tensor
    return State(held, step, fresh)


def _counted(stores: list[dict[str, Any]]) -> list[float]:
    """The count of updates in each store, after one more."""
    counters: list[Tensor] = []
    for stored in stores:
        counter = stored.get("step", 0.0)
        if not (isinstance(counter, Tensor) and counter.is_cpu and counter.is_floating_point()):
            # None yet, or of another kind, from another's checkpoint.
            counter = torch.tensor(float(counter), dtype=torch.float32, device="cpu")
            stored["step"] = counter
        counters.append(counter)
    torch._foreach_add_(counters, _ONE, alpha=1)  # a number would be wrapped anew for each
    return [counter.item() for counter in counters]


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
        first = states[0]
        joined = {name: Vector(vars(state)[name] for state in states) for name in vars(first)}
        yield Vector(params), Vector(grads), State(joined, first.step, first.fresh)


def _as_real(param: Any, grad: Any, state: Any) -> tuple[Any, Any, Any]:
    """Complex entries as pairs of reals."""
    slots = {name: _real(slot) for name, slot in vars(state).items()}
    return _real(param), _real(grad), State(slots, state.step, state.fresh)


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
