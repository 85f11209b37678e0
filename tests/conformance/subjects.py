"""What the conformance tests are run on: a small network, test functions, and ways to walk them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import thalweg as tw


def flat(tensors: Any) -> Tensor:
    """All entries in one copy."""
    return torch.cat([t.detach().reshape(-1).clone() for t in tensors])


def evaluating(optimizer: Any) -> contextlib.AbstractContextManager[None]:
    """The weights meant for evaluation; torch's optimizers have no others than those they train."""
    return optimizer.evaluation() if hasattr(optimizer, "evaluation") else contextlib.nullcontext()


@dataclass(frozen=True)
class Network:
    """Regression with two layers on batches that change from step to step."""

    dtype: torch.dtype = torch.float64
    batches: int = 3

    def model(self) -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        return layers.to(self.dtype)

    def batch(self, t: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(100 + t % self.batches)
        x = torch.randn(6, 3, generator=generator, dtype=torch.float64)
        y = torch.stack([x.sum(1).sin(), x[:, 0] * x[:, 1]], 1)
        return x.to(self.dtype), y.to(self.dtype)

    def closure(self, model: nn.Module, t: int) -> tw.Closure:
        return tw.Objective(model, nn.functional.mse_loss).closure(*self.batch(t))

    def torch_closure(self, model: nn.Module, t: int) -> Callable[[], Tensor]:
        """The closure as torch's users write it."""
        x, y = self.batch(t)

        def closure() -> Tensor:
            model.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            return loss

        return closure

    def walk(self, optimizer: Any, model: nn.Module, steps: int, start: int = 0) -> list[Tensor]:
        """The evaluated weights after each step."""
        path = []
        for t in range(start, start + steps):
            optimizer.step(self.closure(model, t))
            with evaluating(optimizer):
                path.append(flat(model.parameters()))
        return path


NETWORK = Network()


def rosenbrock(x: Tensor) -> Tensor:
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def quadratic(x: Tensor) -> Tensor:
    return 0.5 * (torch.linspace(1.0, 10.0, x.numel(), dtype=x.dtype) * x**2).sum()


def descend(build: Callable[..., Any], fn: Callable[[Tensor], Tensor], start: Any, steps: int):
    """The values before and after."""
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = build([x])
    closure = tw.Objective.of(fn).closure(x)
    before = closure.value().item()
    for _ in range(steps):
        optimizer.step(closure)
    with evaluating(optimizer):
        return before, closure.value().item()


def gradients(params: Iterable[Tensor], seed: int = 0) -> Callable[[], None]:
    """A closure that writes the same random gradients each time it is called."""
    given = list(params)
    generator = torch.Generator().manual_seed(seed)
    grads = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in given]

    def closure() -> None:
        for p, g in zip(given, grads, strict=True):
            p.grad = g.clone()

    return closure


def state_of(optimizer: Any) -> dict[Any, dict[str, Any]]:
    """A deep copy of the state by position of the parameter."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        i: {k: v.clone() if isinstance(v, Tensor) else v for k, v in optimizer.state[p].items()}
        for i, p in enumerate(params)
        if p in optimizer.state
    }


def assert_same_state(first: Any, second: Any) -> None:
    """Equal bit for bit."""
    assert first.keys() == second.keys()
    for i, slots in first.items():
        assert slots.keys() == second[i].keys()
        for name, value in slots.items():
            if isinstance(value, Tensor):
                assert torch.equal(value, second[i][name]), (i, name)
            else:
                assert value == second[i][name], (i, name)


def tensors_in(optimizer: Any) -> Iterator[Tensor]:
    """Every tensor in the state."""
    for slots in optimizer.state.values():
        yield from (v for v in slots.values() if isinstance(v, Tensor))
