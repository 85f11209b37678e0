"""The door itself: starts of every kind, tests and limits, and what is said; without methods."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import thalweg as tw
from thalweg.minimization import Status, Tolerances
from thalweg.optim import Needs, Reference, StepInfo
from thalweg.optim.deterministic import AbstractDeterministic


class Steepest(AbstractDeterministic):
    """Gradient descent that halves its step until f falls."""

    reference = Reference("Cauchy", "Méthode générale", 1847)

    def __init__(self, params, first=1.0):
        super().__init__(params, {"first": first})

    def descend(self, point):
        return -point.grad

    def advance(self, point, path):
        if not point.grad.any():
            return StepInfo(outcome="stationary")
        t = self.memory.get("t", self.setting["first"]) * 2
        while t > 1e-20:
            x = point.x + t * path
            value, grad = point.value_and_grad(x)
            if value < point.fun:
                point.accept(x, value, grad)
                self.memory["t"] = t
                return StepInfo(t)
            t /= 2
        return StepInfo(0.0, rejected=True, outcome="no progress")


class Pure(AbstractDeterministic):
    """Newton's method without any safeguard."""

    reference = Reference("Newton", "Analysis per quantitatum series", 1669)
    needs = Needs.CURVATURE

    def __init__(self, params):
        super().__init__(params, {})

    def descend(self, point):
        return -torch.linalg.solve(point.hessian(), point.grad)

    def advance(self, point, path):
        x = point.x + path
        value = point.value(x)
        if value >= point.fun:
            return StepInfo(rejected=True, outcome="no progress")
        point.accept(x, value)
        return StepInfo(1.0)


class Creeping(AbstractDeterministic):
    """Steps of 1e-14 of the gradient."""

    reference = Reference("nobody", "creeping", 2000)

    def __init__(self, params):
        super().__init__(params, {})

    def descend(self, point):
        return -1e-14 * point.grad

    def advance(self, point, path):
        x = point.x + path
        point.accept(x, *point.value_and_grad(x))
        return StepInfo(1e-14)


def bowl(x):
    return ((x - 1) ** 2).sum()


def quartic(x):
    return ((x - 1) ** 4).sum() + 2.0


@pytest.mark.parametrize(
    "x0",
    [
        torch.zeros(3, dtype=torch.float64),
        torch.zeros(2, 2),
        np.zeros(3, dtype=np.float32),
        np.zeros((2, 2)),
        [0.0, 3.0],
        5,
        torch.tensor(2.0),
    ],
    ids=str,
)
def test_the_answer_is_of_the_kind_of_the_start(x0):
    kept = x0.clone() if isinstance(x0, torch.Tensor) else x0
    result = tw.minimize(bowl, x0, Steepest)
    assert result.success
    if isinstance(x0, torch.Tensor):
        assert result.x.dtype == x0.dtype
        assert torch.equal(x0, kept)
    else:
        assert isinstance(result.x, np.ndarray)
    assert np.shape(result.x) == np.shape(x0)
    assert np.shape(result.grad) == np.shape(x0)
    np.testing.assert_allclose(result.x, np.ones(np.shape(x0)), rtol=1e-4)


def test_a_tree_of_tensors():
    def fn(tree):
        return (tree["a"] ** 2).sum() + ((tree["b"][0] - 2) ** 2).sum()

    start = {"a": torch.ones(2, 2), "b": [torch.zeros(())]}
    result = tw.minimize(fn, start, Steepest)
    assert result.x["a"].shape == (2, 2)
    assert result.x["b"][0].item() == pytest.approx(2.0, rel=1e-4)
    assert torch.equal(start["a"], torch.ones(2, 2))


@pytest.mark.parametrize("x0", [[], torch.zeros(0), {}, {"a": torch.ones(1), "b": 3}, "text"])
def test_a_start_that_is_none_is_refused(x0):
    with pytest.raises(ValueError, match=r"^minimize\(x0=.*\): x0 must be "):
        tw.minimize(bowl, x0, Steepest)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"maxiter": -1}, "maxiter must be"),
        ({"maxfev": "many"}, "maxfev must be"),
        ({"time_budget": -0.5}, "time_budget must be"),
        ({"gtol": -1.0}, "gtol must be"),
        ({"bounds": (0, 1)}, "bounds must be None with method="),
        ({"method": "bfg"}, "Did you mean 'bfgs'"),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        tw.minimize(bowl, [0.0], **{"method": Steepest, **options})


def test_a_start_at_the_optimum_returns_at_once():
    for method in (Steepest, Pure):
        result = tw.minimize(bowl, torch.ones(3), method)
        assert (result.nit, result.status, result.success) == (0, Status.GRADIENT, True)
        assert result.nfev <= 2


def test_a_function_that_is_not_finite_at_the_start():
    result = tw.minimize(lambda x: x.log().sum(), [-1.0], Steepest)
    assert result.status is Status.NON_FINITE_START
    assert not result.success
    assert result.x.tolist() == [-1.0]
    assert (result.nit, result.nfev) == (0, 1)


