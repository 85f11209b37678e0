"""Ours and its peers on one function: the same start, gradients and Hessians, every call counted.

A solver takes a function of a float64 tensor, a start and a tolerance and returns a :class:`Run`.
scipy and torchmin are called as their documentation calls them. A run that raises, or lasts longer
than its budget, is one that did not solve its problem and did not say that it had.
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

import thalweg as tw


TIGHT = 1e-15  # what "tight" asks of every test of convergence there is
MOST = 5000  # iterations of any solver
TORCHMIN = importlib.util.find_spec("torchmin") is not None
Function = Callable[[Tensor], Tensor]
Solver = Callable[[Function, Tensor, bool, float], "Run"]


@dataclass(frozen=True)
class Run:
    """What a solver returned, and what it took.

    Args:
        x: The point it returned.
        success: Whether it said that it had converged.
        values: Evaluations of the function (or of the residuals).
        derivatives: Gradients (or Jacobians).
        message: What it said.
    """

    x: np.ndarray
    success: bool
    values: int
    derivatives: int
    message: str = ""


class Late(Exception):
    """The budget of a run is spent."""


class Counted:
    """A function with its derivatives as numpy wants them; each call is counted."""

    def __init__(self, fn: Function, seconds: float) -> None:
        self.fn, self.values, self.derivatives = fn, 0, 0
        self._end = time.monotonic() + seconds

    def _at(self, x: Any) -> Tensor:
        if time.monotonic() > self._end:
            raise Late
        return torch.as_tensor(x, dtype=torch.float64).detach().clone().requires_grad_()

    def both(self, x: Any) -> tuple[float, np.ndarray]:
        """Value and gradient."""
        self.values += 1
        self.derivatives += 1
        point = self._at(x)
        value = self.fn(point)
        (grad,) = torch.autograd.grad(value, point)
        return float(value.detach()), grad.numpy()

    def hessian(self, x: Any) -> np.ndarray:
        """The dense Hessian."""
        point = self._at(x)
        (grad,) = torch.autograd.grad(self.fn(point), point, create_graph=True)
        rows = [
            torch.autograd.grad(g, point, retain_graph=True, materialize_grads=True)[0]
            for g in grad
        ]
        return torch.stack(rows).numpy()

    def plain(self, x: Tensor) -> Tensor:
        """The value, to be differentiated by whoever calls."""
        self.values += 1
        if time.monotonic() > self._end:
            raise Late
        return self.fn(x)

    def array(self, x: Any) -> np.ndarray:
        """The residuals."""
        self.values += 1
        with torch.no_grad():
            return self.fn(self._at(x)).numpy()

    def jacobian(self, x: Any) -> np.ndarray:
        """Their Jacobian."""
        self.derivatives += 1
        return torch.autograd.functional.jacobian(self.fn, self._at(x)).numpy()  # type: ignore


def guarded(solve: Callable[[Counted], Any], counted: Counted, start: Tensor) -> Run:
    """Run a peer; whatever goes wrong in it is a run that failed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = solve(counted)
        except Exception as error:  # a peer's crash is its result
            words = f"{type(error).__name__}: {error}"[:120]
            return Run(start.numpy(), False, max(counted.values, 1), counted.derivatives, words)
    x = found.x.detach().numpy() if isinstance(found.x, Tensor) else np.asarray(found.x)
    success, words = bool(found.success), str(found.message)
    return Run(x, success, counted.values, counted.derivatives, words)


# ---- functions ------------------------------------------------------------------------------
def ours(method: str, **options: Any) -> Solver:
    """``tw.minimize`` with a method."""

    def solve(fn: Function, start: Tensor, tight: bool, seconds: float) -> Run:
        found = tw.minimize(
            fn,
            start,
            method,
            tol=TIGHT if tight else None,
            maxiter=MOST,
            time_budget=seconds,
            options=options,
        )
        x = found.x.numpy()
        return Run(x, found.success, found.nfev, found.ngev, found.message)

    return solve


_TIGHT_SCIPY: dict[str, dict[str, float]] = {
    "L-BFGS-B": {"gtol": TIGHT, "ftol": TIGHT / 10, "maxfun": 10 * MOST},
    "Newton-CG": {"xtol": TIGHT},
}


def scipys(method: str) -> Solver:
    """``scipy.optimize.minimize`` with a method."""

    def solve(fn: Function, start: Tensor, tight: bool, seconds: float) -> Run:
        counted = Counted(fn, seconds)
        options: dict[str, Any] = {"maxiter": MOST}
        if tight:
            options |= _TIGHT_SCIPY.get(method, {"gtol": TIGHT})
        second = {"hess": counted.hessian} if method.startswith(("trust", "Newton")) else {}

        def run(counted: Counted) -> Any:
            return scipy.optimize.minimize(
                counted.both, start.numpy(), jac=True, method=method, options=options, **second
            )

        return guarded(run, counted, start)

    return solve


