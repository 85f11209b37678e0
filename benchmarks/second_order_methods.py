"""The rows of ``second_order.py``: methods of ours, torch's and peers'."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from thalweg import optim


__all__ = ["METHODS", "MODULES", "REFERENCE", "Method"]

Make = Callable[[nn.Module], Any]
RATE = 1e-4  # small, so that no peer runs away while it is timed
MODULES = PO, HB = "pytorch_optimizer", "heavyball"
REFERENCE = "AdamW"


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Args:
        make: A model -> the optimizer.
        kind: ``"plain"`` (backward, then step), ``"graph"`` (the same with ``create_graph``) or
            ``"closure"`` (``step(objective.closure(x, y))``).
        steps: Of a turn: a whole interval.
        aim: The ratio to AdamW that it should not exceed; 0: none.
        rival: The peer's row whose step should take at least twice as long; empty: none.
        module: The peer's package; empty for torch and for our own.
        clock: For K-FAC, the counts of steps that a turn starts from, each with its weight.
        once: Whether it takes a single turn, as it is slow.
    """

    make: Make
    kind: str = "plain"
    steps: int = 10
    aim: float = 0.0
    rival: str = ""
    module: str = ""
    clock: tuple[tuple[int, float], ...] = ()
    once: bool = False


class Both:
    """Two optimizers that share a model."""

    def __init__(self, *parts: Any) -> None:
        self.parts, self.state = parts, [part.state for part in parts]

    def zero_grad(self) -> None:
        """Of both."""
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        """Of both."""
        for part in self.parts:
            part.step()


def ours(name: str, **options: Any) -> Make:
    """A method of ours, looked up when it is made: one that is not there is listed."""
    return lambda model: getattr(optim, name)(model.parameters(), **{"lr": RATE, **options})


def looking(name: str, aim: float, steps: int = 10, **options: Any) -> Method:
    """A method of ours that looks at the curvature through the closure."""
    return Method(ours(name, **options), "closure", steps, aim)


def layered(name: str) -> Make:
    """K-FAC or EKFAC, which take the model."""
    return lambda model: getattr(optim, name)(model, lr=RATE)


def torch_muon(model: nn.Module) -> Any:
    """Torch's, which takes matrices alone (no kernels), and AdamW for the rest."""
    groups = optim.muon_groups(model)
    chosen = [p for g in groups if g["use_muon"] for _, p in g["params"]]
    matrices = {p: None for p in chosen if p.ndim == 2}
    adamw = torch.optim.AdamW([p for p in model.parameters() if p not in matrices], lr=RATE)
    return Both(torch.optim.Muon(list(matrices), lr=RATE), adamw) if matrices else adamw


def peer(module: str, name: str, **options: Any) -> Make:
    """A peer's class."""

    def make(model: nn.Module) -> Any:
        held = importlib.import_module(module)
        if module == HB:
            held.utils.compile_mode = None
        return getattr(held, name)(model.parameters(), **{"lr": RATE, **options})

    return make


SOAP, SHAMPOO = "SOAP of pytorch_optimizer, every 10", "Shampoo of pytorch_optimizer, every 10"
TENTHS = ((100, 0.1), (110, 0.9))
METHODS: dict[str, Method] = {
    REFERENCE: Method(lambda model: torch.optim.AdamW(model.parameters(), lr=RATE)),
    "AdamW, fused": Method(lambda m: torch.optim.AdamW(m.parameters(), lr=RATE, fused=True)),
    "AdaHessian, every step": looking("AdaHessian", 2.3, 5),
    "AdaHessian, every step, differences": looking("AdaHessian", 2.3, 5, differences=True),
    "AdaHessian, every 10": looking("AdaHessian", 1.2, interval=10),
    "AdaHessian, every 10, differences": looking("AdaHessian", 1.2, interval=10, differences=True),
    "AdaHessian of pytorch_optimizer": Method(peer(PO, "AdaHessian"), "graph", 5, module=PO),
    "AdaHessian of pytorch_optimizer, every 10": Method(
        peer(PO, "AdaHessian", update_period=10), "graph", module=PO
    ),
    "Sophia, every 10": looking("Sophia", 1.12),
    "Sophia, every 10, differences": looking("Sophia", 1.12, differences=True),
    "Sophia-G, every 10": looking("Sophia", 1.12, estimator="gauss-newton-bartlett"),
    "SophiaH of pytorch_optimizer, every 10": Method(peer(PO, "SophiaH"), "graph", module=PO),
    "SOAP, every 10": Method(ours("SOAP"), rival=SOAP),
    SOAP: Method(peer(PO, "SOAP"), module=PO),
    "SOAP of heavyball, every 10": Method(
        peer(HB, "SOAP", precondition_frequency=10, use_precond_schedule=False), module=HB
    ),
    "Shampoo, every 10": Method(ours("Shampoo"), rival=SHAMPOO),
    SHAMPOO: Method(peer(PO, "Shampoo", preconditioning_compute_steps=10), module=PO),
    "K-FAC, 10 and 100": Method(layered("KFAC"), "closure", 10, 1.5, clock=TENTHS),
    "EKFAC, 10 and 100": Method(layered("EKFAC"), "closure", 10, clock=TENTHS),
    "Muon": Method(lambda model: optim.Muon(optim.muon_groups(model), lr=RATE)),
    "Muon of torch, and AdamW": Method(torch_muon),
    "NaturalGradient": Method(ours("NaturalGradient", lr=1.0), "closure", 1, once=True),
}
