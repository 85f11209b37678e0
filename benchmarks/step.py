"""Step times against torch.optim, pytorch_optimizer, HeavyBall and the memory floor.

In one process and one thread, the candidates of a method take turns, step by step, so that whatever
else the machine does falls on all of them; medians are compared. The floor of a method is the time
to move the bytes that it has to move (each of parameter, gradient and state read once, each of
parameter and state written once) at the bandwidth of a plain copy measured in the same turns.

    python benchmarks/step.py [--steps N] [--methods a,b] [--json FILE]

Peers take part where they are installed: pip install pytorch_optimizer heavyball.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from thalweg import optim
from thalweg.study.provenance import machine, versions


Shapes = list[tuple[int, ...]]
SETS: dict[str, Shapes] = {
    "many small": [(64, 64)] * 150,
    "GPT-like": [(2000, 256), (128, 256)]
    + [(768, 256), (256, 256), (1024, 256), (256, 1024), (256,), (256,), (1024,), (256,)] * 6,
    "few large": [(2048, 2048)] * 4,
}

# Ours, its options, torch's nearest with options.
METHODS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "sgd": ("sgd", {}, "SGD", {}),
    "momentum": ("sgd", {"momentum": 0.9}, "SGD", {"momentum": 0.9}),
    "adagrad": ("adagrad", {}, "Adagrad", {}),
    "rmsprop": ("rmsprop", {}, "RMSprop", {}),
    "adam": ("adam", {}, "Adam", {}),
    "adamw": ("adamw", {}, "AdamW", {}),
    "rprop": ("rprop", {}, "Rprop", {}),
    "adan": ("adan", {}, "AdamW", {}),
    "delta-bar-delta": ("delta-bar-delta", {}, "Rprop", {}),
}
PEERS = {
    "adamw": ("heavyball", "AdamW"),
    "adan": ("pytorch_optimizer", "Adan"),
}


def parameters(shapes: Shapes) -> list[torch.nn.Parameter]:
    """Parameters with fixed gradients."""
    made = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in made:
        p.grad = torch.randn_like(p)
    return made


def candidates(method: str, shapes: Shapes) -> dict[str, Any]:
    """The optimizers that take turns, by what the table calls them."""
    ours, options, theirs, torch_options = METHODS[method]
    if ours not in optim.catalogue():
        return {}
    rate = {"lr": 1e-3}
    torch_class = getattr(torch.optim, theirs)
    found: dict[str, Any] = {
        "ours": optim.create(ours, parameters(shapes), **rate, **options),
        "ours compiled": optim.create(ours, parameters(shapes), **rate, **options, compile=True),
        "torch for-loop": torch_class(parameters(shapes), **rate, **torch_options, foreach=False),
        "torch foreach": torch_class(parameters(shapes), **rate, **torch_options, foreach=True),
    }
    if theirs in {"SGD", "Adam", "AdamW", "Adagrad"}:
        fused = torch_class(parameters(shapes), **rate, **torch_options, fused=True)
        found["torch fused"] = fused
    if method in PEERS:
        module, name = PEERS[method]
        if importlib.util.find_spec(module):
            peer = getattr(importlib.import_module(module), name, None)
            if peer is not None:
                found[module] = peer(parameters(shapes), lr=1e-3)
    return found


def state_bytes(optimizer: Any, entries: int) -> float:
    """Bytes of state an entry, counters left out."""
    total = 0
    for slots in optimizer.state.values():
        total += sum(
            t.numel() * t.element_size()
            for t in slots.values()
            if isinstance(t, torch.Tensor) and t.numel() > 1
        )
    return total / entries


def measure(method: str, shapes: Shapes, steps: int) -> dict[str, Any]:
    """Medians of each candidate and of the floor, in milliseconds."""
    entries = sum(torch.Size(shape).numel() for shape in shapes)
    found = candidates(method, shapes)
    if not found:
        return {}
    compile_seconds = 0.0
    gradients = {
        name: [(p, p.grad) for group in o.param_groups for p in group["params"]]
        for name, o in found.items()
    }

    def restore(name: str) -> None:
        """Some peers throw gradients away at each step."""
        for p, gradient in gradients.get(name, ()):
            p.grad = gradient

    for name, optimizer in found.items():
        for _ in range(3):
            restore(name)
            began = time.perf_counter()
            optimizer.step()
            if name == "ours compiled":
                compile_seconds = max(compile_seconds, time.perf_counter() - began)
    slots = state_bytes(found["ours"], entries) / 4
    source = torch.randn(max(entries, 4_000_000))
    target = torch.empty_like(source)
    turns: dict[str, Callable[[], Any]] = {name: o.step for name, o in found.items()}
    turns["copy"] = lambda: target.copy_(source)
    times: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(steps):
        for name, turn in turns.items():
            restore(name)
            began = time.perf_counter()
            turn()
            times[name].append(time.perf_counter() - began)
    medians = {name: 1000 * statistics.median(taken) for name, taken in times.items()}
    per_entry = medians.pop("copy") / (2 * source.numel())
    # Read parameter, gradient and state; write parameter and state.
    medians["floor"] = per_entry * entries * (3 + 2 * slots)
    return {
        "milliseconds": medians,
        "compile_seconds": compile_seconds,
        "state_bytes": state_bytes(found["ours"], entries),
    }


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.compile(torch.sin)(torch.zeros(2))  # torch.compile's own start is no method's time
    results: dict[str, Any] = {"machine": machine(), "versions": versions(), "rows": []}
    print(f"{machine()}, {versions()}, one thread, medians of {arguments.steps} steps\n")
    print(
        "| tensors | method | ours / torch loop | compiled / torch fastest | compiled / floor "
        "| peer / compiled | compile, s | state, bytes an entry |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for set_name, shapes in SETS.items():
        for method in arguments.methods.split(","):
            row = measure(method, shapes, arguments.steps)
            if not row:
                continue
            results["rows"].append({"tensors": set_name, "method": method, **row})
            ms = row["milliseconds"]
            fastest = min(v for name, v in ms.items() if name.startswith("torch"))
            peers = [v for name, v in ms.items() if name in {m for m, _ in PEERS.values()}]
            peer = f"{peers[0] / ms['ours compiled']:.2f}" if peers else "-"
            print(
                f"| {set_name} | {method} | {ms['ours'] / ms['torch for-loop']:.2f} "
                f"| {ms['ours compiled'] / fastest:.2f} | {ms['ours compiled'] / ms['floor']:.2f} "
                f"| {peer} | {row['compile_seconds']:.1f} | {row['state_bytes']:.0f} |",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
