"""What the operators are compared with: matrices built entry by entry from ``autograd.grad`` alone.

Nothing here goes through the package or through ``torch.func``, whose second derivatives are wrong
for some layers. The Hessian is a stack of double backward passes on the model as its user sees it,
and is itself compared with central differences of fourth order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from thalweg import Objective


Value = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """A model, a loss of its outputs and one batch."""

    model: nn.Module
    loss: Callable[[Any, Any], Tensor]
    x: Any
    y: Any

    def objective(self) -> Objective:
        return Objective(self.model, self.loss)

    def closure(self):
        return self.objective().closure(self.x, self.y)

    def seen(self) -> tuple[Value, Value, list[Tensor]]:
        """Value and outputs as functions of a copy's parameters, and these parameters."""
        model = copy.deepcopy(self.model)

        def outputs() -> Tensor:
            with sdpa_kernel(SDPBackend.MATH):
                return model(*self.x) if isinstance(self.x, tuple) else model(self.x)

        def value() -> Tensor:
            return self.loss(outputs(), self.y)

        return value, outputs, [p for p in model.parameters() if p.requires_grad]


def flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def gradient(value: Value, params: Sequence[Tensor], graph: bool = False) -> Tensor:
    return flat(torch.autograd.grad(value(), params, create_graph=graph, materialize_grads=True))


def rows(outputs: Tensor, params: Sequence[Tensor]) -> Tensor:
    """The derivative of each entry of the outputs, a row each."""
    made = []
    for entry in outputs.reshape(-1):
        if not entry.requires_grad:
            made.append(torch.zeros(sum(p.numel() for p in params), dtype=entry.dtype))
            continue
        made.append(
            flat(torch.autograd.grad(entry, params, retain_graph=True, materialize_grads=True))
        )
    return torch.stack(made).detach()


def hessian(value: Value, params: Sequence[Tensor]) -> Tensor:
    """Stacked double backward."""
    return rows(gradient(value, params, graph=True), params)


def jacobian(outputs: Value, params: Sequence[Tensor]) -> Tensor:
    return rows(outputs(), params)


def gauss_newton(case: Case) -> Tensor:
    """J' H J with the loss's Hessian in output space by double backward."""
    _, outputs, params = case.seen()
    made = outputs()
    leaf = made.detach().clone().requires_grad_()
    inner = hessian(lambda: case.loss(leaf, case.y), [leaf])
    outer = rows(made, params)
    return outer.T @ inner @ outer


def sample_gradients(case: Case) -> Tensor:
    """The gradient of each sample's own loss, a row each; samples are in the first dimension."""
    made = []
    for n in range(len(case.x)):
        one = Case(case.model, case.loss, case.x[n : n + 1], case.y[n : n + 1])
        value, _, params = one.seen()
        made.append(gradient(value, params))
    return torch.stack(made)


def difference(value: Value, params: Sequence[Tensor], v: Tensor, step: float = 1e-3) -> Tensor:
    """The Hessian's product with v by central differences of fourth order."""
    start = flat(params).detach().clone()
    ends = []
    for shift in (2, 1, -1, -2):
        _put(params, start + shift * step * v)
        ends.append(gradient(value, params))
    _put(params, start)
    far, near, near_back, far_back = ends
    return (8 * (near - near_back) - (far - far_back)) / (12 * step)


def _put(params: Sequence[Tensor], values: Tensor) -> None:
    with torch.no_grad():
        for p, part in zip(params, values.split([p.numel() for p in params]), strict=True):
            p.copy_(part.view_as(p))


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Nothing that the model's user can see changes inside: bits, modes, gradients, settings."""
    before = _visible(model)
    yield
    after = _visible(model)
    assert before.keys() == after.keys()
    for name, was in before.items():
        now = after[name]
        same = torch.equal(was, now) if isinstance(was, Tensor) else was == now
        assert same, f"{name} changed from {was} to {now}"


def _visible(model: nn.Module) -> dict[str, Any]:
    seen: dict[str, Any] = {"random": torch.get_rng_state(), "grad mode": torch.is_grad_enabled()}
    for name, module in model.named_modules():
        seen[f"training of {name}"] = module.training
        seen[f"tracking of {name}"] = getattr(module, "track_running_stats", None)
    for name, p in model.named_parameters():
        seen[f"parameter {name}"] = p.detach().clone()
        seen[f"gradient of {name}"] = None if p.grad is None else p.grad.detach().clone()
        seen[f"trainable {name}"] = p.requires_grad
    for name, b in model.named_buffers():
        seen[f"buffer {name}"] = b.clone()
    seen["fused attention"] = (
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.mem_efficient_sdp_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
    )
    return seen


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    """Equal to the tolerance, relative to the largest entry."""
    scale = max(float(b.detach().abs().max()), 1e-30) if b.numel() else 1.0
    torch.testing.assert_close(a, b, rtol=0.0, atol=tolerance * scale)
