"""A line search on a ground: from a direction to the point where it ends, with its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from thalweg.errors import Domain, bad_argument, integer_from, one_of
from thalweg.numerics.armijo import armijo
from thalweg.numerics.hager_zhang import hager_zhang
from thalweg.numerics.lanczos import inner
from thalweg.numerics.line_search import Found
from thalweg.numerics.more_thuente import more_thuente
from thalweg.numerics.wolfe import SHARE, Conditions
from thalweg.optim.ground import Ground
from thalweg.optim.seams import Group


__all__ = ["SEARCHING", "Landing", "check_order", "first_length", "noise", "rounding", "walk"]

# The hyper-parameters of every method that searches along a line.
SEARCHING: dict[str, Domain] = {
    "line_search": one_of("more-thuente", "hager-zhang", "armijo"),
    "decrease": SHARE,
    "curvature": SHARE,
    "trials": integer_from(1),
}
_SLACK = 1e-10  # of f, in double precision: within it slopes judge a step, and not values
_NOISE = 4.0  # units in the last place of f that a difference of two values may be off by


class Landing(NamedTuple):
    """Where a search ended.

    Args:
        found: What the search says.
        x: The point, flat.
        grad: The gradient there.
        blind: Whether it failed among steps so short that f could not have shown a difference.
    """

    found: Found
    x: Tensor
    grad: Tensor
    blind: bool


def rounding(ground: Ground) -> float:
    """The unit in the last place of 1 in the coarsest type among the parameters."""
    return max((torch.finfo(p.dtype).eps for p in ground.params), default=0.0)


def noise(ground: Ground) -> float:
    """How far a difference of two values of f may be off by rounding."""
    return _NOISE * rounding(ground) * abs(ground.fun)


def slack(ground: Ground) -> float:
    """How close to f a value must be for slopes to judge instead."""
    return max(_SLACK, 16 * rounding(ground)) * abs(ground.fun)


def check_order(where: str, decrease: float, curvature: float) -> None:
    """Refuse conditions that no step need satisfy.

    Raises:
        ValueError: If ``decrease`` is not below ``curvature``.
    """
    if not decrease < curvature:
        raise bad_argument(where, "decrease", decrease, f"below curvature, {curvature}")


def first_length(ground: Ground, direction: Tensor, slope: float) -> float:
    r"""The first trial where nothing is known of the scale along a direction.

    It moves the largest entry by a thousandth of the largest of the point: one that is too short
    grows in a trial or three, and one that is too long may end on a plateau. At the origin it is
    where the tangent has lost a hundredth of f. Both follow a change of units of f or of x.
    """
    longest, reach = float(direction.abs().max()), float(ground.x.abs().max())
    if reach > 0 and longest > 0:
        return 0.001 * reach / longest
    if ground.fun != 0:
        return 0.01 * abs(ground.fun) / abs(slope)
    return 1.0 / longest


@final
class _Line:
    """F along a direction; keeps the gradients of the last trial and of the lowest."""

    def __init__(self, ground: Ground, direction: Tensor) -> None:
        self._ground, self.direction = ground, direction
        self._kept: dict[float, tuple[Tensor, Tensor]] = {}
        self._low = (math.inf, math.nan)
        self._last = math.nan
        self.shortest = math.inf

    def at(self, alpha: float) -> Tensor:
        """The point."""
        x = self._ground.x
        return x.add(self.direction, alpha=min(alpha, torch.finfo(x.dtype).max))

    def __call__(self, alpha: float) -> tuple[float, float]:
        """Value and slope."""
        x = self.at(alpha)
        value, grad = self._ground.value_and_grad(x)
        self.shortest = min(self.shortest, alpha)
        if value < self._low[0]:
            self._kept.pop(self._low[1], None)
            self._low = (value, alpha)
        if self._last != self._low[1]:
            self._kept.pop(self._last, None)
        self._last = alpha
        self._kept[alpha] = (x, grad)
        return value, inner(grad, self.direction)

    def value(self, alpha: float) -> float:
        """The value alone."""
        self.shortest = min(self.shortest, alpha)
        return self._ground.value(self.at(alpha))

    def landed(self, found: Found) -> tuple[Tensor, Tensor]:
        """The point where a search ended, and the gradient there."""
        if found.alpha not in self._kept:
            x = self.at(found.alpha)
            return x, self._ground.value_and_grad(x)[1]
        return self._kept[found.alpha]


def walk(
    ground: Ground, direction: Tensor, slope: float, start: float, setting: Group, **asked: Any
) -> Landing:
    """Search along a direction.

    Args:
        ground: Where the optimizer stands.
        direction: Which way, flat.
        slope: The slope of f along it, < 0.
        start: The first trial.
        setting: The hyper-parameters of :data:`SEARCHING`.
        **asked: Fields of the conditions that differ from them.

    Returns:
        Where it ended: at the standing point, if no trial was lower.
    """
    line = _Line(ground, direction)
    if setting["line_search"] == "armijo":
        found, x, grad = _by_values(line, ground, slope, start, setting, asked)
    else:
        options: dict[str, Any] = {
            "decrease": setting["decrease"],
            "curvature": setting["curvature"],
            "slack": slack(ground),
            "most": setting["trials"],
            **asked,
        }
        search = _SEARCHES[setting["line_search"]]
        found = search(line, ground.fun, slope, start, Conditions(**options))
        x, grad = line.landed(found) if found.alpha else (ground.x, ground.grad)
    blind = found.alpha == 0.0 and _unseen(ground, direction, slope, line.shortest)
    return Landing(found, x, grad, blind)


def _unseen(ground: Ground, direction: Tensor, slope: float, alpha: float) -> bool:
    """Whether a step is too short to show: in f, or in x itself."""
    if alpha * abs(slope) <= noise(ground):
        return True
    eps = _NOISE * rounding(ground)
    return bool((alpha * direction.abs() <= eps * ground.x.abs()).all())


def _by_values(
    line: _Line,
    ground: Ground,
    slope: float,
    start: float,
    setting: Group,
    asked: dict[str, Any],
) -> tuple[Found, Tensor, Tensor]:
    """Armijo's search; where a value is finite and the gradient is not, from nearer."""
    spent = 0
    while (most := setting["trials"] - spent) > 0:
        found = armijo(
            line.value,
            ground.fun,
            slope,
            start,
            decrease=setting["decrease"],
            slack=noise(ground),
            most=min(most, asked.get("most", most)),
        )
        spent += found.evaluations
        if found.alpha == 0.0:
            break
        x, grad = line.landed(found)
        if bool(grad.isfinite().all()):
            found = replace(found, slope=inner(grad, line.direction), evaluations=spent)
            return found, x, grad
        start = 0.1 * found.alpha
    return Found(0.0, ground.fun, slope, spent, "failed"), ground.x, ground.grad


_SEARCHES: dict[str, Callable[..., Found]] = {
    "more-thuente": more_thuente,
    "hager-zhang": hager_zhang,
}
