"""The test functions of More, Garbow and Hillstrom as problems: 41 of them."""

from __future__ import annotations

from functools import cache, partial
from typing import Final

from thalweg.errors import unknown_name
from thalweg.problems.least_squares import LeastSquaresProblem
from thalweg.problems.mgh_first import FIRST
from thalweg.problems.mgh_fourth import FOURTH
from thalweg.problems.mgh_second import SECOND
from thalweg.problems.mgh_third import THIRD


__all__ = ["mgh", "mgh_names"]

REFERENCE: Final = (
    "More, Garbow and Hillstrom, Testing Unconstrained Optimization Software, ACM Transactions on "
    "Mathematical Software 7(1), 1981"
)


@cache
def _all() -> dict[str, LeastSquaresProblem]:
    made = {}
    for name, residuals, start, minima in (*FIRST, *SECOND, *THIRD, *FOURTH):
        words = residuals.func.__doc__ if isinstance(residuals, partial) else residuals.__doc__
        title = (words or "").rstrip(".")
        made[name] = LeastSquaresProblem(name, residuals, (start,), minima, title, REFERENCE)
    return made


def mgh_names() -> tuple[str, ...]:
    """The names, in the paper's order; a number at the end is the dimension.

    Example:
        >>> mgh_names()[:2], len(mgh_names())
        (('rosenbrock', 'freudenstein-roth'), 41)
    """
    return tuple(_all())


def mgh(name: str) -> LeastSquaresProblem:
    """One of the functions, from its standard start.

    Minima at infinity, and stationary points that are no minima, are not among the ``minima``: a
    method that runs there has not solved the problem.

    Args:
        name: One of :func:`mgh_names`.

    Raises:
        ValueError: If there is no such function.

    Example:
        >>> problem = mgh("rosenbrock")
        >>> round(problem(problem.start()).item(), 12), problem.minima
        (24.2, (0.0,))
    """
    problems = _all()
    if name not in problems:
        raise unknown_name("mgh", "function", name, problems)
    return problems[name]
