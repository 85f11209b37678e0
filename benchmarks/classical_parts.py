"""The parts of the benchmark that count: sets of problems, what counts as solved, records."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.optimize
import torch
from classical_solvers import (
    MOST,
    Counted,
    Function,
    Run,
    families,
    fits,
    guarded,
)
from torch import Tensor

import thalweg as tw
from thalweg.numerics.lanczos_model import LanczosModel
from thalweg.numerics.quadratic_model import QuadraticModel
from thalweg.numerics.steihaug import Truncation
from thalweg.problems import bounded_set, least_squares_set, quadratic_set


RESIDUAL = 1e-10  # of a quadratic, relative: solved
EXACT = 1e-8  # of a trust-region problem's value, relative: solved


@dataclass(frozen=True)
class Task:
    """A function, a start, and what counts as solved."""

    name: str
    n: int
    fn: Function
    start: Tensor
    solved: Callable[[np.ndarray], bool]
    digits: Callable[[np.ndarray], float] | None = None


def record(
    part: str, task: Task, solver: str, tight: bool, family: str, run: Run
) -> dict[str, Any]:
    """One run as plain data."""
    finite = bool(np.isfinite(run.x).all())
    row = {
        "part": part,
        "problem": task.name,
        "n": task.n,
        "solver": solver,
        "family": family,
        "tight": tight,
        "solved": finite and task.solved(run.x),
        "success": run.success,
        "values": run.values,
        "derivatives": run.derivatives,
        "message": run.message,
    }
    if task.digits is not None:
        row["digits"] = round(task.digits(run.x), 2) if finite else 0.0
    return row


def regressions(name: str, least: float, *, residuals: bool) -> list[Task]:
    """A set of sums of squares; NIST's is solved where all parameters have so many digits."""
    tasks = []
    for problem in least_squares_set(name):
        for k in range(len(problem.starts)):
            fn: Any = problem.residuals if residuals else problem

            def digits(x: Any, problem: Any = problem) -> float:
                return problem.digits(torch.as_tensor(x))

            def low(x: Any, problem: Any = problem) -> bool:
                return problem.solved(float(problem(torch.as_tensor(x))))

            def near(x: Any, digits: Any = digits) -> bool:
                return digits(x) >= least

            label = f"{problem.name}/{k + 1}" if len(problem.starts) > 1 else problem.name
            certified = problem.certified is not None
            solved = near if certified else low
            known = digits if certified else None
            tasks.append(Task(label, problem.n, fn, problem.start(k), solved, known))
    return tasks


def squares(seconds: float) -> Iterator[dict[str, Any]]:
    """Least squares: NIST to six digits and MGH, default and tight tolerances."""
    for name in ("nist", "mgh"):
        for task in regressions(name, 6.0, residuals=True):
            for solver, solve in fits().items():
                for tight in (False, True):
                    run = solve(task.fn, task.start, tight, seconds)
                    yield record(f"least-squares-{name}", task, solver, tight, "lm", run)


def _raced(
    part: str, tasks: list[Task], methods: list[str], tights: tuple[bool, ...], seconds: float
) -> Iterator[dict[str, Any]]:
    for family, solvers in families(methods).items():
        for solver, solve in solvers.items():
            for task in tasks:
                for tight in tights:
                    run = solve(task.fn, task.start, tight, seconds)
                    yield record(part, task, solver, tight, family, run)


def nist(methods: list[str], seconds: float) -> Iterator[dict[str, Any]]:
    """The plain sum of squares of NIST's sets, tight tolerances, to four digits."""
    tasks = regressions("nist", 4.0, residuals=False)
    return _raced("nist", tasks, methods, (True,), seconds)


def mgh(methods: list[str], seconds: float) -> Iterator[dict[str, Any]]:
    """The functions of More, Garbow and Hillstrom, default and tight tolerances."""
    tasks = regressions("mgh", 4.0, residuals=False)
    return _raced("mgh", tasks, methods, (False, True), seconds)


def quadratics(methods: list[str], seconds: float) -> Iterator[dict[str, Any]]:
    """Symmetric positive definite quadratics, tight, to a relative residual of 1e-10."""
    tasks = []
    for problem in quadratic_set():

        def solved(x: Any, problem: Any = problem) -> bool:
            return problem.residual(torch.as_tensor(x)) <= RESIDUAL

        tasks.append(Task(problem.name, problem.n, problem, problem.start(), solved))
    return _raced("quadratics", tasks, methods, (True,), seconds)


# ---- bounds ---------------------------------------------------------------------------------
def _spectral(problem: Any, seconds: float) -> Run:
    found = tw.minimize(
        problem, problem.point(), "projected-gradient", bounds=problem.bounds(),
        maxiter=MOST, time_budget=seconds,
    )  # fmt: skip
    return Run(found.x.numpy(), found.success, found.nfev, found.ngev, found.message)


def _armijo(problem: Any, seconds: float) -> Run:
    """Projected gradient with halving along the arc from a rate of 1: the textbook's."""
    counted = Counted(problem, seconds)
    x = problem.project(problem.point()).numpy()

    def run(counted: Counted) -> Any:
        point = x
        value, grad = counted.both(point)
        while counted.values < MOST:
            rate = 1.0
            while True:
                trial = problem.project(torch.from_numpy(point - rate * grad)).numpy()
                reached, slope = counted.both(trial)
                if reached <= value + 1e-4 * grad @ (trial - point) or rate < 1e-20:
                    break
                rate /= 2
            moved = np.abs(trial - point).max()
            point, value, grad = trial, reached, slope
            ended = problem.optimality(torch.from_numpy(point)) <= 1e-8
            if ended or moved == 0.0:
                break
        return scipy.optimize.OptimizeResult(x=point, success=bool(ended), message="")

    return guarded(run, counted, torch.from_numpy(x))


