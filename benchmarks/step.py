"""Step times against torch.optim, pytorch_optimizer, HeavyBall and the memory floor.

In one process and one thread, the candidates of a method take turns, step by step, so that whatever
else the machine does falls on all of them; medians of the thread's processor time are compared,
which waiting for a processor is no part of. The floor of a method is the time to move the bytes
that it has to move (each of parameter, gradient and state read once, each of parameter and state
written once) at the bandwidth of a plain copy measured in the same turns.

    python benchmarks/step.py [--steps N] [--methods a,b] [--sets a,b] [--device cuda]
                              [--json FILE]

Peers take part where they are installed: pip install pytorch_optimizer heavyball. One that raises
is listed as failed. Compile times are processor seconds of the first three steps, the C++ compiler
included. With TORCHINDUCTOR_FORCE_DISABLE_CACHES=1 they are those of a first run. With ``--device
cuda`` each step is timed from an idle device to an idle device (``clock.py``), and ours is compared
with torch's foreach form, which both take by default there.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import random
import statistics
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from clock import Clock
from torch.optim.swa_utils import AveragedModel

from thalweg import optim
from thalweg.optim.projections import Box
from thalweg.study.provenance import versions


Params = list[torch.nn.Parameter]
Shapes = list[tuple[int, ...]]
Make = Callable[[Params], Any]
SETS: dict[str, Shapes] = {
    "many small": [(64, 64)] * 150,
    "GPT-like": [(2000, 256), (128, 256)]
    + [(768, 256), (256, 256), (1024, 256), (256, 1024), (256,), (256,), (1024,), (256,)] * 6,
    "few large": [(2048, 2048)] * 4,
}
MODULES = ("pytorch_optimizer", "heavyball")
RATE = 1e-3


class Then:
    """An optimizer, and something done after each of its steps."""

    def __init__(self, inner: Any, after: Callable[[], Any]) -> None:
        self.inner, self.after, self.param_groups = inner, after, inner.param_groups

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Both."""
        self.inner.step(closure)
        with torch.no_grad():
            self.after()


@dataclass(frozen=True)
class Case:
    """A row: a method of ours, torch's nearest, and the peers that have it."""

    ours: Callable[[Params, bool], Any]  # the flag is compile
    nearest: str  # torch's class, by name
    options: dict[str, Any] = field(default_factory=dict)
    after: Callable[[Params], Callable[[], Any]] | None = None  # what torch's has to do besides
    peers: dict[str, Make] = field(default_factory=dict)
    closure: bool = False
    cycle: int = 1  # steps to a turn, where they are not all alike


def plain(name: str, **options: Any) -> Callable[[Params, bool], Any]:
    """A method of ours by itself."""
    return lambda params, compiled: optim.create(name, params, lr=RATE, **options, compile=compiled)


def peer(module: str, name: str, **options: Any) -> dict[str, Make]:
    """A peer's class."""

    def make(params: Params) -> Any:
        return getattr(importlib.import_module(module), name)(params, **{"lr": RATE, **options})

    return {module: make}


def around(module: str, make: Callable[[Any, Params], Any]) -> dict[str, Make]:
    """A peer's wrapper, given its module."""
    return {module: lambda params: make(importlib.import_module(module), params)}


def averaging(params: Params) -> Callable[[], Any]:
    """A running mean of the weights, as torch has it."""
    model = torch.nn.ParameterList(params)
    averaged = AveragedModel(model)
    return lambda: averaged.update_parameters(model)


def clamping(params: Params) -> Callable[[], Any]:
    """A box, as one writes it by hand."""
    return lambda: [p.clamp_(-1.0, 1.0) for p in params]


def adamw(params: Params, compiled: bool) -> Any:
    return optim.AdamW(params, lr=RATE, compile=compiled)


def sgd(params: Params, compiled: bool) -> Any:
    return optim.SGD(params, lr=RATE, compile=compiled)


def torch_adamw(params: Params) -> Any:
    return torch.optim.AdamW(params, lr=RATE)


