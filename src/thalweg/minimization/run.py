"""One minimisation: an optimizer's three seams, one after the other, and the tests between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from thalweg.errors import NonFiniteError, bad_argument
from thalweg.minimization.points import Start
from thalweg.minimization.result import MinimizeResult, Status
from thalweg.minimization.stopping import Judge, Tolerances
from thalweg.objective import Objective
from thalweg.optim import Needs, StepInfo
from thalweg.optim.ground import Ground


__all__ = ["Limits", "Run"]

Stop = tuple[Status, str]
Callback = Callable[[MinimizeResult], Any]


@final
@dataclass(frozen=True)
class Limits:
    """What a minimisation may use at most; looked at between steps.

    Args:
        iterations: Accepted steps.
        evaluations: Values of the function.
        seconds: Wall time.

    Example:
        >>> Limits(3, None, None).passed(3, 9, 0.1)[1]
        '3 of 3 iterations'
    """

    iterations: int
    evaluations: int | None
    seconds: float | None

    @classmethod
    def checked(cls, where: str, maxiter: Any, maxfev: Any, time_budget: Any, most: int) -> Limits:
        """From what a caller gave; None for iterations is ``most``, for the others no limit.

        Raises:
            ValueError: If one is no number >= 0.
        """
        given = {"maxiter": maxiter, "maxfev": maxfev, "time_budget": time_budget}
        for name, value in given.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and value >= 0):
                raise bad_argument(where, name, value, "a number >= 0, or None")
        return cls(most if maxiter is None else maxiter, maxfev, time_budget)

    def passed(self, nit: int, nfev: int, seconds: float) -> Stop | None:
        """The limit that is reached, with its number."""
        if nit >= self.iterations:
            return Status.ITERATIONS, f"{nit} of {self.iterations} iterations"
        if self.evaluations is not None and nfev >= self.evaluations:
            return Status.EVALUATIONS, f"{nfev} of {self.evaluations} evaluations"
        if self.seconds is not None and seconds >= self.seconds:
            return Status.TIME, f"{seconds:.3g} of {self.seconds:.3g} s"
        return None


class _Spot(NamedTuple):
    fun: float
    x: Tensor
    grad: Tensor  # with a projection: the projected step, over its length


@final
class Run:
    """A function, a method and the tests; :meth:`follow` goes until one of them stops it.

    Args:
        fn: x -> a scalar tensor.
        start: Where it starts.
        cls: The optimizer class.
        options: Its arguments.
        tolerances: Of the tests.
    """

    def __init__(
        self,
        fn: Callable[..., Tensor],
        start: Start,
        cls: Any,
        options: dict[str, Any],
        tolerances: Tolerances,
    ) -> None:
        self._start = start
        self._optimizer = cls([start.live], **options)
        self._closure = Objective.of(start.within(fn)).closure(start.live)
        dtype = start.live.dtype
        self._judge = Judge(tolerances.of(dtype), dtype)
        self._nearly = torch.finfo(dtype).eps ** (1 / 3)
        self._nit = 0
        self._began = time.perf_counter()
        self._kept: list[Any] = []

    @torch.no_grad()
    def follow(self, limits: Limits, callback: Callback | None, keep: bool) -> MinimizeResult:
        """Step until a test or a limit stops it."""
        try:
            ground = self._optimizer.evaluate(self._closure)
        except NonFiniteError as error:
            return self._refused(str(error))
        here = best = self._spot(ground)
        self._keep(here, keep)
        stop = self._stands(here, self._optimizer.needs is Needs.CURVATURE)
        while stop is None:
            seconds = time.perf_counter() - self._began
            stop = limits.passed(self._nit, ground.counts.nfev, seconds)
            if stop is not None:
                break
            info = self._optimizer.advance(ground, self._optimizer.descend(ground))
            self._optimizer.info = info
            before = here
            if ground.x is not before.x:
                self._nit += 1
                ground = self._optimizer.evaluate(self._closure)
                here = self._spot(ground)
                self._keep(here, keep)
                best = here if here.fun <= best.fun else best
            stop = self._judged(before, here, info)
            if stop is None and callback is not None:
                stop = self._asked(callback, best, ground)
        return self._result(best, ground, *stop)

    # ---- tests ------------------------------------------------------------------------------
    def _stands(self, here: _Spot, may_be_saddle: bool) -> Stop | None:
        """Whether the gradient is small enough.

        Of a method that knows curvature, the first step shows whether the start is a minimum.
        """
        words = self._judge.gradient(*here)
        return None if words is None or may_be_saddle else (Status.GRADIENT, words)

    def _judged(self, before: _Spot, here: _Spot, info: StepInfo) -> Stop | None:
        """What the tests say after a step that was accepted or not."""
        small = self._judge.gradient(*here)
        if here is before:
            if small is not None or info.outcome == "stationary":
                return Status.GRADIENT, small or "the gradient is zero"
            number = self._judge.relative_gradient(*here)
            failed = info.outcome == "failed" and number > self._nearly
            status = Status.SEARCH_FAILED if failed else Status.PRECISION
            return status, f"relative gradient {number:.3g}"
        met = self._judge.moved((before.fun, before.x), (here.fun, here.x))
        if small is not None:
            return Status.GRADIENT, small
        if met and not self._judge.settled(*here):
            return None  # short steps beside a steep gradient: stuck, not there
        foreseen = info.details.get("predicted")
        noticed = foreseen is not None and foreseen > self._judge.foreseeable(here.fun)
        if "function" in met and not noticed:
            return Status.FUNCTION, met["function"]
        return (Status.STEP, met["step"]) if "step" in met and not noticed else None

    def _asked(self, callback: Callback, best: _Spot, ground: Ground) -> Stop | None:
        so_far = self._result(best, ground, Status.ITERATIONS, "still going")
        try:
            stop = bool(callback(so_far))
        except StopIteration:
            stop = True
        return (Status.CALLBACK, f"after step {self._nit}") if stop else None

    # ---- what is said -------------------------------------------------------------------------
    def _spot(self, ground: Ground) -> _Spot:
        projected = getattr(self._optimizer, "projected_gradient", None)
        return _Spot(ground.fun, ground.x, ground.grad if projected is None else projected(ground))

    def _keep(self, here: _Spot, keep: bool) -> None:
        if keep:
            self._kept.append(self._start.back(here.x))

    def _refused(self, words: str) -> MinimizeResult:
        x = self._start.live.detach().reshape(-1)
        spot = _Spot(float("nan"), x, torch.full_like(x, torch.nan))
        counts = self._optimizer.counts
        return self._told(spot, counts.as_dict(), Status.NON_FINITE_START, words)

    def _result(self, best: _Spot, ground: Ground, status: Status, words: str) -> MinimizeResult:
        return self._told(best, ground.counts.as_dict(), status, words)

    def _told(
        self, best: _Spot, counts: dict[str, int], status: Status, words: str
    ) -> MinimizeResult:
        success = status.converged or (
            status is Status.PRECISION and self._judge.relative_gradient(*best) <= self._nearly
        )
        return MinimizeResult(
            x=self._start.back(best.x),
            fun=best.fun,
            grad=self._start.back(best.grad),
            optimality=float(best.grad.abs().max()),
            nit=self._nit,
            **counts,
            status=status,
            success=success,
            message=f"{status.value}: {words}",
            seconds=time.perf_counter() - self._began,
            allvecs=self._kept,
        )
