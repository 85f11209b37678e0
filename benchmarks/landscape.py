"""Landscapes: what a plane costs, next to its bare forward passes and to two peers.

Everything takes turns in one process and one thread, the order reversed every other round, on the
clock of processor time (on a GPU, of the time that passes). The floor is as many forward passes
with their losses as the grid has points, at weights that do not move, under ``inference_mode``, no
value read; a ratio is the median over rounds of the ratio to the floor of the same round. All of a
call counts: directions, the choice of a way, and putting the model back.

    python benchmarks/landscape.py [--cases mlp,mlp784,conv,tiny] [--rounds N] [--device cuda]
                                   [--resolution N] [--only NAME] [--json FILE]

Peers: ``loss-landscapes`` where it is installed (pip install --no-deps loss-landscapes), called as
its own documentation calls it; and the loop of Li et al.'s scripts, written again: directions as
NumPy arrays, ``p.data = w + a d1 + b d2`` for each parameter, loss and accuracy over a DataLoader
with batches of 128, without their lines of text and their HDF5 file for each point. The loop's cost
does not depend on the point, so it runs on a part of the grid and is multiplied.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import importlib.util
import itertools
import json
import statistics
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clock import Clock
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from thalweg.landscape import plane, random_axes
from thalweg.objective import Objective
from thalweg.study.provenance import versions


PEER = "loss_landscapes"
FLOOR, OURS = "floor", "thalweg"
LOOPS = "Li et al.'s loop, one batch in memory", "Li et al.'s loop, DataLoader"
PART = 3  # the loops run on a grid that has so many times fewer points each way


@dataclass
class Setting:
    """A model and one batch.

    Args:
        name: For the tables.
        model: In evaluation mode.
        x: Inputs.
        y: Classes.
        resolution: Of the grid, each way.
    """

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor
    resolution: int

    @property
    def points(self) -> int:
        """Points of the grid."""
        return self.resolution**2

    def to(self, device: torch.device) -> Setting:
        """The same on a device."""
        self.model.to(device)
        self.x, self.y = self.x.to(device), self.y.to(device)
        return self


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(widths):
        layers += [nn.Linear(into, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def digits(count: int) -> tuple[Tensor, Tensor]:
    """Handwritten digits, 8 x 8."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[:count] / 16, dtype=torch.float32), torch.tensor(labels[:count])


def mlp() -> Setting:
    """64-64-64-10 on 1,024 digits."""
    torch.manual_seed(0)
    return Setting("MLP 64-64-64-10", perceptron(64, 64, 64, 10).eval(), *digits(1024), 51)


def mlp784() -> Setting:
    """784-128-64-10 on 1,024 images of 28 x 28, enlarged digits."""
    torch.manual_seed(0)
    x, y = digits(1024)
    large = F.interpolate(x.view(-1, 1, 8, 8), size=28, mode="bilinear").flatten(1)
    return Setting("MLP 784-128-64-10", perceptron(784, 128, 64, 10).eval(), large, y, 41)


def conv() -> Setting:
    """Two convolutions on 1,024 images of 16 x 16."""
    torch.manual_seed(0)
    x, y = digits(1024)
    large = F.interpolate(x.view(-1, 1, 8, 8), size=16, mode="bilinear")
    parts = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    parts += [nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*parts, nn.Flatten(), nn.Linear(256, 10))
    return Setting("conv net", model.eval(), large, y, 21)


def tiny() -> Setting:
    """2-32-32-3 on 64 points."""
    torch.manual_seed(0)
    x, y = torch.randn(64, 2), torch.randint(3, (64,))
    return Setting("MLP 2-32-32-3, 64 samples", perceptron(2, 32, 32, 3).eval(), x, y, 51)


CASES: dict[str, Callable[[], Setting]] = {
    "mlp": mlp,
    "mlp784": mlp784,
    "conv": conv,
    "tiny": tiny,
}


# ---- candidates -----------------------------------------------------------------------------
def floor(s: Setting) -> Callable[[], Any]:
    """The forward passes and nothing else."""

    def run() -> None:
        with torch.inference_mode():
            for _ in range(s.points):
                F.cross_entropy(s.model(s.x), s.y)

    return run


def ours(s: Setting, **options: Any) -> Callable[[], Any]:
    """A plane, as a user calls it."""
    closure = Objective(s.model, F.cross_entropy).closure(s.x, s.y)
    return lambda: plane(closure, resolution=s.resolution, progress=False, **options)


def stored(s: Setting) -> Callable[[], Any]:
    """A plane that is kept point by point."""
    folder = Path(tempfile.mkdtemp())

    def run() -> Any:
        path = folder / "plane"
        path.unlink(missing_ok=True)
        return ours(s, store=path)()

    return run


def peer(s: Setting) -> Callable[[], Any]:
    """``loss_landscapes.random_plane`` with its own filter normalisation."""
    import loss_landscapes
    from loss_landscapes.metrics import Loss

    model = copy.deepcopy(s.model)  # it is left elsewhere
    with torch.no_grad():
        for p in model.parameters():  # fresh biases of zero would divide by zero
            p.add_(1e-3 * torch.randn_like(p))
    start = copy.deepcopy(model.state_dict())
    metric = Loss(F.cross_entropy, s.x, s.y)

    def run() -> Any:
        model.load_state_dict(start)
        return loss_landscapes.random_plane(
            model, metric, distance=1, steps=s.resolution, normalization="filter"
        )

    return run