def torchmins(method: str) -> Solver:
    """``torchmin.minimize`` with a method."""

    def solve(fn: Function, start: Tensor, tight: bool, seconds: float) -> Run:
        import torchmin  # type: ignore[import-not-found]

        counted = Counted(fn, seconds)
        # ``tol`` sets one test of each method; the quasi-Newton methods have two more.
        more = {"xtol": TIGHT, "gtd_tol": TIGHT} if tight and "bfgs" in method else {}
        tests = {"tol": TIGHT if tight else None, "options": more}

        def run(counted: Counted) -> Any:
            return torchmin.minimize(counted.plain, start, method, max_iter=MOST, **tests)

        return guarded(run, counted, start)

    return solve


def torchs(fn: Function, start: Tensor, tight: bool, seconds: float) -> Run:
    """``torch.optim.LBFGS`` with its strong Wolfe search, in one call; it tells no success."""
    counted = Counted(fn, seconds)
    x = start.clone().requires_grad_()
    tests = {"tolerance_grad": TIGHT, "tolerance_change": TIGHT} if tight else {}
    optimizer = torch.optim.LBFGS([x], max_iter=MOST, line_search_fn="strong_wolfe", **tests)

    def closure() -> Tensor:
        value, grad = counted.both(x.detach())
        x.grad = torch.from_numpy(grad)
        return torch.tensor(value, dtype=x.dtype)

    def run(counted: Counted) -> Any:
        del counted
        optimizer.step(closure)
        return scipy.optimize.OptimizeResult(x=x, success=False, message="")

    return guarded(run, counted, start)


SCIPY = {
    "bfgs": "BFGS",
    "lbfgs": "L-BFGS-B",
    "nonlinear-cg": "CG",
    "newton-cg": "Newton-CG",
    "trust-ncg": "trust-ncg",
    "newton-lanczos": "trust-krylov",
    "trust-exact": "trust-exact",
}
PEERS = {
    "bfgs": "bfgs",
    "lbfgs": "l-bfgs",
    "nonlinear-cg": "cg",
    "newton": "newton-exact",
    "newton-cg": "newton-cg",
    "trust-ncg": "trust-ncg",
    "newton-lanczos": "trust-krylov",
    "trust-exact": "trust-exact",
}
METHODS = (*SCIPY, "newton", "saddle-free", "hessian-free")  # "cg" is for quadratics


def families(methods: list[str]) -> dict[str, dict[str, Solver]]:
    """For each of our methods: it, and the peers' of the same kind, by their names in tables."""
    made: dict[str, dict[str, Solver]] = {}
    for method in methods:
        row = {method: ours(method)}
        if method in SCIPY:
            row[f"scipy {SCIPY[method]}"] = scipys(SCIPY[method])
        if method in PEERS and TORCHMIN:
            row[f"torchmin {PEERS[method]}"] = torchmins(PEERS[method])
        if method == "lbfgs":
            row["torch LBFGS"] = torchs
        made[method] = row
    return made


# ---- sums of squares ------------------------------------------------------------------------
def fit(fn: Function, start: Tensor, tight: bool, seconds: float) -> Run:
    """``tw.least_squares``, Levenberg-Marquardt."""
    tol = TIGHT if tight else None
    found = tw.least_squares(fn, start, "lm", tol=tol, maxiter=MOST, time_budget=seconds)
    return Run(found.x.numpy(), found.success, found.nfev, found.njev, found.message)


def scipy_fit(method: str, fn: Function, start: Tensor, tight: bool, seconds: float) -> Run:
    """``scipy.optimize.least_squares`` with exact Jacobians; tight is 2.3e-16 here."""
    counted = Counted(fn, seconds)
    tests = dict.fromkeys(("ftol", "xtol", "gtol"), 2.3e-16) if tight else {}

    def run(counted: Counted) -> Any:
        return scipy.optimize.least_squares(
            counted.array,
            start.numpy(),
            counted.jacobian,
            method=method,  # type: ignore[arg-type]
            max_nfev=MOST,
            **tests,
        )

    return guarded(run, counted, start)


def torchmin_fit(fn: Function, start: Tensor, tight: bool, seconds: float) -> Run:
    """``torchmin.least_squares`` with its exact solver."""
    import torchmin  # type: ignore[import-not-found]

    counted = Counted(fn, seconds)
    tests = dict.fromkeys(("ftol", "xtol", "gtol"), 2.3e-16) if tight else {}

    def run(counted: Counted) -> Any:
        return torchmin.least_squares(
            counted.plain, start, max_nfev=MOST, tr_solver="exact", **tests
        )

    return guarded(run, counted, start)


def fits() -> dict[str, Solver]:
    """Every solver of sums of squares."""
    made: dict[str, Solver] = {"lm": fit}
    for method in ("lm", "trf"):
        made[f"scipy {method}"] = partial(scipy_fit, method)
    if TORCHMIN:
        made["torchmin trf"] = torchmin_fit
    return made
