"""The result table for a terminal."""

from __future__ import annotations

import math

from rich.table import Table
from rich.text import Text

from thalweg.report import words
from thalweg.study.schedule import TUNED
from thalweg.study.scoring import Outcomes, Row, Summary
from thalweg.study.statistics import column, number


__all__ = ["aligned", "lost", "results"]

_NARROW = ("steps to target", "s / run", "lost trials")


def results(summary: Summary, *, wide: bool = True) -> Table:
    """The final results as a `rich` table, best first, the tied group bold.

    Columns that no optimizer has a number for are left out; without `wide`, so are those that a
    terminal of 80 columns has no room for.

    Example:
        >>> from rich.console import Console
        >>> from thalweg.study.scoring import Interval, Quantity, Row, Summary, Verdict
        >>> row = Row("sgd", {"lr": 0.1}, score=Interval.of([0.25, 0.25]))
        >>> verdict = Verdict("sgd", None, ("sgd",), (), ())
        >>> summary = Summary("bowl", Quantity("train_loss", "final f"), (row,), verdict)
        >>> results(summary).row_count
        1
    """
    rows, name = summary.rows, summary.quantity.name
    columns: list[tuple[str, list[str]]] = [
        (name, aligned(column([row.score for row in rows]))),
        ("n", [str(row.score.n if row.score else 0) for row in rows]),
    ]
    if summary.quantity.key != "test_loss":
        columns.append(("test loss", aligned(column([row.test_loss for row in rows]))))
    columns += [
        ("default", aligned(column([row.default for row in rows]))),
        ("steps to target", [_steps(row) for row in rows]),
        ("s to target", [_cost(row, "seconds") for row in rows]),
        ("s / run", [number(row.seconds, 3) for row in rows]),
        ("lost trials", [lost(row.tuning) for row in rows]),
        ("lost runs", [lost(row.confirm) for row in rows]),
    ]
    if not wide:
        columns = [pair for pair in columns if pair[0] in {name, *_NARROW}]
    table = Table(box=None, pad_edge=False, header_style="dim", row_styles=())
    table.add_column("optimizer", no_wrap=True)
    shown = [(title, cells) for title, cells in columns if set(cells) - {"–"}]
    for title, _ in shown:
        table.add_column(
            title, justify="right", no_wrap=title in {name, "steps to target", "s / run"}
        )
    table.add_column("tuned", no_wrap=summary.schedule != TUNED)
    for k, row in enumerate(rows):
        weight = "bold" if row.label in summary.verdict.tied else ""
        cells = [Text(cells[k]) for _, cells in shown]
        settings = words.recipe(row, summary.schedule)
        table.add_row(Text(row.label), *cells, Text(settings, style="dim"), style=weight)
    if any(row.edge for row in rows):
        table.caption = "† the smallest or largest value tried"
    return table


def aligned(cells: list[str]) -> list[str]:
    """Pad the part after ± so that, right-aligned, the signs of a column stand below each other.

    Example:
        >>> aligned(["0.97 ± 0.01", "0.9 ± 0.1"])
        ['0.97 ± 0.01', '0.9 ± 0.1 ']
    """
    tails = [len(cell) - cell.index("±") if "±" in cell else 0 for cell in cells]
    longest = max(tails, default=0)
    return [
        cell + " " * (longest - tail) if tail else cell
        for cell, tail in zip(cells, tails, strict=True)
    ]


def lost(outcomes: Outcomes) -> str:
    """Runs that did not finish out of all, an en dash for no runs.

    Example:
        >>> lost(Outcomes(finished=7, diverged=1)), lost(Outcomes())
        ('1/8', '–')
    """
    if outcomes.total == 0:
        return "–"
    return f"{outcomes.total - outcomes.finished}/{outcomes.total}"


def _cost(row: Row, key: str) -> str:
    value = getattr(row.reached, key) if row.reached else None
    return "miss" if value == math.inf else number(value, 3)


def _steps(row: Row) -> str:
    if row.reached is None:
        return "–"
    return f"{_cost(row, 'steps')} ({row.reached.hits}/{row.reached.n})"