CASES: dict[str, Case] = {
    "sgd": Case(
        sgd,
        "SGD",
        peers=peer("pytorch_optimizer", "SGDW") | peer("heavyball", "SGD", beta=0.0),
    ),
    "momentum": Case(
        plain("sgd", momentum=0.9),
        "SGD",
        {"momentum": 0.9},
        peers=peer("pytorch_optimizer", "SGDW", momentum=0.9) | peer("heavyball", "SGD", beta=0.9),
    ),
    "nesterov": Case(  # torch's form takes the gradient where it stands
        plain("nesterov"),
        "SGD",
        {"momentum": 0.9, "nesterov": True},
        peers=peer("pytorch_optimizer", "SGDW", momentum=0.9, nesterov=True),
        closure=True,
    ),
    "adagrad": Case(plain("adagrad"), "Adagrad"),
    "rmsprop": Case(plain("rmsprop"), "RMSprop", peers=peer("heavyball", "RMSprop")),
    "adam": Case(
        plain("adam"), "Adam", peers=peer("heavyball", "AdamW", betas=(0.9, 0.999), weight_decay=0)
    ),
    "adamw": Case(
        adamw, "AdamW", peers=peer("heavyball", "AdamW", betas=(0.9, 0.999), weight_decay=0.01)
    ),
    "rprop": Case(plain("rprop"), "Rprop"),
    "adan": Case(plain("adan"), "AdamW", peers=peer("pytorch_optimizer", "Adan")),
    "delta-bar-delta": Case(plain("delta-bar-delta"), "Rprop"),
    "lookahead(adamw)": Case(
        lambda params, compiled: optim.Lookahead(adamw(params, compiled)),
        "AdamW",
        peers=around("pytorch_optimizer", lambda m, params: m.Lookahead(torch_adamw(params))),
        cycle=5,
    ),
    "projected(sgd)": Case(
        lambda params, compiled: optim.ProjectedGradient(sgd(params, compiled), Box(-1.0, 1.0)),
        "SGD",
        after=clamping,
    ),
    "sam(sgd)": Case(
        lambda params, compiled: optim.SAM(sgd(params, compiled)),
        "SGD",
        peers=around("pytorch_optimizer", lambda m, params: m.SAM(params, torch.optim.SGD, lr=RATE))
        | around("heavyball", lambda m, params: m.SAMWrapper(params, m.SGD(params, lr=RATE))),
        closure=True,
    ),
    "averaging(adamw)": Case(
        lambda params, compiled: optim.WeightAveraging(adamw(params, compiled)),
        "AdamW",
        after=averaging,
    ),
}


def parameters(shapes: Shapes, device: torch.device) -> Params:
    """Parameters with fixed gradients."""
    made = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
    for p in made:
        p.grad = torch.randn_like(p)
    return made


class Candidate:
    """An optimizer that takes its turns; its gradients are back before each step."""

    def __init__(self, case: Case, make: Make, shapes: Shapes, clock: Clock) -> None:
        params = parameters(shapes, clock.device)
        self._clock = clock
        self.optimizer = make(params)
        self._gradients = [(p, p.grad) for p in params]
        self._closure = self.restore if case.closure else None

    def restore(self) -> torch.Tensor:
        """The gradients, which some peers throw away; as a closure it costs nothing else."""
        for p, gradient in self._gradients:
            p.grad = gradient
        return torch.zeros(())

    def turn(self) -> float:
        """Seconds of a step."""
        self.restore()
        began = self._clock.now()
        self.optimizer.step(self._closure) if self._closure else self.optimizer.step()
        return self._clock.now() - began


def makers(case: Case) -> Iterator[tuple[str, Make]]:
    """What takes part in a row, by what the table calls it."""
    yield "ours", lambda params: case.ours(params, False)
    yield "ours compiled", lambda params: case.ours(params, True)
    forms: dict[str, dict[str, bool]] = {
        "for-loop": {"foreach": False},
        "foreach": {"foreach": True},
    }
    if case.nearest in {"SGD", "Adam", "AdamW", "Adagrad"}:
        forms["fused"] = {"fused": True}
    for form, flags in forms.items():

        def make(params: Params, flags: dict[str, bool] = flags) -> Any:
            inner = getattr(torch.optim, case.nearest)(params, lr=RATE, **case.options, **flags)
            return inner if case.after is None else Then(inner, case.after(params))

        yield f"torch {form}", make
    for module, make in case.peers.items():
        if importlib.util.find_spec(module):
            yield module, make


