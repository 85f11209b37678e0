"""Wall time on functions of 10, 1,000 and 100,000 variables: ours, scipy, torchmin, torch.

Each solver goes until the largest entry of the gradient is 1e-6 of that at the start. Solvers take
turns, three rounds; a number is the median. Seconds are the processor time of one thread, which
waiting for a processor is no part of.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import torch
from classical_solvers import MOST, SCIPY, TORCHMIN, Counted, Late
from clock import Clock
from torch import Tensor

import thalweg as tw


ROUNDS, SHARE = 3, 1e-6
CLOCK = Clock(torch.device("cpu"))
Function = Callable[[Tensor], Tensor]


def rosenbrock(x: Tensor) -> Tensor:
    """Extended: n/2 valleys."""
    odd, even = x.view(-1, 2).unbind(1)
    return (100 * (even - odd.square()).square() + (1 - odd).square()).sum()


def logistic(n: int) -> tuple[Function, Tensor]:
    """Handwritten digits (scikit-learn) against their classes; the start is 0.

    10 variables tell even from odd by the ten most varying pixels; else ten classes, with n / 10
    features: 65 pixels with a constant, and random cosines of the pixels up to that number.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images / 16), torch.from_numpy(labels)
    if n == 10:
        chosen = x.var(0).argsort(descending=True)[:10]
        columns, sign = x[:, chosen], 1.0 - 2.0 * (y % 2)

        def binary(w: Tensor) -> Tensor:
            margin = torch.nn.functional.softplus(-sign * (columns @ w)).mean()
            return margin + 5e-4 * w.dot(w)

        return binary, torch.zeros(10, dtype=torch.float64)
    x, y, k = x[:500], y[:500], n // 10
    generator = torch.Generator().manual_seed(0)
    more = torch.randn(64, k - 65, dtype=torch.float64, generator=generator)
    shift = 6.28 * torch.rand(k - 65, dtype=torch.float64, generator=generator)
    waves = torch.cos(x @ more + shift) * (2 / k) ** 0.5
    columns = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64), waves], 1)

    def classes(w: Tensor) -> Tensor:
        logits = columns @ w.view(k, 10)
        return torch.nn.functional.cross_entropy(logits, y) + 5e-4 * w.dot(w)

    return classes, torch.zeros(10 * k, dtype=torch.float64)


@dataclass(frozen=True)
class Timed:
    """One run."""

    seconds: float
    values: int
    reached: bool


def _measured(solve: Callable[[Counted], Any], fn: Function, goal: float) -> Timed:
    counted = Counted(fn, 120.0)
    begun = CLOCK.now()
    try:
        x = solve(counted)
    except Late:
        return Timed(CLOCK.now() - begun, counted.values, False)
    seconds = CLOCK.now() - begun
    x = torch.as_tensor(x, dtype=torch.float64)
    _, grad = Counted(fn, 60.0).both(x)
    return Timed(seconds, counted.values, bool(np.abs(grad).max() <= goal))


def _ours(method: str, start: Tensor, goal: float) -> Callable[[Counted], Any]:
    def solve(counted: Counted) -> Any:
        found = tw.minimize(
            counted.plain, start, method, maxiter=MOST,
            callback=lambda so_far: so_far.optimality <= goal,
        )  # fmt: skip
        counted.values = found.nfev
        return found.x

    return solve


def _scipys(method: str, start: Tensor, goal: float) -> Callable[[Counted], Any]:
    def solve(counted: Counted) -> Any:
        extra: dict[str, Any] = {"options": {"gtol": goal, "maxiter": MOST}}
        if method == "L-BFGS-B":
            extra["options"] |= {"ftol": 0.0, "maxfun": 10 * MOST}
        if method == "trust-ncg":
            extra["hessp"] = counted_product(counted)
        return scipy.optimize.minimize(
            counted.both, start.numpy(), jac=True, method=method, **extra
        ).x

    return solve


