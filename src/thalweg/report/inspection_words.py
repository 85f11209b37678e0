"""An inspection in words: its numbers as rows, each with its error and its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from thalweg.study.statistics import number


__all__ = ["QUESTIONS", "Fact", "answers", "facts", "quantity", "share"]

Record = Mapping[str, Any]

QUESTIONS = {
    "rate": "Is the learning rate too high?",
    "point": "Is this a minimum?",
    "help": "What would help?",
}


@final
@dataclass(frozen=True)
class Fact:
    """A number of an inspection: its name, its value with its error, what it cost, what it is.

    Example:
        >>> Fact("loss", "0.12").cost
        ''
    """

    name: str
    value: str
    cost: str = ""
    note: str = ""


def quantity(measured: Record | None) -> str:
    """A measured number with its error.

    Example:
        >>> quantity({"value": 12.3456, "error": 0.02}), quantity(None)
        ('12.35 ± 0.02', '–')
    """
    if measured is None or measured["value"] is None:
        return "–"
    value, error = measured["value"], measured.get("error")
    if not error:
        return _plain(value, 4)
    digits = -math.floor(math.log10(error))
    if error < 5e-4 * abs(value) or not -5 < digits < 6:
        return f"{_plain(value, 4)} ± {number(error, 1)}"
    pair = round(value, digits), round(error, digits)
    return " ± ".join(f"{part:,.{max(0, digits)}f}" for part in pair)


def share(value: float) -> str:
    """A share as a percentage.

    Example:
        >>> share(0.843), share(0.00012)
        ('84%', '0.012%')
    """
    percent = 100 * value
    return f"{percent:.0f}%" if percent >= 10 or percent == 0 else f"{percent:.2g}%"


def answers(inspection: Record) -> list[tuple[str, list[Record]]]:
    """The three questions, each with the advice that answers it."""
    return [
        (title, [advice for advice in inspection["advice"] if advice["question"] == question])
        for question, title in QUESTIONS.items()
    ]


def facts(inspection: Record) -> list[Fact]:
    """Every number, in reading order."""
    i, point = inspection, inspection["point"]
    missing = i["missing"]
    tolerance = f"±{_plain(point['tolerance'], 2)}"
    rows = [
        Fact("loss", _plain(i["loss"], 5)),
        Fact("gradient norm", _plain(i["gradient_norm"], 4)),
        _fact("λ_max", i["largest"], "the steepest curvature"),
        _fact("λ_min", i["smallest"], "the most negative"),
        Fact("kind of point", point["kind"], "", _reach(point)),
        Fact("a Newton step gains", _plain(point["taken"], 3), _steps(point), _promise(point)),
        _fact(
            "negative eigenvalues",
            point["index"],
            f"of {i['parameters']:,}, below −{tolerance[1:]}{_bounds(point['index'])}",
        ),
        Fact("share inside the tolerance", *_inside(point["inside"], tolerance)),
        _fact("trace", i["trace"], "the sum of all curvatures"),
        _condition(i["condition"], tolerance),
        _fact(
            "stable rate, plain descent",
            i["descent_limit"],
            missing.get("descent_limit", "2 / λ_max"),
        ),
        _fact(
            "best rate, plain descent",
            i["optimal_rate"],
            missing.get("optimal_rate", "2 / (λ_min + λ_max)"),
        ),
        *_used(i["stability"]),
        _noise(i["noise"], missing.get("noise", "")),
    ]
    return [row for row in rows if row is not None]


def _fact(name: str, measured: Record | None, note: str = "") -> Fact:
    return Fact(name, quantity(measured), _cost(measured), note)


def _cost(measured: Record | None) -> str:
    if measured is None or not measured["products"]:
        return ""
    return f"{measured['products']} products, {measured['method']}"


def _reach(point: Record) -> str:
    if point["reach"] is None:
        return ""
    where = share(point["reach"])
    return f"the saddle-free Newton step is {where} of the parameters' length"


def _steps(point: Record) -> str:
    return f"{point['products']} products, lanczos" if point["products"] else ""


def _promise(point: Record) -> str:
    return f"of the loss, measured; {_plain(point['gain'], 3)} in its quadratic model"


def _bounds(measured: Record) -> str:
    low, high = measured["low"], measured["high"]
    if low is None or high is None or not 1 <= high - low <= 4 * max(measured["value"], 1):
        return ""
    return f"; between {_plain(low, 2)} and {_plain(high, 2)}"


def _inside(measured: Record, tolerance: str) -> tuple[str, str, str]:
    low, high = measured["low"], measured["high"]
    ends = "" if not 0.02 < high - low < 0.5 else f"; between {share(low)} and {share(high)}"
    return share(measured["value"]), "", f"{tolerance}{ends}"


def _condition(measured: Record | None, tolerance: str) -> Fact:
    name = "condition number"
    if measured is None:
        return Fact(name, "–", "", "nothing curves up beyond the tolerance")
    if measured["low"] is None:
        return Fact(name, quantity(measured), _cost(measured), f"above {tolerance[1:]}")
    low, high = _plain(measured["low"], 2), _plain(measured["high"], 3)
    return Fact(name, f"{low} to {high}", "", f"of the part above {tolerance[1:]}; bounds")


def _used(used: Record | None) -> list[Fact]:
    if used is None:
        return []
    name = used["optimizer"]
    if used["limit"] is None:
        return [Fact(f"stable rate, {name}", "–", "", used["note"])]
    kind = "preconditioned sharpness" if used["preconditioned"] else "sharpness"
    return [
        Fact(f"learning rate, {name}", _plain(used["lr"], 4)),
        _fact(f"{kind}, {name}", used["sharpness"], "its own λ_max"),
        _fact(f"stable rate, {name}", used["limit"], used["formula"]),
        _fact("rate over limit", used["ratio"], "above 1 is unstable"),
    ]


def _noise(measured: Record | None, why: str) -> Fact:
    if measured is None:
        return Fact("gradient noise scale", "–", "", why)
    ends = ""
    if measured["low"] is not None:
        high = "∞" if measured["high"] is None else _plain(measured["high"], 3)
        ends = f"samples; 95% interval {_plain(measured['low'], 3)} to {high}"
        if measured["low"] == measured["high"]:
            ends = "samples; exact over those that were given"
    return Fact("gradient noise scale", _plain(measured["value"], 3), _cost(measured), ends)


def _plain(value: float | None, digits: int) -> str:
    if value is not None and 10**digits <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return number(value, digits)
