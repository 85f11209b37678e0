"""Fit by least squares: residuals and a start in, parameters and their uncertainty out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from thalweg.errors import NonFiniteError, bad_argument, unknown_name
from thalweg.minimization.angles import Angles, AngleTolerances
from thalweg.minimization.least_squares_result import LeastSquaresResult
from thalweg.minimization.points import Start
from thalweg.minimization.result import Status
from thalweg.minimization.run import Limits
from thalweg.objective import Objective
from thalweg.optim import GaussNewton, LevenbergMarquardt
from thalweg.optim.dense_model import DenseModel
from thalweg.optim.least_squares import AbstractLeastSquares


__all__ = ["FITS", "least_squares"]

FITS: dict[str, type[AbstractLeastSquares]] = {
    "lm": LevenbergMarquardt,
    "gauss-newton": GaussNewton,
}

Stop = tuple[Status, str]


def least_squares(
    residuals: Callable[..., Tensor],
    x0: Any,
    method: str | type[AbstractLeastSquares] = "lm",
    *,
    tol: float | None = None,
    gtol: float | None = None,
    ftol: float | None = None,
    xtol: float | None = None,
    loss: str = "linear",
    loss_scale: float = 1.0,
    maxiter: int | None = None,
    maxfev: int | None = None,
    time_budget: float | None = None,
    callback: Callable[[LeastSquaresResult], Any] | None = None,
    return_all: bool = False,
    options: Mapping[str, Any] | None = None,
) -> LeastSquaresResult:
    r"""Find a local minimum of a sum of squares, :math:`\tfrac12 \sum_i r_i(x)^2`.

    The residuals are written in torch, and autograd gives their Jacobian. Tests of convergence look
    at angles and relative changes, so that no units matter, and follow the precision of ``x0``
    (:class:`AngleTolerances`).

    Args:
        residuals: x -> a tensor of any shape, where x is like ``x0`` with tensors for arrays.
        x0: The start: a tensor, an array, numbers, or a dict, list or tuple of tensors.
        method: ``"lm"`` (default; Levenberg-Marquardt) or ``"gauss-newton"``, or such a class.
        tol: Sets all three tolerances.
        gtol: Of the angle between the residuals and the space that the Jacobian spans.
        ftol: Of the change of the cost.
        xtol: Of the step.
        loss: ``"linear"`` (default), ``"soft_l1"``, ``"huber"``, ``"cauchy"`` or ``"arctan"``: how
            much a large residual counts.
        loss_scale: The size up to which a residual counts as small; scipy's ``f_scale``.
        maxiter: Steps at most; default 200 n, at least 1000.
        maxfev: Evaluations of the residuals at most, looked at between steps; default none.
        time_budget: Seconds at most, looked at between steps; default none.
        callback: Called after each step with the result so far; a true value, or StopIteration,
            stops.
        return_all: Keep the start and every accepted point in ``allvecs``.
        options: Arguments of the method's class.

    Returns:
        The result. ``success`` only where a test of convergence was met.

    Raises:
        ValueError: If the method is unknown or an argument is out of range.

    Example:
        >>> t = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
        >>> y = torch.tensor([2.0, 1.2, 0.7, 0.5], dtype=torch.float64)
        >>> def residuals(x):
        ...     return x["height"] * torch.exp(-x["rate"] * t) - y
        >>> start = {"height": torch.ones(()).double(), "rate": torch.ones(()).double()}
        >>> result = least_squares(residuals, start)
        >>> round(result.x["rate"].item(), 4), result.nfev, result.success
        (0.4966, 11, True)

    References:
        More, The Levenberg-Marquardt algorithm: implementation and theory, 1978; Bates and Watts, A
        relative offset orthogonality convergence criterion for nonlinear least squares, 1981.
    """
    cls = method if isinstance(method, type) else FITS.get(method)
    if cls is None:
        raise unknown_name("least_squares", "method", str(method), FITS)
    if not issubclass(cls, AbstractLeastSquares):
        raise bad_argument("least_squares", "method", cls.__name__, "a least-squares method")
    start = Start("least_squares", x0)
    given = {**(options or {}), "loss": loss, "loss_scale": loss_scale}
    tolerances = AngleTolerances(*(tol if t is None else t for t in (gtol, ftol, xtol)))
    most = max(1000, 200 * start.live.numel())
    limits = Limits.checked("least_squares", maxiter, maxfev, time_budget, most)
    optimizer: Any = cls
    fit = _Fit(residuals, start, optimizer([start.live], **given), tolerances)
    return fit.follow(limits, callback, return_all)


@final
class _Fit:
    """One fit: the seams of a method one after the other, and the tests between."""

    def __init__(
        self,
        residuals: Callable[..., Tensor],
        start: Start,
        optimizer: AbstractLeastSquares,
        tolerances: AngleTolerances,
    ) -> None:
        self._start, self._optimizer = start, optimizer
        self._closure = Objective.residuals(start.within(residuals)).closure(start.live)
        dtype = start.live.dtype
        self._tests = Angles(tolerances.of(dtype), dtype)
        self._began = time.perf_counter()
        self._nit = 0
        self._kept: list[Any] = []

    @torch.no_grad()
    def follow(self, limits: Limits, callback: Any, keep: bool) -> LeastSquaresResult:
        """Step until a test or a limit stops it."""
        optimizer = self._optimizer
        try:
            ground = optimizer.evaluate(self._closure)
            path = optimizer.descend(ground)
        except NonFiniteError as error:
            return self._refused(str(error))
        while True:
            if keep:
                self._kept.append(self._start.back(ground.x))
            stop = self._tests.standing(
                ground.fun, offset=path.offset, cosine=path.cosine, rounding=path.rounding
            )
            if stop is None and self._nit and callback is not None:
                stop = self._asked(callback, ground, path)
            seconds = time.perf_counter() - self._began
            stop = stop or limits.passed(self._nit, ground.counts.nfev, seconds)
            if stop is not None:
                return self._result(ground, path, stop)
            before = ground.fun
            optimizer.info = info = optimizer.advance(ground, path)
            if info.rejected:
                return self._result(ground, path, self._tests.stuck(before, info))
            self._nit += 1
            self._tests.moved(before, ground.fun, info)
            path = optimizer.descend(ground)

    def _asked(self, callback: Callable[[Any], Any], ground: Any, path: Any) -> Stop | None:
        so_far = self._result(ground, path, (Status.ITERATIONS, "still going"))
        try:
            stop = bool(callback(so_far))
        except StopIteration:
            stop = True
        return (Status.CALLBACK, f"after step {self._nit}") if stop else None

    def _result(self, ground: Any, path: Any, stop: Stop) -> LeastSquaresResult:
        status, words = stop
        near = self._tests.nearly(path.offset, path.cosine)
        plain = self._start.plain
        dense = isinstance(path, DenseModel)
        return LeastSquaresResult(
            x=self._start.back(ground.x),
            cost=ground.fun,
            residuals=plain(ground.view.plain),
            jacobian=plain(ground.view.plain_jacobian()) if dense else None,
            grad=self._start.back(ground.grad),
            optimality=float(ground.grad.abs().max()),
            angle=path.offset,
            nit=self._nit,
            **self._counts(),
            robust=self._optimizer.setting["loss"] != "linear",
            status=status,
            success=status.converged or (status is Status.PRECISION and near),
            message=f"{status.value}: {words}",
            seconds=time.perf_counter() - self._began,
            allvecs=list(self._kept),
        )

    def _refused(self, words: str) -> LeastSquaresResult:
        nan = torch.full_like(self._start.live.detach(), torch.nan)
        return LeastSquaresResult(
            x=self._start.back(self._start.live),
            cost=float("nan"),
            residuals=None,
            jacobian=None,
            grad=self._start.back(nan),
            optimality=float("nan"),
            angle=float("nan"),
            nit=0,
            **self._counts(),
            status=Status.NON_FINITE_START,
            success=False,
            message=f"{Status.NON_FINITE_START.value}: {words}",
            seconds=time.perf_counter() - self._began,
        )

    def _counts(self) -> dict[str, Any]:
        counts = self._optimizer.counts
        return {"nfev": counts.nfev, "njev": counts.ngev, "nhvp": counts.nhvp}
