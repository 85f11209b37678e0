"""Targets of the built-in problems, by one rule: what the best of four tuned baselines reaches.

SGD with momentum, Nesterov's method, Adam and AdamW get the same number of trials each, on a Sobol
sequence in their own search spaces; the best setting of each is run again on fresh seeds, at the
problem's own number of steps. The target is the median over those seeds of the final validation
loss of the baseline with the lowest median, rounded up to three digits. It is the rule of
AlgoPerf (Dahl et al. 2023), which uses 200 trials and 20 seeds.

    python benchmarks/targets.py                        # what `make bench` runs: seconds
    python benchmarks/targets.py diamonds moby-gru --trials 8 --seeds 5
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path

import thalweg as tw
from thalweg.problems import load
from thalweg.study import LocalProcesses


BASELINES = ["momentum", "nesterov", "adam", "adamw"]
CHEAP = ["sigmoid-neuron", "breast-cancer"]


def rounded_up(value: float) -> float:
    """Three digits, never below the value."""
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.3g}")


def measure(name: str, trials: int, seeds: int, folder: Path, workers: int | None) -> dict:
    """Tune and repeat the baselines on one problem; medians, and the target."""
    study = tw.Study(
        load(name),
        BASELINES,
        trials=trials,
        # More than one even where nothing is drawn: as many seeds on every line of the table.
        seeds=tuple(range(1, seeds + 1)),
        defaults=False,
        out=folder / name,
    )
    study.run(progress=False, executor=LocalProcesses(workers), landscape=False)
    runs = study.records().runs
    finals: dict[str, list[float]] = {label: [] for label in BASELINES}
    chosen, seconds = {}, []
    for run in runs:
        seconds.append(run["seconds"])
        if run["stage"] == "confirm":
            value = run["final"]["validation_loss"]
            diverged = value is None or run["status"] != "finished"
            finals[run["optimizer"]].append(math.inf if diverged else value)
            chosen[run["optimizer"]] = run["hyperparameters"]
    medians = {
        label: statistics.median(values) if values else math.inf for label, values in finals.items()
    }
    best = min(medians, key=lambda label: medians[label])
    target = rounded_up(medians[best])
    reached = {label: sum(v <= target for v in values) for label, values in finals.items()}
    return {
        "problem": name,
        "best": best,
        "median": medians[best],
        "target": target,
        "medians": medians,
        "reached": reached,
        "chosen": chosen,
        "trials": sum(run["stage"] == "tune" for run in runs),
        "seconds": statistics.median(seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems", nargs="*", default=CHEAP)
    parser.add_argument("--trials", type=int, default=6, help="trials of each baseline")
    parser.add_argument("--seeds", type=int, default=5, help="fresh seeds of each winner")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--out", type=Path, default=None, help="keep the studies here")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        print(f"{options.trials} trials, {options.seeds} seeds; median final validation loss")
        print(f"{'problem':18} {'target':>9}  {'best':9} " + "".join(f"{b:>20}" for b in BASELINES))
        for name in options.problems:
            row = measure(name, options.trials, options.seeds, folder, options.workers)
            if options.json:
                print(json.dumps(row), flush=True)
                continue
            cells = "".join(
                f"{row['medians'][b]:>13.4g} ({row['reached'][b]}/{options.seeds})"
                for b in BASELINES
            )
            print(f"{name:18} {row['target']:>9.3g}  {row['best']:9} {cells}", flush=True)


if __name__ == "__main__":
    main()
