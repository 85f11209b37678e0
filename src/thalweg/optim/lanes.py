"""Which parameters go through a compiled kernel, and how their tensors are handed to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from thalweg.optim.arguments import domains
from thalweg.optim.compiled import Kernel, Lane, Rule
from thalweg.optim.seams import Group, Quotient, Scaled, State


__all__ = ["move", "part"]

Entry = tuple[Tensor, Tensor, State]
Lots = dict[tuple[torch.dtype, torch.device, float], list[Lane]]

_KERNELS: dict[Any, Kernel] = {}


def part(entries: Iterable[Entry]) -> tuple[Lots, list[Entry]]:
    """The entries that can be read as lanes, in lots that share a kernel call; and all others.

    A first step, whose slots are new, is moved uncompiled: many rules begin otherwise than they go
    on. What the compiled code takes for granted is checked here: type, size and layout.
    """
    lots: Lots = {}
    other: list[Entry] = []
    for entry in entries:
        p, grad, state = entry
        size, dtype = p.numel(), p.dtype
        fits = size > 1 and not state.fresh and dtype.is_floating_point and p.is_contiguous()
        fits = fits and grad.dtype is dtype and grad.numel() == size
        if fits and not grad.is_contiguous():
            grad = grad.contiguous()
        slots = vars(state).values()
        for slot in slots:
            if slot.dtype is not dtype or slot.numel() != size or not slot.is_contiguous():
                fits = False
        if fits:
            lots.setdefault((dtype, p.device, state.step), []).append((p, grad, *slots, size))
        else:
            other.append(entry)
    return lots, other


def move(cls: type, rule: Rule, group: Group, slots: Sequence[str], lots: Lots) -> None:
    """Update, decay and move the lanes of a group."""
    options = _options(cls, group)
    for (dtype, device, step), lanes in lots.items():
        key = (cls, dtype, device, options, step > 0, *slots)
        kernel = _KERNELS.get(key)
        if kernel is None:
            like = torch.empty(0, dtype=dtype, device=device)
            kernel = _KERNELS[key] = _compile(cls, rule, slots, group, step, like)
        kernel(lanes, kernel.numbers(group, step))


def _options(cls: Any, group: Group) -> tuple[Any, ...]:
    """What of a group is compiled in: everything but numbers, and which numbers are 0 or 1.

    Rules leave out what these two make void. A rate passes through 1 and is never asked for it.
    """
    found: list[Any] = []
    for name in domains(cls):
        value = group[name]
        for part in value if isinstance(value, (tuple, list)) else (value,):
            number = isinstance(part, (float, Tensor)) or name == "lr"
            kind = 0 if part == 0 else 1 if part == 1 and name != "lr" else None
            found.append(kind if number else part)
    return tuple(found)


def _compile(
    cls: type, rule: Rule, slots: Sequence[str], group: Group, step: float, like: Tensor
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
    other = {name: _halved(value) for name, value in group.items()} | {"lr": 0.5 * group["lr"]}
    generator = torch.Generator(like.device).manual_seed(0)
    shape = 2 + len(kernel.slots), 4, 6  # what is compiled as flat lanes takes any shape
    draws = [torch.rand(shape, generator=generator, device=like.device) + 0.5 for _ in range(2)]
    lanes = [(*(row.to(like.dtype) for row in draw), 24) for draw in draws]
    step, expected = 7.0, []
    for param, grad, *held, _ in lanes:
        slots = dict(zip(kernel.slots, [slot.clone() for slot in held], strict=True))
        direction = rule(grad, param, State(slots, step), other)
        u = direction.value() if isinstance(direction, (Quotient, Scaled)) else direction
        decays = other["weight_decay"] if other["decoupled_weight_decay"] else 0.0
        expected += [param * (1 - other["lr"] * decays) - other["lr"] * u, *slots.values()]
    kernel(lanes, kernel.numbers(other, step))
    moved = [tensor for param, _, *held, _ in lanes for tensor in (param, *held)]
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
    return 0.5 * value if isinstance(value, float) and value != 1 else value
