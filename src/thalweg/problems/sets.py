"""The classical sets of mathematical problems, for methods that minimise functions."""

from __future__ import annotations

from thalweg.errors import unknown_name
from thalweg.problems.bounded import bounded
from thalweg.problems.box import BoundedProblem
from thalweg.problems.least_squares import LeastSquaresProblem
from thalweg.problems.mgh import mgh, mgh_names
from thalweg.problems.nist_regression import nist, nist_names
from thalweg.problems.quadratics import QuadraticProblem, quadratics


__all__ = ["bounded_set", "least_squares_set", "listed_sets", "quadratic_set"]


def least_squares_set(name: str = "mgh") -> tuple[LeastSquaresProblem, ...]:
    """A set of nonlinear least-squares problems.

    Args:
        name: ``"mgh"``: the 41 functions of More, Garbow and Hillstrom at their standard starts.
            ``"nist"``: ten regressions of NIST's reference data sets with certified parameters, two
            starts each.

    Raises:
        ValueError: If there is no such set.

    Example:
        >>> [problem.name for problem in least_squares_set("nist")][:3]
        ['Misra1a', 'Chwirut2', 'Lanczos3']
        >>> sum(problem.n for problem in least_squares_set("mgh"))
        272
    """
    if name == "nist":
        return tuple(map(nist, nist_names()))
    if name == "mgh":
        return tuple(map(mgh, mgh_names()))
    raise unknown_name("least_squares_set", "set", name, ("mgh", "nist"))


def quadratic_set() -> tuple[QuadraticProblem, ...]:
    """Fourteen symmetric positive definite quadratics, of condition number 48 to 2e13.

    Example:
        >>> max(quadratic_set(), key=lambda problem: problem.condition).name
        'moler-20'
    """
    return quadratics()


def bounded_set() -> tuple[BoundedProblem, ...]:
    """Twelve problems with bounds on the variables, for projected methods.

    Example:
        >>> len(bounded_set())
        12
    """
    return bounded()


def listed_sets() -> list[dict[str, str]]:
    """Every problem of the classical sets as a line of a table: its set, name, size, what it is.

    ``set`` is the expression that gives the set.

    Example:
        >>> lines = listed_sets()
        >>> len(lines), lines[0]["set"], lines[0]["name"], lines[0]["n"]
        (77, "least_squares_set('mgh')", 'rosenbrock', '2')
    """
    lines = []
    for name in ("mgh", "nist"):
        for fit in least_squares_set(name):
            starts = f"; {len(fit.starts)} starts" if len(fit.starts) > 1 else ""
            what = f"{fit.title}; {fit.m} residuals{starts}"
            lines.append(_line(f"least_squares_set({name!r})", fit.name, fit.n, what))
    for bowl in quadratic_set():
        what = f"quadratic of condition number {bowl.condition:.2g}"
        lines.append(_line("quadratic_set()", bowl.name, bowl.n, what))
    boxes = (
        _line("bounded_set()", box.name, len(box.start), f"bounds; {box.reference}")
        for box in bounded_set()
    )
    return [*lines, *boxes]


def _line(of: str, name: str, n: int, what: str) -> dict[str, str]:
    return {"set": of, "name": name, "n": str(n), "what": what}
