"""Three published defects of methods with curvature, looked for in this package and its peers.

    python benchmarks/peer_defects.py [--json FILE]

* *zero curvature*: f = x^2 / 2 + y / 1000 from (1, 0), one step at the defaults. y has no second
  derivative. It passes where y moves no farther than x could (by 1).
* *constant gradient*: one step on the mean output of a small network. The gradient of its last bias
  depends on no parameter. It passes where the step is made and finite.
* *interval*: f = 50 x^2 + y^2 / 2, curvature taken every 10 steps, no momentum, rate 0.1. The
  Hessian does not change, so a step is the rate times Newton's, whether curvature was looked at or
  not. It passes where each of 35 steps is that to 1%.

Peers are called as their documentation says, with the graph built by each backward pass.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thalweg import optim
from thalweg.objective import Objective


# Method: package, class, the name of its interval (None: it has none, or the correction does not
# apply, as for Sophia, whose average starts at zero by design).
METHODS: dict[str, tuple[str, str, str | None]] = {
    "AdaHessian": ("thalweg", "AdaHessian", "interval"),
    "AdaHessian, pytorch_optimizer": ("pytorch_optimizer", "AdaHessian", "update_period"),
    "Adahessian, torch_optimizer": ("torch_optimizer", "Adahessian", None),
    "Sophia-H": ("thalweg", "Sophia", None),
    "SophiaH, pytorch_optimizer": ("pytorch_optimizer", "SophiaH", None),
}
PASSES, FAILS, ABSENT = "passes", "fails", "-"

Loss = Callable[[], Tensor]


class Stepper:
    """Takes steps of one method, ours by a closure, a peer's by its own protocol."""

    def __init__(self, package: str, name: str, params: list[Tensor], **options: Any) -> None:
        self.ours = package == "thalweg"
        made = getattr(optim if self.ours else importlib.import_module(package), name)
        self.optimizer = made(params, **options)
        self.params = params

    def __call__(self, loss: Loss) -> None:
        """One step."""
        if self.ours:
            self.optimizer.step(Objective.of(lambda _: loss()).closure(self.params[0]))
            return
        self.optimizer.zero_grad()
        loss().backward(create_graph=True)
        self.optimizer.step()
        for p in self.params:  # else the graph and the parameter keep each other alive
            p.grad = None


def zero_curvature(package: str, name: str, interval: str | None) -> tuple[str, str]:
    """How far a coordinate without curvature moves."""
    del interval
    x = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    Stepper(package, name, [x])(lambda: 0.5 * x[0] ** 2 + 1e-3 * x[1])
    moved = abs(x[1].item())
    return (PASSES if moved <= 1.0 else FAILS), f"moves by {moved:.2g}"


def constant_gradient(package: str, name: str, interval: str | None) -> tuple[str, str]:
    """Whether a step is made at all."""
    del interval
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(6, 3)
    params = list(model.parameters())
    before = params[-1].item()
    stepper = Stepper(package, name, params)
    if stepper.ours:
        closure = Objective(model, lambda z, _: z.mean()).closure(inputs, inputs)
        stepper.optimizer.step(closure)
    else:
        stepper(lambda: model(inputs).mean())
    moved = params[-1].item() - before
    good = all(bool(p.isfinite().all()) for p in params) and moved != 0.0
    return (PASSES if good else FAILS), f"moves by {abs(moved):.2g}"


def interval_correction(package: str, name: str, interval: str | None) -> tuple[str, str]:
    """The largest step over what it should be."""
    if interval is None:
        return ABSENT, ""
    curvature = torch.tensor([100.0, 1.0], dtype=torch.float64)
    x = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    options = {"lr": 0.1, "betas": (0.0, 0.999), interval: 10}
    stepper, worst = Stepper(package, name, [x], **options), 1.0
    for _ in range(35):
        before = x.detach().clone()
        stepper(lambda: 0.5 * (curvature * x**2).sum())
        steps = (before - x.detach()) / (0.1 * before)
        worst = max([worst, *steps.tolist()], key=lambda r: abs(r - 1.0))
        if not bool(x.isfinite().all()) or float(x.detach().abs().max()) < 1e-200:
            break
    return (PASSES if abs(worst - 1.0) < 0.01 else FAILS), f"steps up to {worst:.2f} times right"


CHECKS = {
    "zero curvature": zero_curvature,
    "constant gradient": constant_gradient,
    "interval": interval_correction,
}


def outcome(check: Callable[..., tuple[str, str]], method: str) -> dict[str, str]:
    """What came of a check; an error is a failure, in its own words."""
    package, name, interval = METHODS[method]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            verdict, words = check(package, name, interval)
        except Exception as error:  # whatever a peer raises is the finding
            first = str(error).splitlines()[0] if str(error) else ""
            return {"verdict": FAILS, "how": f"{type(error).__name__}: {first[:72]}"}
    return {"verdict": verdict, "how": words}


def version(package: str) -> str | None:
    """The installed version; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="where to keep the table")
    arguments = parser.parse_args()
    packages = dict.fromkeys(package for package, _, _ in METHODS.values())
    versions = {package: version(package) for package in (*packages, "torch")}
    print(", ".join(f"{name} {found or 'not installed'}" for name, found in versions.items()))
    rows = {
        method: {name: outcome(check, method) for name, check in CHECKS.items()}
        for method, (package, _, _) in METHODS.items()
        if versions[package] is not None
    }
    print(f"\n| method | {' | '.join(CHECKS)} |\n|---|{'---|' * len(CHECKS)}")
    for method, found in rows.items():
        cells = [f"{c['verdict']} ({c['how']})" if c["how"] else c["verdict"]
                 for c in found.values()]  # fmt: skip
        print(f"| {method} | {' | '.join(cells)} |")
    if arguments.json:
        arguments.json.write_text(json.dumps({"versions": versions, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