def test_limits_and_what_is_counted():
    calls = []

    def counted(x):
        calls.append(1)
        return quartic(x)

    result = tw.minimize(counted, [4.7], Steepest, maxiter=7)
    assert (result.status, result.nit, result.success) == (Status.ITERATIONS, 7, False)
    assert result.nfev == result.ngev == len(calls)
    assert "7 of 7 iterations" in result.message
    result = tw.minimize(quartic, [4.7], Steepest, maxfev=10)
    assert result.status is Status.EVALUATIONS
    assert result.nfev >= 10
    assert tw.minimize(quartic, [4.7], Steepest, time_budget=0).status is Status.TIME


def test_the_best_value_and_every_point_are_kept():
    seen = []
    result = tw.minimize(quartic, [4.7, 3.1], Steepest, maxiter=5, return_all=True,
                         callback=lambda r: seen.append((r.nit, r.fun)) and None)  # fmt: skip
    assert len(result.allvecs) == 6
    assert result.allvecs[0].tolist() == [4.7, 3.1]
    assert result.fun == pytest.approx(float(quartic(torch.tensor(result.allvecs[-1]))))
    assert [n for n, _ in seen] == [1, 2, 3, 4, 5]
    assert result.optimality == pytest.approx(np.abs(result.grad).max())


@pytest.mark.parametrize("how", ["true", "raise"])
def test_a_callback_stops(how):
    def callback(result):
        if how == "raise" and result.nit == 2:
            raise StopIteration
        return result.nit == 2

    result = tw.minimize(quartic, [4.7], Steepest, callback=callback)
    assert (result.status, result.nit, result.success) == (Status.CALLBACK, 2, False)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_tests_do_not_depend_on_the_units_of_f(scale):
    results = [tw.minimize(lambda x, s=s: s * quartic(x), [5.0], Pure) for s in (1.0, scale)]
    assert results[0].nit == results[1].nit
    assert results[0].status is results[1].status


def test_tolerances_by_name_and_all_at_once():
    loose = tw.minimize(quartic, [5.0], Pure, tol=1e-3)
    tight = tw.minimize(quartic, [5.0], Pure, gtol=0, ftol=0, xtol=0)
    assert loose.nit < tight.nit
    assert loose.success
    assert Tolerances().of(torch.float32).gtol > Tolerances().of(torch.float64).gtol
    assert tight.status in {Status.PRECISION, Status.GRADIENT, Status.STEP, Status.FUNCTION}


def test_an_end_far_from_a_minimum_is_no_success():
    class Stuck(Pure):
        def advance(self, point, path):
            return StepInfo(rejected=True, outcome="failed")

    result = tw.minimize(quartic, [5.0], Stuck)
    assert (result.status, result.success) == (Status.SEARCH_FAILED, False)
    assert "relative gradient" in result.message


@pytest.mark.parametrize("start", [1e-14, 1.0])
def test_a_point_near_zero_is_not_taken_for_a_minimum(start):
    """From 1 the first radius leads to within 1e-13 of 0; the minimum is at -1."""
    result = tw.minimize(
        lambda x: (x + 1).square().sum() + 5.0,
        torch.full((3,), start, dtype=torch.float64),
        "trust-exact",
        options={"radius": 3**0.5 * (1 - 1e-13)},
    )
    assert result.success
    torch.testing.assert_close(result.x, torch.full((3,), -1.0, dtype=torch.float64))


def test_a_start_near_zero_is_not_taken_for_a_minimum_by_methods_of_first_order():
    result = tw.minimize(lambda x: (x + 1).square().sum() + 5.0, [1e-14, 1e-14], Steepest)
    assert result.nit > 0
    np.testing.assert_allclose(result.x, [-1.0, -1.0])


@pytest.mark.parametrize("fail", [False, True])
def test_short_steps_beside_a_steep_gradient_are_no_success(fail):
    """Steps of 1e-14 of x down a slope of 1: stuck, though nothing changes noticeably."""
    start = torch.full((2,), 1.0 if fail else 1.0 - 1e-9, dtype=torch.float64)
    fn = (lambda x: 3.0 + x.sum()) if fail else (lambda x: 3.0 + ((x - 1) ** 2).sum())
    result = tw.minimize(fn, start, Creeping, maxiter=30)
    assert result.success is (not fail)
    assert (result.status.name == "ITERATIONS") is fail


def test_a_tolerance_below_rounding_leaves_the_end_to_the_gradient():
    """The value stops changing long before the gradient: with ftol under 8 eps that is no end."""
    scale = torch.logspace(0, 3, 12, dtype=torch.float64)
    reached = {}
    for tol in (None, 1e-15):
        found = tw.minimize(
            lambda x: 5.0 + 0.5 * (scale * (x - 1).square()).sum(),
            torch.zeros(12, dtype=torch.float64),
            "bfgs",
            gtol=0.0,
            xtol=0.0,
            ftol=tol,
        )
        assert found.success
        reached[tol] = (found.status, found.optimality)
    assert reached[None][0] is Status.FUNCTION
    assert reached[1e-15][0] is not Status.FUNCTION
    assert reached[1e-15][1] < 1e-2 * reached[None][1]
