"""One row of results for one optimizer, read off its run records.

A row keeps the numbers that a reader compares: the final quantity over the fresh seeds, the same at
the library's defaults, the way to the target, what it cost, and how many runs did not finish.
Divergence is an outcome that is counted, never a row that is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from thalweg.study.statistics import Interval


__all__ = ["Outcomes", "Quantity", "Reached", "Row", "headline", "make_row"]

Record = Mapping[str, Any]


@final
@dataclass(frozen=True)
class Quantity:
    """What optimizers are ranked by: a key of `final`, its name in words, its direction."""

    key: str
    name: str
    higher_is_better: bool = False


@final
@dataclass(frozen=True)
class Outcomes:
    """How many runs of one stage finished, diverged and failed (an error, not the numbers).

    Example:
        >>> outcomes = Outcomes(finished=3, diverged=1, failed=0)
        >>> outcomes.total, outcomes.lost
        (4, 0.25)
    """

    finished: int = 0
    diverged: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All runs of the stage."""
        return self.finished + self.diverged + self.failed

    @property
    def lost(self) -> float:
        """The share of runs that did not finish; 0 for no runs."""
        return 0.0 if self.total == 0 else 1 - self.finished / self.total


@final
@dataclass(frozen=True)
class Reached:
    """The way to the target: medians over the fresh seeds, a miss counted as infinity.

    Args:
        steps, seconds, gradients: medians; `gradients` counts gradient-equivalents.
        hits: how many of the `n` confirm runs reached the target.
    """

    steps: float
    seconds: float
    gradients: float
    hits: int
    n: int


@final
@dataclass(frozen=True)
class Row:
    """One optimizer's results.

    Args:
        label: the optimizer's name in the study.
        hyperparameters: the tuned values, those of the confirm runs.
        schedule: the learning rate over those runs.
        edge: names of the tuned values that are the smallest or largest value tried.
        scores: the headline quantity by seed, finished confirm runs only.
        score: its mean and interval; None if no confirm run finished.
        test_loss: mean and interval of the final test loss; None where there is none.
        default: the headline quantity at the library's defaults; None where it was not run.
        reached: the way to the target; None where the problem has no target.
        tuning, confirm, defaults: outcomes by stage.
        ledger: mean counts of a confirm run (forward, backward, product, seconds).
        seconds, steps: mean training seconds and steps of a finished confirm run.
    """

    label: str
    hyperparameters: dict[str, Any]
    schedule: str = "constant"
    edge: tuple[str, ...] = ()
    scores: dict[int, float] = field(default_factory=dict)
    score: Interval | None = None
    test_loss: Interval | None = None
    default: Interval | None = None
    reached: Reached | None = None
    tuning: Outcomes = Outcomes()
    confirm: Outcomes = Outcomes()
    defaults: Outcomes = Outcomes()
    ledger: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    steps: float | None = None


def headline(study: Record, runs: Sequence[Record]) -> Quantity:
    """The quantity to rank by: test metric, else test loss, else validation, else the final f.

    A quantity counts as present when a finished confirm run has a number for it.
    """
    metric = study["problem"]["metric"] or {"name": "metric", "higher_is_better": False}
    higher = bool(metric["higher_is_better"])
    is_function = study["problem"].get("surface") is not None
    candidates = (
        Quantity("test_metric", f"test {metric['name']}", higher),
        Quantity("test_loss", "test loss"),
        Quantity("validation_metric", f"validation {metric['name']}", higher),
        Quantity("validation_loss", "validation loss"),
    )
    finals = [run["final"] for run in runs if _finished(run, "confirm")]
    for candidate in candidates:
        if any(_number(final.get(candidate.key)) is not None for final in finals):
            return candidate
    return Quantity("train_loss", "final f" if is_function else "training loss")


def make_row(
    label: str, runs: Sequence[Record], quantity: Quantity, *, has_target: bool, selection: str
) -> Row:
    """The row of one optimizer from all of its runs (of every stage)."""
    tune, confirm, default = (
        [run for run in runs if run["stage"] == stage] for stage in ("tune", "confirm", "default")
    )
    chosen = _chosen(tune, confirm, selection)
    hyperparameters = dict(chosen.get("hyperparameters", {}))
    finished = [run for run in confirm if run["status"] == "finished"]
    scores = _by_seed(confirm, quantity.key)
    return Row(
        label=label,
        hyperparameters=hyperparameters,
        schedule=chosen.get("schedule", "constant"),
        edge=_edges(hyperparameters, tune),
        scores=scores,
        score=_interval(scores),
        test_loss=_interval(_by_seed(confirm, "test_loss")),
        default=_interval(_by_seed(default, quantity.key)),
        reached=_reached(confirm) if has_target and confirm else None,
        tuning=_outcomes(tune),
        confirm=_outcomes(confirm),
        defaults=_outcomes(default),
        ledger={
            key: float(np.mean([run["ledger"][key] for run in finished]))
            for key in (finished[0]["ledger"] if finished else ())
        },
        seconds=_mean([run["seconds"] for run in finished]),
        steps=_mean([run["curve"]["step"][-1] for run in finished if run["curve"]["step"]]),
    )


def _finished(run: Record, stage: str) -> bool:
    return run["stage"] == stage and run["status"] == "finished"


def _number(value: object) -> float | None:
    """The value as a finite float, else None (records store non-finite numbers as null)."""
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _interval(scores: Mapping[int, float]) -> Interval | None:
    return Interval.of(scores.values()) if scores else None


def _by_seed(runs: Sequence[Record], key: str) -> dict[int, float]:
    scores = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        value = _number(run["final"].get(key))
        if run["status"] == "finished" and value is not None:
            scores[run["seed"]] = value
    return scores


def _outcomes(runs: Sequence[Record]) -> Outcomes:
    counts = dict.fromkeys(("finished", "diverged", "failed"), 0)
    for run in runs:
        counts[run["status"]] += 1
    return Outcomes(**counts)


def _chosen(tune: Sequence[Record], confirm: Sequence[Record], selection: str) -> Record:
    """A run at what was confirmed; before any confirm run, the best trial so far, if any."""
    if confirm:
        return confirm[0]

    def loss(run: Record) -> float:
        value = _number(run["final"].get(selection))
        return math.inf if value is None or run["status"] != "finished" else value

    best = min(tune, key=loss, default=None)
    return {} if best is None or loss(best) == math.inf else best


def _edges(chosen: Mapping[str, Any], tune: Sequence[Record]) -> tuple[str, ...]:
    edges = []
    for name, value in chosen.items():
        tried = {run["hyperparameters"].get(name) for run in tune} - {None}
        numeric = all(isinstance(v, int | float) for v in (*tried, value))
        if numeric and len(tried) > 1 and not min(tried) < value < max(tried):
            edges.append(name)
    return tuple(edges)


def _reached(confirm: Sequence[Record]) -> Reached:
    hits = [run["hit"] for run in confirm if run["hit"] is not None]

    def median(key: str) -> float:
        return float(np.median([run["hit"][key] if run["hit"] else math.inf for run in confirm]))

    return Reached(median("step"), median("seconds"), median("gradients"), len(hits), len(confirm))
