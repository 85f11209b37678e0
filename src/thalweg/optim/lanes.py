"""Which parameters go through a compiled kernel, and how their tensors are handed to it."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, final

import torch
from torch import Tensor

from thalweg.optim.arguments import domains
from thalweg.optim.compiled import LANES, Kernel, Rule
from thalweg.optim.seams import Group, Quotient


__all__ = ["Lanes", "lanes_of"]

Entry = tuple[Tensor, Tensor, Any]

_KERNELS: dict[Any, Kernel] = {}
_LANES: weakref.WeakKeyDictionary[Any, Lanes] = weakref.WeakKeyDictionary()


def lanes_of(optimizer: Any) -> Lanes:
    """The optimizer's own lanes; not part of its state, copies and checkpoints."""
    if optimizer not in _LANES:
        _LANES[optimizer] = Lanes()
    return _LANES[optimizer]


@final
class Lanes:
    """The flat views of one optimizer's tensors, and the kernels that move them."""

    def __init__(self) -> None:
        self._flat: dict[Tensor, tuple[int, list[Any], list[Tensor]]] = {}

    def part(self, entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
        """The entries that can be read as flat lanes; and those that are moved uncompiled.

        A first step, whose slots are new, is such: many rules begin otherwise than they go on.
        """
        flat: list[Entry] = []
        other: list[Entry] = []
        for entry in entries:
            p, grad, state = entry
            fits = not state.fresh and p.is_contiguous() and p.numel() > 1
            fits = fits and p.is_floating_point() and grad.dtype == p.dtype
            (flat if fits else other).append(entry)
        return flat, other

    def move(self, cls: type, rule: Rule, group: Group, entries: list[Entry]) -> None:
        """Update, decay and move the entries of a group, in kernels of LANES tensors."""
        alike: dict[Any, list[list[Tensor]]] = {}
        for p, grad, state in entries:
            alike.setdefault((p.dtype, p.device, state.step), []).append(self._lane(p, grad, state))
        slots = [name for name in vars(entries[0][2]) if name not in {"step", "fresh"}]
        options = _options(cls, group)
        for (dtype, device, step), lanes in alike.items():
            key = (cls, dtype, device, options, step > 0, tuple(slots))
            kernel = _KERNELS.get(key)
            if kernel is None:
                like = torch.empty(0, dtype=dtype, device=device)
                kernel = _KERNELS[key] = _compile(cls, rule, slots, group, step, like)
            values = kernel.numbers(group, step)
            for first in range(0, len(lanes), LANES):
                kernel(lanes[first : first + LANES], values)

    def _lane(self, p: Tensor, grad: Tensor, state: Any) -> list[Tensor]:
        slots = [v for name, v in vars(state).items() if name not in {"step", "fresh"}]
        held = self._flat.get(p)
        pointer = p.data_ptr()
        if (
            held is None
            or held[0] != pointer
            or any(a is not b for a, b in zip(held[1], slots, strict=True))
        ):
            views = [p.detach().view(-1), *(slot.view(-1) for slot in slots)]
            held = self._flat[p] = pointer, slots, views
        flat, *rest = held[2]
        return [flat, grad.reshape(-1), *rest]


def _options(cls: Any, group: Group) -> tuple[Any, ...]:
    """What of a group is compiled in: everything but numbers, and which numbers are zero."""
    found: list[Any] = []
    for name in domains(cls):
        value = group[name]
        for part in value if isinstance(value, (tuple, list)) else (value,):
            number = isinstance(part, (float, Tensor)) or name == "lr"
            found.append(bool(part != 0) if number else part)
    return tuple(found)


def _compile(
    cls: type, rule: Rule, slots: list[str], group: Group, step: float, like: Tensor
) -> Kernel:
    """The kernel, checked against the rule itself."""
    plain = {name: value for name, value in group.items() if name != "params"}
    plain["lr"] = float(plain["lr"])
    try:
        kernel = Kernel(rule, slots, plain, step, like)
    except Exception as error:
        raise RuntimeError(
            f"{cls.__name__}(compile=True): torch.compile could not compile the rule "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); use compile=False."
        ) from error
    _check(cls, kernel, rule, plain, like)
    return kernel


def _check(cls: type, kernel: Kernel, rule: Rule, group: Group, like: Tensor) -> None:
    """Compare with the rule at other numbers: one that is compiled in gives itself away."""
    other = {name: _halved(value) for name, value in group.items()}
    generator = torch.Generator(like.device).manual_seed(0)
    shape = 2 + len(kernel.slots), 24
    draws = [torch.rand(shape, generator=generator, device=like.device) + 0.5 for _ in range(2)]
    lanes = [[row.to(like.dtype) for row in draw] for draw in draws]
    step, expected = 7.0, []
    for param, grad, *held in lanes:
        slots = dict(zip(kernel.slots, [slot.clone() for slot in held], strict=True))
        state = SimpleNamespace(step=step, fresh=False, **slots)
        direction = rule(grad, param, state, other)
        u = direction.value() if isinstance(direction, Quotient) else direction
        decays = other["weight_decay"] if other["decoupled_weight_decay"] else 0.0
        expected += [param * (1 - other["lr"] * decays) - other["lr"] * u, *slots.values()]
    kernel(lanes, kernel.numbers(other, step))
    moved = [tensor for param, _, *held in lanes for tensor in (param, *held)]
    tolerance = 100 * torch.finfo(like.dtype).eps
    pairs = zip(moved, expected, strict=True)
    if not all(torch.allclose(a, b, tolerance, tolerance) for a, b in pairs):
        raise RuntimeError(
            f"{cls.__name__}(compile=True): the compiled rule differs from the rule itself; "
            "use compile=False, and please report it."
        )


def _halved(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_halved(part) for part in value)
    return 0.5 * value if isinstance(value, float) else value
