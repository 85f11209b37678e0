"""How a study's parts are said in figures, tables and pages: seeds, budgets, spaces, axes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thalweg.study.rows import Row
from thalweg.study.schedule import SCHEDULES, TUNED
from thalweg.study.statistics import number


__all__ = [
    "axis_name",
    "budget",
    "describe",
    "formula",
    "hyperparameters",
    "recipe",
    "schedule",
    "seeds",
    "settings",
    "space",
    "target",
]

Record = Mapping[str, Any]

_AXES = {
    "step": "steps",
    "seconds": "training seconds",
    "gradients": "gradient-equivalents",
    "train_loss": "training loss",
    "validation_loss": "validation loss",
    "test_loss": "test loss",
    "lr": "learning rate",
}
_POWERS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_BUDGETS = {"steps": "steps", "evaluations": "gradient-equivalents", "seconds": "seconds"}


def seeds(numbers: Iterable[int]) -> str:
    """Seeds in short: `seed 3`, `seeds 1–5`, `seeds 1, 4, 9`.

    Example:
        >>> seeds([1, 2, 3]), seeds([7]), seeds([4, 1])
        ('seeds 1–3', 'seed 7', 'seeds 1, 4')
    """
    ordered = sorted(set(numbers))
    if not ordered:
        return "no seeds"
    if len(ordered) == 1:
        return f"seed {ordered[0]}"
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"seeds {ordered[0]}–{ordered[-1]}"
    return f"seeds {', '.join(map(str, ordered))}"


def budget(study: Record) -> str:
    """The budget of one run.

    Example:
        >>> budget({"budget": {"kind": "steps", "amount": 400}})
        '400 steps'
    """
    kind, amount = study["budget"]["kind"], study["budget"]["amount"]
    return f"{number(amount)} {_BUDGETS.get(kind, kind)}"


def describe(study: Record, runs: Sequence[Record]) -> str:
    """The line that every figure carries: budget, schedule and the seeds of these runs.

    Example:
        >>> describe({"budget": {"kind": "steps", "amount": 400}}, [{"seed": 1}, {"seed": 2}])
        'seeds 1, 2; budget 400 steps'
    """
    name = study.get("schedule", "constant")
    kind = {"constant": "", TUNED: ", schedules tuned"}.get(name, f", {name} schedule")
    return f"{seeds(run['seed'] for run in runs)}; budget {budget(study)}{kind}"


def schedule(study: Record) -> str:
    """The learning rate over a run, in words.

    Example:
        >>> schedule({"schedule": "cosine"})
        'cosine learning rate, for every optimizer'
    """
    name = study.get("schedule", "constant")
    if name != TUNED:
        return f"{name} learning rate, for every optimizer"
    choices = f"{', '.join(SCHEDULES[:-1])} or {SCHEDULES[-1]}"
    return (
        f"tuned: each trial has a {choices} learning rate, drawn with its hyper-parameters, the "
        "same for every optimizer; fresh runs keep the winner's; library defaults run at a "
        "constant rate"
    )


def axis_name(key: str, study: Record) -> str:
    """A key of a record as an axis label; the metric by its own name, f for a test function."""
    problem = study["problem"]
    if key in ("validation_metric", "test_metric") and problem["metric"]:
        return f"{key.split('_')[0]} {problem['metric']['name']}"
    if key == "train_loss" and problem.get("surface"):
        return "f"
    return _AXES.get(key, key.replace("_", " "))


def formula(text: str) -> str:
    """A formula with its powers raised and its signs of full width.

    Example:
        >>> formula("(1 - x)^2 + 100 (y - x^2)^2")
        '(1 − x)² + 100 (y − x²)²'
    """
    raised = re.sub(r"\^(\d+)", lambda match: match[1].translate(_POWERS), text)
    return raised.replace(" - ", " − ")


def hyperparameters(values: Mapping[str, Any], edge: Sequence[str] = ()) -> str:
    """Tuned values in one line, those on the edge of what was tried marked with a dagger.

    Example:
        >>> hyperparameters({"lr": 0.123456, "decay": 0.0}, edge=["lr"])
        'lr 0.1235†, decay 0'
    """
    return ", ".join(
        f"{name} {_value(value)}{'†' if name in edge else ''}" for name, value in values.items()
    )


def recipe(row: Row, schedule: str) -> str:
    """What was tuned in one line: the values and, where the study tuned schedules, the schedule.

    Example:
        >>> recipe(Row("sgd", {"lr": 0.1}, "cosine"), "tuned"), recipe(Row("sgd", {}), "cosine")
        ('lr 0.1, cosine', '–')
    """
    values = hyperparameters(row.hyperparameters, row.edge)
    return (
        ", ".join(part for part in (values, row.schedule if schedule == TUNED else "") if part)
        or "–"
    )


def settings(run: Record) -> str:
    """The hyper-parameters of a run and, where it is not constant, its schedule.

    Example:
        >>> settings({"hyperparameters": {"lr": 0.1}, "schedule": "step"})
        'lr 0.1, step'
    """
    name = run.get("schedule", "constant")
    parts = (hyperparameters(run["hyperparameters"]), "" if name == "constant" else name)
    return ", ".join(part for part in parts if part) or "–"


def space(bounds: Mapping[str, Any]) -> str:
    """A search space in one line.

    Example:
        >>> space({"lr": {"low": 0.001, "high": 1.0, "log": True}})
        'lr 0.001 to 1 (log)'
    """
    return "; ".join(
        f"{name} {_value(b['low'])} to {_value(b['high'])}{' (log)' if b['log'] else ''}"
        for name, b in bounds.items()
    )


def target(study: Record) -> str | None:
    """The target in words, None where the problem has none."""
    goal, metric = study["problem"]["target"], study["problem"]["metric"]
    if goal is None:
        return None
    higher = goal["quantity"].endswith("_metric") and metric and metric["higher_is_better"]
    sign = "≥" if higher else "≤"
    return f"{axis_name(goal['quantity'], study)} {sign} {number(goal['value'])}"


def _value(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return number(float(value))