def counted_product(counted: Counted) -> Callable[[Any, Any], np.ndarray]:
    """Products with the Hessian by double backward."""

    def product(x: Any, v: Any) -> np.ndarray:
        point = torch.tensor(x, requires_grad=True)
        (grad,) = torch.autograd.grad(counted.fn(point), point, create_graph=True)
        (image,) = torch.autograd.grad(grad, point, torch.as_tensor(v))
        return image.numpy()

    return product


def _torchmins(method: str, start: Tensor, goal: float) -> Callable[[Counted], Any]:
    def solve(counted: Counted) -> Any:
        import torchmin  # type: ignore[import-not-found]

        options: dict[str, Any] = {"gtol": goal, "max_iter": MOST}
        if "bfgs" in method:
            options["xtol"] = 0.0
        return torchmin.minimize(counted.plain, start, method, options=options).x

    return solve


def _torchs(start: Tensor, goal: float) -> Callable[[Counted], Any]:
    def solve(counted: Counted) -> Any:
        x = start.clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [x], max_iter=MOST, tolerance_grad=goal, tolerance_change=0.0, history_size=10,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = counted.plain(x)
            value.backward()
            return value

        optimizer.step(closure)  # type: ignore[arg-type]
        return x.detach()

    return solve


def solvers(n: int, start: Tensor, goal: float) -> dict[str, Callable[[Counted], Any]]:
    """What takes part at a size."""
    made: dict[str, Callable[[Counted], Any]] = {}
    for method in ("lbfgs", *(["bfgs"] if n == 10 else []), "trust-ncg"):
        made[method] = _ours(method, start, goal)
        made[f"scipy {SCIPY[method]}"] = _scipys(SCIPY[method], start, goal)
        if TORCHMIN:
            name = {"lbfgs": "l-bfgs"}.get(method, method)
            made[f"torchmin {name}"] = _torchmins(name, start, goal)
        if method == "lbfgs":
            made["torch LBFGS"] = _torchs(start, goal)
    return made


def rows() -> Iterator[dict[str, Any]]:
    """Every median."""
    for n in (10, 1000, 100_000):
        starts = {
            "rosenbrock": (rosenbrock, torch.tensor([-1.2, 1.0]).double().repeat(n // 2)),
            "logistic": logistic(n),
        }
        for problem, (fn, start) in starts.items():
            _, grad = Counted(fn, 60.0).both(start)
            goal = SHARE * float(np.abs(grad).max())
            made = solvers(n, start, goal)
            found: dict[str, list[Timed]] = {name: [] for name in made}
            for solve in made.values() if n == 10 else ():  # first calls load and trace
                _measured(solve, fn, goal)
            for _ in range(ROUNDS):
                for name, solve in made.items():
                    found[name].append(_measured(solve, fn, goal))
            for name, times in found.items():
                seconds = statistics.median(run.seconds for run in times)
                yield {
                    "part": "time",
                    "family": f"{problem}, n = {n}",
                    "solver": name,
                    "problem": problem,
                    "n": n,
                    "tight": False,
                    "seconds": seconds,
                    "values": times[0].values,
                    "reached": all(run.reached for run in times),
                    "machine": CLOCK.machine(),
                }


def table(rows: list[dict[str, Any]]) -> str:
    """The seconds of all, a column a function."""
    columns = list(dict.fromkeys(row["family"] for row in rows))
    cells = {(row["solver"], row["family"]): row for row in rows}
    names = list(dict.fromkeys(row["solver"] for row in rows))
    lines = [
        f"\nseconds to a gradient of {SHARE:g} of the first; {rows[0]['machine']}\n",
        "| solver | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in names:
        shown = name if " " in name else f"**{name}**"
        told = []
        for column in columns:
            row = cells.get((name, column))
            words = "-" if row is None else f"{row['seconds']:.3g} ({row['values']})"
            told.append(words if row is None or row["reached"] else f"{words} not reached")
        lines.append(f"| {shown} | " + " | ".join(told) + " |")
    return "\n".join(lines)
