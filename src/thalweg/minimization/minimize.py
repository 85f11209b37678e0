"""Minimise a function of a tensor, an array or a tree of tensors, by a method's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from thalweg.errors import bad_argument, unknown_name
from thalweg.minimization.points import Start
from thalweg.minimization.result import MinimizeResult
from thalweg.minimization.run import Limits, Run
from thalweg.minimization.stopping import Tolerances
from thalweg.optim import resolve
from thalweg.optim.deterministic import AbstractDeterministic
from thalweg.optim.projections import Box


__all__ = ["METHODS", "minimize"]

METHODS: dict[str, str] = {
    "newton": "newton",
    "saddle-free": "saddle-free-newton",
    "trust-exact": "trust-region-newton",
    "trust-ncg": "trust-region-newton-cg",
    "newton-lanczos": "newton-lanczos",
    "newton-cg": "newton-cg",
    "hessian-free": "hessian-free",
    "cg": "conjugate-gradient",
    "nonlinear-cg": "nonlinear-cg",
    "bfgs": "bfgs",
    "lbfgs": "lbfgs",
    "projected-gradient": "spectral-projected-gradient",
}


def minimize(
    fn: Callable[..., Tensor],
    x0: Any,
    method: str | type[AbstractDeterministic] = "bfgs",
    *,
    tol: float | None = None,
    gtol: float | None = None,
    ftol: float | None = None,
    xtol: float | None = None,
    maxiter: int | None = None,
    maxfev: int | None = None,
    time_budget: float | None = None,
    bounds: tuple[Any, Any] | None = None,
    projection: Any = None,
    callback: Callable[[MinimizeResult], Any] | None = None,
    return_all: bool = False,
    options: Mapping[str, Any] | None = None,
) -> MinimizeResult:
    r"""Find a local minimum of a smooth function.

    The function is written in torch, and autograd differentiates it. Tests of convergence do not
    depend on the units of f or x and follow the precision of ``x0`` (:class:`Tolerances`); by
    default they go on for as long as the numbers let them.

    Args:
        fn: x -> a scalar tensor, where x is like ``x0``, with tensors in place of arrays.
        x0: The start: a tensor, an array, numbers, or a dict, list or tuple of tensors.
        method: A name of :data:`METHODS`: ``"bfgs"`` (default; no second derivatives, memory n^2),
            ``"lbfgs"`` (large n), ``"nonlinear-cg"`` (least memory), ``"newton"``,
            ``"trust-exact"``, ``"saddle-free"`` (dense Hessians; small n), ``"trust-ncg"``,
            ``"newton-lanczos"``, ``"newton-cg"``, ``"hessian-free"`` (products with the Hessian;
            any n), ``"cg"`` (quadratic functions), ``"projected-gradient"`` (bounds, projections);
            or such a class.
        tol: Sets all three tolerances.
        gtol: Of the gradient; see :class:`Tolerances`.
        ftol: Of the decrease.
        xtol: Of the step.
        maxiter: Steps at most; default 200 n, at least 1000.
        maxfev: Values of f at most, looked at between steps; default none.
        time_budget: Seconds at most, looked at between steps; default none.
        bounds: (lower, upper), numbers or like ``x0``; None on a side for none there. For
            ``"projected-gradient"``.
        projection: A set to stay in (:mod:`thalweg.optim.projections`), or point -> point. For
            ``"projected-gradient"``.
        callback: Called after each step with the result so far; a true value, or StopIteration,
            stops.
        return_all: Keep the start and every accepted point in ``allvecs``.
        options: Arguments of the method's class.

    Returns:
        The result. ``success`` only where a test of convergence was met.

    Raises:
        ValueError: If the method is unknown or an argument is out of range.

    Example:
        >>> def rosenbrock(x):
        ...     return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        >>> result = minimize(rosenbrock, [-1.2, 1.0])
        >>> result.x.round(6).tolist(), result.success
        ([1.0, 1.0], True)

    References:
        Nocedal and Wright, Numerical optimization, 2nd ed., 2006.
    """
    cls = _method(method)
    start = Start("minimize", x0)
    given = dict(options or {})
    if bounds is not None or projection is not None:
        given |= _constrained(method, start, bounds, projection)
    n = start.live.numel()
    tolerances = Tolerances(*(tol if t is None else t for t in (gtol, ftol, xtol)))
    limits = Limits.checked("minimize", maxiter, maxfev, time_budget, max(1000, 200 * n))
    return Run(fn, start, cls, given, tolerances).follow(limits, callback, return_all)


def _method(name: Any) -> Any:
    if isinstance(name, type) and issubclass(name, AbstractDeterministic):
        return name
    if name not in METHODS:
        raise unknown_name("minimize", "method", str(name), METHODS)
    return resolve(METHODS[name])


def _constrained(method: Any, start: Start, bounds: Any, projection: Any) -> dict[str, Any]:
    """The set to stay in, as an option of the projected method."""
    if method != "projected-gradient":
        name = "bounds" if bounds is not None else "projection"
        given = bounds if bounds is not None else projection
        raise bad_argument("minimize", name, given, f"None with method={method!r}")
    if bounds is None:
        return {"projection": projection}
    if projection is not None:
        raise bad_argument("minimize", "projection", projection, "None where bounds are given")
    if not (isinstance(bounds, (tuple, list)) and len(bounds) == 2):
        raise bad_argument("minimize", "bounds", bounds, "a pair (lower, upper)")
    lower, upper = (start.like(side) for side in bounds)
    if lower is None or upper is None:
        infinite = torch.full_like(start.live.detach(), torch.inf)
        lower = -infinite if lower is None else lower
        upper = infinite if upper is None else upper
    return {"projection": Box(lower, upper)}