def goldstein(s: Setting, loader: bool) -> Callable[[], Any]:
    """Li et al.'s loop over the points of a grid."""
    model, criterion = copy.deepcopy(s.model), nn.CrossEntropyLoss()
    closure = Objective(model, F.cross_entropy).closure(s.x, s.y)
    directions = [[part.cpu().numpy() for part in d] for d in random_axes(closure).directions]
    weights = [p.data for p in model.parameters()]
    data = TensorDataset(s.x, s.y)
    batches: Any = DataLoader(data, batch_size=128) if loader else [(s.x, s.y)]
    ticks = np.linspace(-1, 1, s.resolution // PART)

    def evaluate() -> tuple[float, float]:
        correct, total, count = 0, 0.0, 0
        model.eval()
        with torch.no_grad():
            for x, y in batches:
                outputs = model(x)
                total += criterion(outputs, y).item() * len(x)
                correct += outputs.max(1)[1].eq(y).sum()
                count += len(x)
        return total / count, 100.0 * float(correct) / count

    def run() -> None:
        for a in ticks:
            for b in ticks:
                changes = [u * a + v * b for u, v in zip(*directions, strict=True)]
                for p, w, d in zip(model.parameters(), weights, changes, strict=True):
                    p.data = w + torch.Tensor(d).to(w)
                evaluate()

    return run


def candidates(s: Setting) -> dict[str, Callable[[], Any]]:
    """All that take part, the floor first."""
    found: dict[str, Callable[[], Any]] = {
        FLOOR: floor(s),
        OURS: ours(s),
        "thalweg, in-place": ours(s, evaluation="in-place"),
        "thalweg, first-layer": ours(s, evaluation="first-layer"),
        "thalweg, vmap": ours(s, evaluation="vmap"),
        "thalweg, loss and accuracy": ours(s, metrics=["accuracy"]),
        "thalweg, with a store": stored(s),
        LOOPS[0]: goldstein(s, loader=False),
        LOOPS[1]: goldstein(s, loader=True),
    }
    if importlib.util.find_spec(PEER):
        found["loss-landscapes"] = peer(s)
    return found


# ---- measuring ------------------------------------------------------------------------------
def measure(s: Setting, rounds: int, clock: Clock, only: str = "") -> dict[str, Any]:
    """The ratio of each to the floor; ``only`` those with a word in their names."""
    calls, failed = candidates(s), {}
    calls = {name: call for name, call in calls.items() if name == FLOOR or only in name}
    for name in list(calls):
        try:
            calls[name]()
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
            del calls[name]
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in list(calls) if turn % 2 == 0 else list(calls)[::-1]:
            began = clock.now()
            calls[name]()
            whole = s.points / (s.resolution // PART) ** 2 if name in LOOPS else 1.0
            times[name].append(whole * (clock.now() - began))
    base = times[FLOOR]
    ratios = {
        name: [t / b for t, b in zip(taken, base, strict=True)] for name, taken in times.items()
    }
    return {
        "case": s.name,
        "points": s.points,
        "milliseconds": 1e3 * statistics.median(base) / s.points,
        "ratios": {name: statistics.median(r) for name, r in ratios.items()},
        "spread": {name: [min(r), max(r)] for name, r in ratios.items()},
        "chosen": calls[OURS]().meta["evaluation"]["method"] if OURS in calls else "-",
        "failed": failed,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table, a column for each case."""
    names = list(dict.fromkeys(name for row in rows for name in [*row["ratios"], *row["failed"]]))
    lines = ["| times the floor | " + " | ".join(row["case"] for row in rows) + " |"]
    lines.append("|---" * (len(rows) + 1) + "|")
    shown = [f"{row['milliseconds']:.3f} ms, {row['points']} points" for row in rows]
    lines.append("| the floor, a point | " + " | ".join(shown) + " |")
    for name in names:
        if name == FLOOR:
            continue
        cells = [f"{row['ratios'][name]:.2f}" if name in row["ratios"] else "fails" for row in rows]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("| chosen by thalweg | " + " | ".join(row["chosen"] for row in rows) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--resolution", type=int, help="of every grid, each way")
    parser.add_argument("--only", default="", help="those with this in their names")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    clock = Clock(arguments.device)
    known = versions()
    if importlib.util.find_spec(PEER):
        known["loss-landscapes"] = importlib.metadata.version("loss-landscapes")
    rows = []
    for name in arguments.cases.split(","):
        setting = CASES[name]().to(arguments.device)
        setting.resolution = arguments.resolution or setting.resolution
        rows.append(measure(setting, arguments.rounds, clock, arguments.only))
        if arguments.json:
            results = {"machine": clock.machine(), "versions": known, "rows": rows}
            arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")
    print(f"{clock.machine()}, {known}, medians of {arguments.rounds} rounds\n")
    print(table(rows))
    for row in rows:
        for name, why in row["failed"].items():
            print(f"\n{row['case']}, {name}: {why}")


if __name__ == "__main__":
    main()
