r"""Profiles of solvers over a set of problems: which share is solved within which effort.

With :math:`t_{p,s}` what solver s spends on problem p (evaluations, say; infinite where it fails),

* the performance profile of Dolan and More is the share of problems with
  :math:`t_{p,s} \le \tau \min_{s'} t_{p,s'}`: at :math:`\tau = 1` how often s is the cheapest, far
  to the right how much it solves at all;
* the data profile of More and Wild is the share with :math:`t_{p,s} \le \alpha (n_p + 1)`, for
  :math:`n_p` variables: what a budget buys, whoever else is in the race.

References:
    Dolan and More, Benchmarking optimization software with performance profiles, 2002; More and
    Wild, Benchmarking derivative-free optimization algorithms, 2009.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.errors import bad_argument
from thalweg.report import canvas
from thalweg.report.style import series, styled


__all__ = ["data_profile", "efforts", "performance_profile", "ratios", "share_within"]

Costs = Mapping[str, Sequence[float]]


def ratios(costs: Costs) -> dict[str, np.ndarray]:
    """Each solver's cost over the least of all, problem by problem; infinite where it failed.

    Args:
        costs: For each solver what it spent on each problem, in one order for all; infinite or NaN
            where it did not solve it. Problems that none solves count as failures of all.

    Raises:
        ValueError: If the solvers have unlike numbers of problems, or a cost is not positive.

    Example:
        >>> ratios({"a": [10, 40], "b": [20, float("inf")]})["b"].tolist()
        [2.0, inf]
    """
    table = _table("ratios", costs)
    least = np.min(list(table.values()), axis=0)
    solvable = np.isfinite(least)
    within = np.where(solvable, least, 1.0)
    return {name: np.where(solvable, row / within, math.inf) for name, row in table.items()}


def efforts(costs: Costs, sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Each solver's cost in units of n + 1, as many evaluations as a gradient by differences takes.

    Args:
        costs: As :func:`ratios` takes them.
        sizes: The number of variables n of each problem.

    Raises:
        ValueError: If there are not as many sizes as problems.

    Example:
        >>> efforts({"a": [12, 44]}, [2, 10])["a"].tolist()
        [4.0, 4.0]
    """
    table = _table("efforts", costs)
    units = np.asarray(sizes, float) + 1
    if any(len(row) != len(units) for row in table.values()):
        raise bad_argument("efforts", "sizes", len(units), "one for each problem")
    return {name: row / units for name, row in table.items()}


def share_within(values: Sequence[float], limit: float) -> float:
    """The share of values that are at most ``limit``: one point of a profile.

    Example:
        >>> share_within([1.0, 2.0, float("inf")], 2.0)
        0.66...
    """
    return float(np.mean(np.asarray(values, float) <= limit))


@styled
def performance_profile(
    costs: Costs,
    *,
    title: str = "Performance profile",
    line: str = "",
    unit: str = "evaluations",
    ax: Axes | None = None,
) -> Figure:
    """Draw the share of problems that each solver solves within a multiple of the least cost.

    Args:
        costs: As :func:`ratios` takes them.
        title: Over the axes.
        line: Under it: the problems, what counts as solved.
        unit: What is counted.
        ax: Axes to draw in; None makes a figure.

    Example:
        >>> figure = performance_profile({"lm": [10, 40], "gauss-newton": [8, float("inf")]})
        >>> figure.axes[0].get_xlabel()
        'evaluations, as a multiple of the least (log)'
    """
    label = f"{unit}, as a multiple of the least (log)"
    return _drawn(ratios(costs), 1.0, label, title, line, ax)


@styled
def data_profile(
    costs: Costs,
    sizes: Sequence[int],
    *,
    title: str = "Data profile",
    line: str = "",
    unit: str = "evaluations",
    ax: Axes | None = None,
) -> Figure:
    """Draw the share of problems that each solver solves within a budget per variable.

    Args:
        costs: As :func:`ratios` takes them.
        sizes: The number of variables of each problem.
        title: Over the axes.
        line: Under it: the problems, what counts as solved.
        unit: What is counted.
        ax: Axes to draw in; None makes a figure.

    Example:
        >>> data_profile({"lm": [10, 40]}, [2, 4]).axes[0].get_xlabel()
        'evaluations / (n + 1) (log)'
    """
    spent = efforts(costs, sizes)
    least = min((float(row.min()) for row in spent.values()), default=1.0)
    first = least if math.isfinite(least) else 1.0
    return _drawn(spent, first, f"{unit} / (n + 1) (log)", title, line, ax)


def _drawn(
    values: Mapping[str, np.ndarray],
    first: float,
    label: str,
    title: str,
    line: str,
    ax: Axes | None,
) -> Figure:
    figure, axes = canvas.axes(ax)
    known = [v for row in values.values() for v in row if math.isfinite(v)]
    last = max([*known, 2.0 * first])
    # The most solved first, so that the legend reads from the top curve down.
    order = sorted(values, key=lambda name: (-np.isfinite(values[name]).mean(), name))
    for name in order:
        x, y = _steps(values[name], first, last)
        solved = int(np.isfinite(values[name]).sum())
        look = series(name)
        words = f"{name} ({solved} of {len(values[name])})"
        axes.step(x, y, where="post", label=words, color=look.colour, ls=look.dash)
    canvas.log_axis(axes.xaxis, first, last)
    axes.set(ylim=(-0.02, 1.02), xlabel=label, ylabel="share of problems solved")
    canvas.caption(axes, title, line)
    canvas.legend(axes)
    return figure


def _steps(values: np.ndarray, first: float, last: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the share rises and to what, from the left end of the axis to the right one."""
    later = np.unique(values[np.isfinite(values) & (values > first)])
    corners = np.concatenate([[first], later, [last]])
    given = values.tolist()
    return corners, np.array([share_within(given, x) if given else 0.0 for x in corners])


def _table(where: str, costs: Costs) -> dict[str, np.ndarray]:
    made = {}
    for name, row in costs.items():
        spent = np.asarray(row, float)
        made[name] = np.where(np.isnan(spent), math.inf, spent)
        if not (made[name] > 0).all():
            raise bad_argument(where, "costs", f"{name}: {row}", "positive")
    if len({len(row) for row in made.values()}) > 1:
        counts = {name: len(row) for name, row in made.items()}
        raise bad_argument(where, "costs", counts, "of as many problems for each solver")
    return made
