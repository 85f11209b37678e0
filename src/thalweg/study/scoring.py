"""Scoring: from the records of a study to one row per optimizer and a verdict in words.

Only final values count: the last evaluation of a run whose hyper-parameters were chosen on
validation data, never the best one along a curve. Nothing here trains or draws.

References:
    Dahl et al. (2023), Benchmarking neural network training algorithms, arXiv:2306.07179.
    Schneider, Balles, Hennig (2019), DeepOBS, arXiv:1903.05499.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from thalweg.study.records import finite
from thalweg.study.rows import Outcomes, Quantity, Reached, Row, headline, make_row
from thalweg.study.statistics import Interval
from thalweg.study.verdict import Comparison, Verdict, judge


__all__ = [
    "Comparison",
    "Interval",
    "Outcomes",
    "Quantity",
    "Reached",
    "Row",
    "Summary",
    "Verdict",
    "summarize",
]

# Two final losses are equal when they differ by less than this share of the loss at the start: both
# are then at the minimum to rounding.
ROUNDING = 1e-10


@final
@dataclass(frozen=True)
class Summary:
    """The results of one study.

    Args:
        problem: the problem's name.
        quantity: what optimizers are ranked by.
        rows: one row per optimizer of the study, best first.
        verdict: who is best, and who is tied with it, in words.
        schedule: the study's: the one of every run, or ``"tuned"`` where each row has its own.

    Example:
        >>> verdict = Verdict("sgd", None, ("sgd",), (), ("sgd is best.",))
        >>> summary = Summary("bowl", Quantity("train_loss", "final f"), (), verdict)
        >>> summary.to_dict()["verdict"]["best"]
        'sgd'
    """

    problem: str
    quantity: Quantity
    rows: tuple[Row, ...]
    verdict: Verdict
    schedule: str = "constant"

    def row(self, label: str) -> Row:
        """The row of one optimizer.

        Raises:
            KeyError: if the study has no optimizer of that label.
        """
        return {row.label: row for row in self.rows}[label]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers that are not finite become None."""
        return finite(dataclasses.asdict(self))

    def to_csv(self) -> str:
        """One line per optimizer; an empty cell for what was not measured, `inf` for a miss."""
        buffer = io.StringIO()
        lines = [_line(rank, row, self) for rank, row in enumerate(self.rows, start=1)]
        columns = list(lines[0]) if lines else ["rank", "optimizer"]
        writer = csv.DictWriter(buffer, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return buffer.getvalue()

    def write_csv(self, path: str | Path) -> Path:
        """Write `to_csv()` as UTF-8; returns the path."""
        path = Path(path)
        path.write_text(self.to_csv(), encoding="utf-8")
        return path


def summarize(study: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Summary:
    """Score a study from its records.

    Optimizers are ranked by the share of confirm runs that did not finish (fewest first), then by
    the mean of the headline quantity over the fresh seeds; one without a finished confirm run comes
    last. Runs of an optimizer that the study does not list are left out.

    Args:
        study: the content of `study.json`.
        runs: the contents of `runs/*/result.json`, in any order and however many exist so far.

    Example:
        >>> study = {
        ...     "problem": {"name": "bowl", "metric": None, "target": None, "data": None},
        ...     "optimizers": [{"label": "sgd"}],
        ...     "selection": "train_loss",
        ... }
        >>> summarize(study, []).verdict.text
        'No confirm run finished, so there is no best.'
    """
    quantity = headline(study, runs)
    rows = [
        make_row(
            entry["label"],
            [run for run in runs if run["optimizer"] == entry["label"]],
            quantity,
            has_target=study["problem"]["target"] is not None,
            selection=study["selection"],
        )
        for entry in study["optimizers"]
    ]
    sign = -1.0 if quantity.higher_is_better else 1.0

    def rank(row: Row) -> tuple[bool, float, float]:
        return row.score is None, row.confirm.lost, sign * row.score.mean if row.score else 0.0

    rows.sort(key=rank)
    drawn = study["problem"]["data"] is not None
    is_loss = not quantity.key.endswith("_metric")
    tolerance = ROUNDING * _start_scale(runs) if is_loss else 0.0
    verdict = judge(rows, quantity, drawn=drawn, tolerance=tolerance)
    schedule = study.get("schedule", "constant")
    return Summary(study["problem"]["name"], quantity, tuple(rows), verdict, schedule)


def _start_scale(runs: Sequence[Mapping[str, Any]]) -> float:
    """The size of the loss where runs start: the largest first value on record."""
    starts = [run["curve"]["train_loss"][0] for run in runs if run["curve"]["train_loss"]]
    return max((abs(value) for value in starts if value is not None), default=0.0)


def _line(rank: int, row: Row, summary: Summary) -> dict[str, Any]:
    score, reached, key = row.score, row.reached, summary.quantity.key
    comparison = next((c for c in summary.verdict.comparisons if c.label == row.label), None)
    pairs = {
        "rank": rank,
        "optimizer": row.label,
        "hyperparameters": "; ".join(f"{k}={v!r}" for k, v in row.hyperparameters.items()),
        "schedule": row.schedule,
        "on_edge": "; ".join(row.edge),
        "tied_with_best": row.label in summary.verdict.tied,
        f"{key}_mean": score and score.mean,
        f"{key}_interval95": score and score.half_width,
        f"{key}_deviation": score and score.deviation,
        "n": score.n if score else 0,
        "difference_to_best": comparison and comparison.difference and comparison.difference.mean,
        "p_holm": comparison and comparison.p,
        "final_test_loss_mean": row.test_loss and row.test_loss.mean,
        "final_test_loss_interval95": row.test_loss and row.test_loss.half_width,
        f"default_{key}_mean": row.default and row.default.mean,
        f"default_{key}_interval95": row.default and row.default.half_width,
        "steps_to_target": reached and reached.steps,
        "seconds_to_target": reached and reached.seconds,
        "gradients_to_target": reached and reached.gradients,
        "target_hits": reached and reached.hits,
        "steps": row.steps,
        "seconds": row.seconds,
        **{f"ledger_{name}": row.ledger.get(name) for name in ("forward", "backward", "product")},
    }
    for stage, outcomes in (("tuning", row.tuning), ("confirm", row.confirm)):
        pairs[f"{stage}_runs"] = outcomes.total
        pairs[f"{stage}_diverged"] = outcomes.diverged
        pairs[f"{stage}_failed"] = outcomes.failed
    return pairs
