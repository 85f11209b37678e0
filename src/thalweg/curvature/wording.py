"""How advice words its numbers: places, shares, counts, and what is ahead."""

from __future__ import annotations

import math

from thalweg.curvature.findings import Share, Stability
from thalweg.curvature.inspection import Inspection
from thalweg.curvature.measured import Quantity, figures


__all__ = [
    "HIGH",
    "ahead",
    "costed",
    "count",
    "directions",
    "percent",
    "place",
    "rate_evidence",
    "steps_to_a_tenth",
    "too_high",
]

HIGH = 1.1  # times the stable limit: past it


def place(shares: tuple[Share, ...]) -> str:
    """Where a direction lies: its largest part, or the two that hold most of it."""
    if not shares:
        return "nowhere in particular"
    text = f"{percent(shares[0].share)} in `{shares[0].name}`"
    if shares[0].share < 0.5 and len(shares) > 1:
        text += f" and {percent(shares[1].share)} in `{shares[1].name}`"
    return text


def too_high(found: Inspection) -> bool:
    """Whether the learning rate in use is past its limit for certain."""
    used = found.stability
    if used is None or used.ratio is None:
        return False
    return used.ratio.value - (used.ratio.error or 0.0) > HIGH


def directions(used: Stability) -> str:
    """How many directions are past the limit, as far as it was counted."""
    if used.beyond is None:
        return "along at least one direction; the steepest"
    if used.beyond < 1.5:
        return "along one direction, which"
    return f"along about {used.beyond:.0f} directions, the steepest of which"


def rate_evidence(used: Stability) -> str:
    """What a limit rests on."""
    kind = "preconditioned λ_max" if used.preconditioned else "λ_max"
    text = f"limit {used.formula}"
    if used.factor is not None and used.formula != "2 / λ":
        text += f" = {figures(used.factor)} / λ"
    return f"{text}; {kind} = {costed(used.sharpness)}" if used.sharpness else text


def costed(quantity: Quantity) -> str:
    """A number with its error and its cost."""
    return f"{quantity} ({quantity.products} products)" if quantity.products else f"{quantity}"


def steps_to_a_tenth(kappa: float) -> float:
    """Steps to a tenth of the error when each leaves (kappa - 1) / (kappa + 1) of it."""
    return math.log(10) / math.log((kappa + 1) / (kappa - 1)) if kappa > 1 else 1.0


def count(index: Quantity) -> str:
    """A number of directions; one that was estimated, with its error."""
    if not index.error:
        return f"{index.value:.0f}"
    return f"about {index if index.value >= 1 else figures(index.value, 1)}"


def ahead(found: Inspection) -> str:
    """What there is to gain nearby: measured, by taking a step and putting it back."""
    here = found.point
    if not here.taken > 0:
        return "The loss falls along the gradient, but its quadratic model does not reach far here."
    of = f" ({percent(here.taken / abs(found.loss), 2)} of it)" if found.loss else ""
    return (
        f"One Newton step of {percent(here.reach, 2)} of the parameters' length lowers the loss by "
        f"{figures(here.taken, 2)}{of}."
    )


def percent(value: float, digits: int = 3) -> str:
    """A share as a percentage."""
    points = 100 * value
    if 99 < points < 100 or points < 0.1:
        return f"{points:.{digits}g}%"
    return f"{points:.0f}%" if points >= 10 else f"{points:.2g}%"
