"""Methods of second order: what a training iteration and a step cost, next to AdamW and peers.

In one process and one thread, the methods take turns on copies of one network, the order reversed
every other round, on the clock of processor time. A turn is a whole interval, so that the steps
that look at the curvature or renew a factor count in their proportion; K-FAC's inversions, at every
hundredth step, are a tenth of one: ten steps with and ten without them, weighed one to nine. An
iteration is zero_grad, forward, backward and step, however the method arranges them; its ratio is
the median over rounds of that to torch's AdamW (the default form) in the same round. Steps are
timed by themselves where they follow a plain backward. NaturalGradient takes one turn in all.

    python benchmarks/second_order.py [--methods "a;b"] [--networks mlp,cnn,transformer]
                                      [--rounds N] [--device cuda] [--profile] [--json FILE]

Peers take part where they are installed: pip install pytorch_optimizer heavyball. They are used as
their documentation says (AdaHessian and SophiaH: ``backward(create_graph=True)`` at each step).
HeavyBall runs uncompiled. What is missing or fails is listed with the error. --profile also prints
the calls of our own methods in which the most time goes.
"""

from __future__ import annotations

import argparse
import copy
import cProfile
import importlib.metadata
import importlib.util
import io
import itertools
import json
import pstats
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from clock import Clock
from networks import Bytes, Case
from second_order_methods import METHODS, MODULES, REFERENCE, Method
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.objective import Objective
from thalweg.study.provenance import versions


def perceptron(sizes: tuple[int, ...] = (256, 512, 512, 512, 512, 256), batch: int = 256) -> Case:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(sizes):
        layers += [nn.Linear(into, out), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    return drawn("MLP", model, torch.randn(batch, sizes[0]), sizes[-1])


def convolutions(channels: tuple[int, ...] = (3, 16, 32, 64), batch: int = 128) -> Case:
    """Three convolutions and a head, on images of 3 x 16 x 16."""
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(channels):
        layers += [nn.Conv2d(into, out, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * channels[-1], 10))
    return drawn("CNN", model, torch.randn(batch, 3, 16, 16), 10)


def transformer(width: int = 128, layers: int = 2, length: int = 64) -> Case:
    """A transformer on 8 texts of bytes."""
    model = Bytes(width, layers, length=length)
    return drawn("transformer", model, torch.randint(256, (8, length)), 256, rows=8 * length)


def drawn(name: str, model: nn.Module, x: Tensor, classes: int, rows: int = 0) -> Case:
    """A case with classes drawn at random: what a step costs does not depend on them."""
    y = torch.randint(classes, (rows or len(x),))
    return Case(name, model, x, y, lambda _: (x, y))


NETWORKS: dict[str, Callable[[], Case]] = {
    "mlp": perceptron,
    "cnn": convolutions,
    "transformer": transformer,
    # For accelerators, which the others leave idle.
    "mlp-large": lambda: perceptron((1024, 2048, 2048, 2048, 1024), 4096),
    "cnn-large": lambda: convolutions((3, 128, 256, 512), 512),
    "transformer-large": lambda: transformer(768, 6, 512),
}


class Candidate:
    """A method on its own copy of the network."""

    def __init__(self, method: Method, case: Case, clock: Clock) -> None:
        self.method, self._clock = method, clock
        self._x, self._y = case.x.to(clock.device), case.y.to(clock.device)
        self._model = copy.deepcopy(case.model).to(clock.device).train()
        self.optimizer = method.make(self._model)
        self._objective = Objective(self._model, F.cross_entropy)
        for _ in range(0 if method.once else method.steps):  # what happens at the start is over
            self._iterate()

    def turn(self) -> tuple[float, float]:
        """Seconds of an iteration, and of its step where that can be told apart."""
        if not self.method.clock:
            return self._mean()
        whole = step = 0.0
        for start, weight in self.method.clock:
            self.optimizer.param_groups[0]["steps"] = start
            taken = self._mean()
            whole, step = whole + weight * taken[0], step + weight * taken[1]
        return whole, step

    def state_bytes(self) -> float:
        """Bytes of state a parameter, counters left out."""
        kept = {t.data_ptr(): t for t in tensors(self.optimizer.state) if t.numel() > 1}
        entries = sum(p.numel() for p in self._model.parameters())
        return sum(t.numel() * t.element_size() for t in kept.values()) / entries

    def _mean(self) -> tuple[float, float]:
        began, stepping = self._clock.now(), 0.0
        for _ in range(self.method.steps):
            stepping += self._iterate()
        taken = self._clock.now() - began
        return taken / self.method.steps, stepping / self.method.steps

    def _iterate(self) -> float:
        if self.method.kind == "closure":
            self.optimizer.step(self._objective.closure(self._x, self._y))
            return 0.0
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self._model(self._x), self._y)
        loss.backward(create_graph=self.method.kind == "graph")
        began = self._clock.now()
        self.optimizer.step()
        return self._clock.now() - began


