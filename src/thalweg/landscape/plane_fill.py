"""Fill a grid: what is missing is measured, kept at once, and shown as progress."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from thalweg.landscape.evaluation import Evaluation
from thalweg.landscape.evaluation_schemes import Point, Scheme
from thalweg.landscape.store import Store


__all__ = ["fill"]

_KEEP_EVERY = 0.25  # seconds of work that a kill may lose
_MOST = 256  # points between two writes


def fill(
    scheme: Scheme,
    evaluation: Evaluation,
    points: Sequence[Point],
    store: Store,
    *,
    label: str,
    progress: bool | None,
) -> None:
    """Measure every point that the store does not hold.

    Args:
        scheme: How points are evaluated.
        evaluation: What is evaluated; its closure's ledger is charged.
        points: The grid, row by row.
        store: Where values go.
        label: What the progress bar says.
        progress: Whether there is one; None shows it on a terminal or in a notebook.
    """
    chunk, ledger = scheme.chunk, evaluation.closure.ledger
    starts = range(0, len(points), chunk)
    units = [range(i, min(i + chunk, len(points))) for i in starts]
    units = [unit for unit in units if not store.computed[unit.start : unit.stop].all()]
    if not units:
        return
    with _bar(progress) as bar, scheme.ready():
        done = int(store.computed.sum())
        task = bar.add_task(label, total=len(points), completed=done)
        many = 1
        while units:
            parcel, units = units[:many], units[many:]
            indices = [i for unit in parcel for i in unit]
            with ledger.charge(forward=evaluation.passes * len(indices)):
                began = time.perf_counter()
                rows = scheme.evaluate([points[i] for i in indices])
                taken = time.perf_counter() - began
            store.add(indices, rows)
            bar.update(task, completed=int(store.computed.sum()))
            many = max(1, min(_MOST // chunk, 2 * many, int(many * _KEEP_EVERY / (taken + 1e-9))))


def _bar(progress: bool | None) -> Progress:
    console = Console(stderr=True)
    shown = (console.is_terminal or console.is_jupyter) if progress is None else progress
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    left = TimeRemainingColumn()
    return Progress(*columns, left, console=console, transient=True, disable=not shown)