def _scipy_bounded(problem: Any, seconds: float) -> Run:
    counted = Counted(problem, seconds)
    lower, upper = (side.numpy() for side in problem.bounds())
    start = problem.project(problem.point())

    def run(counted: Counted) -> Any:
        bounds = scipy.optimize.Bounds(lower, upper)
        return scipy.optimize.minimize(
            counted.both, start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": MOST, "maxfun": 10 * MOST, "ftol": 1e-15, "gtol": 1e-8},
        )  # fmt: skip

    return guarded(run, counted, start)


def bounded(seconds: float) -> Iterator[dict[str, Any]]:
    """Problems with bounds: spectral projected gradients, plain ones, scipy's L-BFGS-B."""
    solvers = {
        "projected-gradient": _spectral,
        "plain projected gradient": _armijo,
        "scipy L-BFGS-B (bounds)": _scipy_bounded,
    }
    for problem in bounded_set():

        def solved(x: Any, problem: Any = problem) -> bool:
            inside = torch.as_tensor(x)
            feasible = bool((problem.project(inside) == inside).all())
            return feasible and problem.solved(float(problem(inside)))

        n = len(problem.start)
        task = Task(problem.name, n, problem, problem.point(), solved)
        for solver, solve in solvers.items():
            run = solve(problem, seconds)
            yield record("bounded", task, solver, False, "projected-gradient", run)


# ---- trust-region problems ------------------------------------------------------------------
def _model(kind: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, float, float]:
    """H, g, the radius and the least value of the model, known by how it is made.

    With a multiplier s that makes H + s I semidefinite, any p of length r solves the problem whose
    gradient is -(H + s I) p.
    """
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    values = np.sort(rng.standard_normal(n) * 3)
    values[0] = min(values[0], -0.5)
    if kind == "definite":
        values = np.abs(values) + 0.1
    low, p = max(0.0, -values[0]), rng.standard_normal(n)
    extra = {"easy": 1.0, "definite": 0.7, "near-hard": 1e-9}.get(kind, 0.0)
    shift = low + extra
    if kind == "g = 0":
        p = np.zeros(n)
        p[0] = 2.0
    g, h = -(values + shift) * p, (q * values) @ q.T
    radius = float(np.linalg.norm(p))
    least = float(g @ p + 0.5 * (values * p) @ p)
    return h, q @ g, radius, least


def _scipys_step(kind: str, h: np.ndarray, g: np.ndarray, radius: float) -> np.ndarray:
    from scipy.optimize._trlib import get_trlib_quadratic_subproblem
    from scipy.optimize._trustregion_exact import IterativeSubproblem

    make: Any = IterativeSubproblem
    if kind == "scipy trust-krylov":
        make = get_trlib_quadratic_subproblem(tol_rel_i=1e-12, tol_rel_b=1e-12)
    else:  # its defaults are content with 10 %
        make = partial(make, k_easy=EXACT / 100, k_hard=EXACT / 100, maxiter=200)
    x = np.zeros(len(g))
    step, _ = make(x, lambda _: 0.0, lambda _: g, lambda _: h, lambda _, v: h @ v).solve(radius)
    return np.asarray(step)


def _our_step(kind: str, h: np.ndarray, g: np.ndarray, radius: float) -> np.ndarray:
    matrix, grad = torch.from_numpy(h), torch.from_numpy(g)
    if kind == "trust-exact":
        return QuadraticModel(grad, matrix).within(radius).step.numpy()
    model = LanczosModel(lambda v: matrix @ v, grad, size=len(g))
    stop = Truncation(1e-12, most=10 * len(g))
    return model.within(radius, stop, explore=len(g), everywhere=True).step.numpy()


FAMILY = {
    "trust-exact": "trust-exact",
    "scipy trust-exact": "trust-exact",
    "newton-lanczos": "newton-lanczos",
    "scipy trust-krylov": "newton-lanczos",
}


def subproblems() -> Iterator[dict[str, Any]]:
    """Trust-region problems: easy, definite, hard, near-hard, g = 0; n = 2 to 100."""
    solvers = {
        "trust-exact": _our_step,
        "scipy trust-exact": _scipys_step,
        "newton-lanczos": _our_step,
        "scipy trust-krylov": _scipys_step,
    }
    kinds, sizes = ("definite", "easy", "near-hard", "hard", "g = 0"), (2, 5, 10, 30, 100)
    for solver, solve in solvers.items():
        for kind, n in itertools.product(kinds, sizes):
            h, g, radius, least = _model(kind, n, 7 * n)

            def solved(p: np.ndarray, h=h, g=g, radius=radius, least=least) -> bool:
                value = g @ p + 0.5 * p @ h @ p
                inside = np.linalg.norm(p) <= radius * (1 + EXACT)
                return bool(inside and abs(value - least) <= EXACT * abs(least))

            task = Task(f"{kind}, n = {n}", n, lambda x: x, torch.zeros(n), solved)
            try:
                step, words = solve(solver, h, g, radius), ""
            except Exception as error:  # a peer's crash is its result
                step, words = np.full(n, np.nan), f"{type(error).__name__}: {error}"[:120]
            run = Run(step, bool(np.isfinite(step).all()), 1, 1, words)
            yield record("subproblems", task, solver, False, FAMILY[solver], run)
