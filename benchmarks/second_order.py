"""Methods of second order: what a training iteration and a step cost, next to AdamW and peers.

In one process and one thread, the methods take turns on copies of one network, the order reversed
every other round, on the clock of processor time. A turn is a whole interval, so that the steps
that look at the curvature or renew a factor count in their proportion; K-FAC's inversions, at every
hundredth step, are a tenth of one: ten steps with and ten without them, weighed one to nine. An
iteration is zero_grad, forward, backward and step, however the method arranges them; its ratio is
the median over rounds of that to torch's AdamW (the default form) in the same round. Steps are
timed by themselves where they follow a plain backward. NaturalGradient takes one turn in all.

    python benchmarks/second_order.py [--methods a,b] [--networks mlp,cnn,transformer]
                                      [--rounds N] [--profile] [--json FILE]

Peers take part where they are installed: pip install pytorch_optimizer heavyball. They are used as
their documentation says (AdaHessian and SophiaH: ``backward(create_graph=True)`` at each step).
HeavyBall runs uncompiled. What is missing or fails is listed with the error. --profile also prints
the calls of our own methods in which the most time goes.
"""

from __future__ import annotations

import argparse
import copy
import cProfile
import importlib
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from networks import Bytes, Case
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg import optim
from thalweg.objective import Objective
from thalweg.study.provenance import machine, versions


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


def perceptron() -> Case:
    """256-512-512-512-512-256 with ReLU, 256 samples."""
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise([256, 512, 512, 512, 512, 256]):
        layers += [nn.Linear(into, out), nn.ReLU()]
    return drawn("MLP", nn.Sequential(*layers[:-1]), torch.randn(256, 256), 256)


def convolutions() -> Case:
    """Three convolutions and a head on 128 images of 3 x 16 x 16."""
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise([3, 16, 32, 64]):
        layers += [nn.Conv2d(into, out, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 10))
    return drawn("CNN", model, torch.randn(128, 3, 16, 16), 10)


def transformer() -> Case:
    """Two layers of width 128 on 8 texts of 64 bytes."""
    return drawn("transformer", Bytes(layers=2), torch.randint(256, (8, 64)), 256, rows=512)


def drawn(name: str, model: nn.Module, x: Tensor, classes: int, rows: int = 0) -> Case:
    """A case with classes drawn at random: what a step costs does not depend on them."""
    y = torch.randint(classes, (rows or len(x),))
    return Case(name, model, x, y, lambda _: (x, y))


NETWORKS = {"mlp": perceptron, "cnn": convolutions, "transformer": transformer}


class Candidate:
    """A method on its own copy of the network."""

    def __init__(self, method: Method, case: Case) -> None:
        self.method = method
        self._x, self._y = case.x, case.y
        self._model = copy.deepcopy(case.model).train()
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
        began, stepping = time.process_time(), 0.0
        for _ in range(self.method.steps):
            stepping += self._iterate()
        taken = time.process_time() - began
        return taken / self.method.steps, stepping / self.method.steps

    def _iterate(self) -> float:
        if self.method.kind == "closure":
            self.optimizer.step(self._objective.closure(self._x, self._y))
            return 0.0
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self._model(self._x), self._y)
        loss.backward(create_graph=self.method.kind == "graph")
        began = time.process_time()
        self.optimizer.step()
        return time.process_time() - began


def tensors(held: Any) -> Iterator[Tensor]:
    """All tensors of a nest of dictionaries and sequences."""
    if isinstance(held, Tensor):
        yield held
    elif isinstance(held, list | tuple) or hasattr(held, "values"):
        for part in held.values() if hasattr(held, "values") else held:
            yield from tensors(part)


def measure(case: Case, names: list[str], rounds: int) -> dict[str, dict[str, Any]]:
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
        made = attempt(name, lambda name=name: Candidate(METHODS[name], case))
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


def line(case: Case, name: str, rows: dict[str, dict[str, Any]]) -> str:
    """A row of the table."""
    row, method = rows[name], METHODS[name]
    if "failed" in row:
        return f"| {case.name} | {name} | {row['failed'].replace('|', '/')[:99]} | | | | |"
    against = rows.get(method.rival, {}).get("step_ms", 0.0) / (row["step_ms"] or 1.0)
    cells = [
        *(case.name, name, f"{row['ratio']:.2f}"),
        f"{method.aim:g}" if method.aim else "",
        f"{row['step_ms']:.2f}" if row["step_ms"] else "",
        f"{against:.1f}" if against else "",
        f"{row['state_bytes']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def profiled(case: Case, name: str, count: int = 12) -> str:
    """The calls of a method's turn in which, by themselves, the most time goes."""
    profile, text = cProfile.Profile(time.process_time), io.StringIO()
    profile.runcall(Candidate(METHODS[name], case).turn)
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(count)
    return text.getvalue()


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--methods", help=f"of {'; '.join(METHODS)} (their starts will do)")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wanted = tuple(options.methods.lower().split(",")) if options.methods else ("",)
    names = [n for n in METHODS if n == REFERENCE or n.lower().startswith(wanted)]
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    known = versions() | {
        m: importlib.metadata.version(m) for m in MODULES if importlib.util.find_spec(m)
    }
    results: dict[str, Any] = {"machine": machine(), "versions": known, "rows": []}
    print(f"{machine()}, {known}, one thread, medians of {options.rounds} rounds\n")
    print("| network | method | iteration / AdamW | aim | step, ms | peer's step / ours | state |")
    print("|---|---|---|---|---|---|---|")
    for key in options.networks.split(","):
        torch.manual_seed(0)
        case = NETWORKS[key]()
        rows = measure(case, names, options.rounds)
        for name in names:
            results["rows"].append({"network": case.name, "method": name, **rows[name]})
            print(line(case, name, rows), flush=True)
        for name in names if options.profile else []:
            if "failed" not in rows[name] and not METHODS[name].module:
                print(f"\n{case.name}, {name}\n{profiled(case, name)}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