def state_bytes(optimizer: Any, entries: int) -> float:
    """Bytes of state an entry, counters left out."""
    tensors = [t for slots in optimizer.state.values() for t in slots.values()]
    kept = [t for t in tensors if isinstance(t, torch.Tensor) and t.numel() > 1]
    return sum(t.numel() * t.element_size() for t in kept) / entries


def measure(case: Case, shapes: Shapes, steps: int, clock: Clock) -> dict[str, Any]:
    """Medians of each candidate and of the floor, in milliseconds."""
    entries = sum(torch.Size(shape).numel() for shape in shapes)
    found: dict[str, Candidate] = {}
    failed: dict[str, str] = {}
    first: dict[str, float] = {}
    for name, make in makers(case):
        try:
            candidate = Candidate(case, make, shapes, clock)
            began = sum(os.times()[:4])  # of this process and its children: the C++ compiler
            for _ in range(3):
                candidate.turn()
            first[name] = sum(os.times()[:4]) - began
            found[name] = candidate
        except Exception as error:
            if name not in MODULES:
                raise
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    least = 4_000_000 if clock.device.type == "cpu" else 256_000_000  # so that launching is nothing
    source = torch.randn(max(entries, least), device=clock.device)
    target = torch.empty_like(source)

    def copy() -> float:
        began = clock.now()
        target.copy_(source)
        return clock.now() - began

    turns = {name: (case.cycle, candidate.turn) for name, candidate in found.items()}
    turns["copy"] = 1, copy
    times: dict[str, list[float]] = {name: [] for name in turns}
    names = list(turns)
    for _ in range(steps):
        random.shuffle(names)  # whoever comes after the copy finds empty caches
        for name in names:
            count, turn = turns[name]
            times[name].append(sum(turn() for _ in range(count)) / count)
    medians = {name: 1000 * statistics.median(taken) for name, taken in times.items()}
    per_entry = medians.pop("copy") / (2 * source.numel())
    state = state_bytes(found["ours"].optimizer, entries)
    # Read parameter, gradient and state; write parameter and state.
    medians["floor"] = per_entry * entries * (3 + 2 * state / 4)
    return {
        "milliseconds": medians,
        "failed": failed,
        "compile_seconds": first["ours compiled"],
        "state_bytes": state,
    }


def line(set_name: str, method: str, row: dict[str, Any], form: str) -> str:
    """A row of the table, with torch's own in one of its forms."""
    ms, compiled = row["milliseconds"], row["milliseconds"]["ours compiled"]
    best = min((n for n in ms if n.startswith("torch")), key=ms.__getitem__)
    peers = [f"{name} {ms[name] / compiled:.2f}" for name in MODULES if name in ms]
    peers += [f"{name} failed ({why.split(':')[0]})" for name, why in row["failed"].items()]
    cells = [
        set_name,
        method,
        f"{ms['ours'] / ms[f'torch {form}']:.2f}",
        f"{compiled / ms[best]:.2f} ({best.removeprefix('torch ')})",
        f"{compiled / ms['floor']:.2f}",
        ", ".join(peers) or "-",
        f"{row['compile_seconds']:.1f}",
        f"{row['state_bytes']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--methods", default=",".join(CASES))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    warnings.simplefilter("ignore")
    clock = Clock(arguments.device)
    form = "for-loop" if clock.device.type == "cpu" else "foreach"
    torch.compile(torch.sin)(torch.zeros(2))  # torch.compile's own start is no method's time
    peers = [m for m in MODULES if importlib.util.find_spec(m)]
    known = versions() | {m: importlib.metadata.version(m) for m in peers}
    results: dict[str, Any] = {"machine": clock.machine(), "versions": known, "rows": []}
    print(f"{clock.machine()}, {known}, medians of {arguments.steps} turns\n")
    print(
        f"| tensors | method | ours / torch {form} | compiled / torch fastest | compiled / floor "
        "| peer / compiled | compile, processor s | state, bytes an entry |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for set_name in arguments.sets.split(","):
        for method in arguments.methods.split(","):
            row = measure(CASES[method], SETS[set_name], arguments.steps, clock)
            results["rows"].append({"tensors": set_name, "method": method, **row})
            print(line(set_name, method, row, form), flush=True)
            if arguments.json:  # after each, so that what was measured stays
                arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