def tensors(held: Any) -> Iterator[Tensor]:
    """All tensors of a nest of dictionaries and sequences."""
    if isinstance(held, Tensor):
        yield held
    elif isinstance(held, list | tuple) or hasattr(held, "values"):
        for part in held.values() if hasattr(held, "values") else held:
            yield from tensors(part)


def measure(case: Case, names: list[str], rounds: int, clock: Clock) -> dict[str, dict[str, Any]]:
    """What each method takes, or why it has no numbers."""
    found: dict[str, dict[str, Any]] = {}
    taking: dict[str, Candidate] = {}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}

    def attempt(name: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:  # a peer's, or of a method that is not there
            taking.pop(name, None)
            found[name] = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
            return None

    for name in names:
        made = attempt(name, lambda name=name: Candidate(METHODS[name], case, clock))
        if made is not None:
            taking[name] = made
    for i in range(rounds):
        order = [n for n in taking if i == 0 or not METHODS[n].once]
        for name in order if i % 2 == 0 else reversed(order):
            taken = attempt(name, taking[name].turn)
            if taken is not None:
                times[name].append(taken)
    for name, candidate in taking.items():
        pairs = zip(times[name], times[REFERENCE], strict=False)
        found[name] = {
            "ratio": statistics.median(own[0] / adamw[0] for own, adamw in pairs),
            "iteration_ms": 1000 * statistics.median(whole for whole, _ in times[name]),
            "step_ms": 1000 * statistics.median(step for _, step in times[name]),
            "state_bytes": candidate.state_bytes(),
        }
    return found


def line(network: str, name: str, rows: dict[str, dict[str, Any]]) -> str:
    """A row of the table."""
    row, method = rows[name], METHODS[name]
    if "failed" in row:
        return f"| {network} | {name} | {row['failed'].replace('|', '/')[:99]} | | | | |"
    against = rows.get(method.rival, {}).get("step_ms", 0.0) / (row["step_ms"] or 1.0)
    cells = [
        *(network, name, f"{row['ratio']:.2f}"),
        f"{method.aim:g}" if method.aim else "",
        f"{row['step_ms']:.2f}" if row["step_ms"] else "",
        f"{against:.1f}" if against else "",
        f"{row['state_bytes']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def profiled(case: Case, name: str, clock: Clock, count: int = 12) -> str:
    """The calls of a method's turn in which, by themselves, the most time goes."""
    profile, text = cProfile.Profile(time.process_time), io.StringIO()
    profile.runcall(Candidate(METHODS[name], case, clock).turn)
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(count)
    return text.getvalue()


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--methods", help=f"of {'; '.join(METHODS)} (their starts will do)")
    parser.add_argument("--networks", default="mlp,cnn,transformer", help=f"of {list(NETWORKS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wanted = tuple(options.methods.lower().split(";")) if options.methods else ("",)
    names = [n for n in METHODS if n == REFERENCE or n.lower().startswith(wanted)]
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    clock = Clock(options.device)
    known = versions() | {
        m: importlib.metadata.version(m) for m in MODULES if importlib.util.find_spec(m)
    }
    results: dict[str, Any] = {"machine": clock.machine(), "versions": known, "rows": []}
    print(f"{clock.machine()}, {known}, medians of {options.rounds} rounds\n")
    print("| network | method | iteration / AdamW | aim | step, ms | peer's step / ours | state |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for key in options.networks.split(","):
        torch.manual_seed(0)
        case = NETWORKS[key]()
        rows = measure(case, names, options.rounds, clock)
        for name in names:
            results["rows"].append({"network": key, "method": name, **rows[name]})
            print(line(key, name, rows), flush=True)
        if options.json:  # after each network, so that what was measured stays
            options.json.write_text(json.dumps(results, indent=2), encoding="utf-8")
        for name in names if options.profile else []:
            if "failed" not in rows[name] and not METHODS[name].module:
                print(f"\n{key}, {name}\n{profiled(case, name, clock)}")


if __name__ == "__main__":
    main()
