"""least_squares on the classical sets, against scipy, and what users rely on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import optimize

import thalweg as tw
from thalweg import problems
from thalweg.minimization import Status


NIST = problems.least_squares_set("nist")
MGH = problems.least_squares_set("mgh")
RUNS = [(problem, index) for problem in NIST for index in range(2)]
LONG = {"MGH17", "meyer", "brown-dennis", "penalty-1-10", "penalty-2-10"}  # hundreds of steps


def marked(problem, *more):
    slow = problem.name in LONG and more in {(), (0,)}
    marks = [pytest.mark.slow] if slow else []
    name = "-".join([problem.name, *map(str, more)])
    return pytest.param(problem, *more, id=name, marks=marks)


T = torch.linspace(0, 3, 12, dtype=torch.float64)
Y = 2.0 * torch.exp(-0.7 * T) + 0.3 + 0.02 * torch.cos(7 * T)


def decay(x):
    return x[0] * torch.exp(-x[1] * T.to(x)) + x[2] - Y.to(x)


START = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)


# ---- the classical sets -------------------------------------------------------------------------


@pytest.mark.parametrize(("problem", "index"), [marked(*run) for run in RUNS])
def test_nist_to_six_digits_at_default_tolerances(problem, index):
    result = tw.least_squares(problem.residuals, problem.start(index))
    assert result.success, str(result)
    assert problem.digits(result.x) >= 7.5
    certified = torch.tensor(problem.certified.deviations, dtype=torch.float64)
    torch.testing.assert_close(result.deviations, certified, rtol=1e-6, atol=0)
    assert 2 * result.cost == pytest.approx(problem.minima[0], rel=1e-10)
    assert result.angle <= 1.5e-8


@pytest.mark.slow
def test_nist_takes_fewer_evaluations_than_minpack():
    """Medians at our defaults against MINPACK's at tolerances that solve the same runs."""
    ours, theirs = [], []
    for problem, index in RUNS:
        if (problem.name, index) in {("MGH17", 0), ("Nelson", 0), ("Lanczos3", 0)}:
            continue  # long ones, of either
        result = tw.least_squares(problem.residuals, problem.start(index))
        ours.append((result.nfev, result.njev))
        jacobian = torch.func.jacrev(problem.residuals)
        other = optimize.least_squares(
            lambda x, p=problem: p.residuals(torch.from_numpy(x)).numpy(),
            problem.start(index).numpy(),
            lambda x, j=jacobian: j(torch.from_numpy(x)).numpy(),
            method="lm", xtol=2.3e-16, ftol=2.3e-16, gtol=2.3e-16,
        )  # fmt: skip
        theirs.append(other.nfev)
    assert np.median(ours, 0)[0] <= 0.7 * np.median(theirs)
    assert np.median(ours, 0)[1] <= 12


@pytest.mark.parametrize("problem", [marked(p) for p in MGH])
def test_more_garbow_hillstrom_at_default_tolerances(problem):
    result = tw.least_squares(problem.residuals, problem.start())
    assert problem.solved(2 * result.cost)
    assert result.success, str(result)
    assert result.nit < 450
    assert result.njev <= result.nfev
    x = problem.start().requires_grad_()
    assert result.residuals.shape == (problem.m,)
    torch.testing.assert_close(result.residuals, problem.residuals(result.x))
    rows = torch.func.jacrev(problem.residuals)(result.x)
    torch.testing.assert_close(result.jacobian, rows)
    torch.testing.assert_close(result.grad, rows.T @ result.residuals, rtol=1e-6, atol=1e-12)
    assert x.requires_grad  # the caller's tensor is not touched


EASY = [p for p in MGH if p.name in {"rosenbrock", "beale", "box", "wood", "watson-6", "osborne-2"}]


@pytest.mark.parametrize("problem", EASY, ids=lambda p: p.name)
@pytest.mark.parametrize(
    "options",
    [
        {"damping": "nielsen"},
        {"damping": "nielsen", "scaling": "marquardt"},
        {"scaling": "levenberg"},
        {"geodesic": True},
        {"solver": "lsmr"},
    ],
    ids=str,
)
def test_every_variant_solves_the_easy_ones(problem, options):
    if options.get("solver") == "lsmr" and problem.name not in {"beale", "box"}:
        pytest.skip("products are for large problems")
    result = tw.least_squares(problem.residuals, problem.start(), options=options)
    assert problem.solved(2 * result.cost)
    assert result.success, str(result)
    assert (result.jacobian is None) == (options.get("solver") == "lsmr")
    assert (result.nhvp > 0) == (options.get("solver") == "lsmr")


def test_gauss_newton_where_it_is_at_home():
    for problem, index in RUNS:
        if problem.name in {"DanWood", "Gauss1", "Kirby2"} or (problem.name, index) == (
            "Misra1a",
            1,
        ):
            result = tw.least_squares(problem.residuals, problem.start(index), "gauss-newton")
            assert result.success
            assert problem.digits(result.x) >= 7.5


# ---- what does not change it --------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2.0**-40, 2.0**40])
@pytest.mark.parametrize("unit", [2.0**-30, 2.0**30])
def test_units_change_nothing(factor, unit):
    plain = tw.least_squares(decay, START)
    units = torch.tensor([1.0, unit, 1.0], dtype=torch.float64)
    other = tw.least_squares(lambda x: factor * decay(x / units), START * units)
    assert (other.nfev, other.nit, other.status) == (plain.nfev, plain.nit, plain.status)
    torch.testing.assert_close(other.x / units, plain.x, rtol=1e-7, atol=0)
    torch.testing.assert_close(other.deviations / units, plain.deviations, rtol=1e-6, atol=0)


def test_start_at_the_minimum_returns_at_once():
    x = tw.least_squares(decay, START, gtol=1e-12).x
    again = tw.least_squares(decay, x)
    assert (again.nit, again.nfev, again.njev, again.status) == (0, 1, 1, Status.GRADIENT)
    assert torch.equal(again.x, x)
    zero = tw.least_squares(lambda x: x - 1, torch.ones(3))
    assert (zero.nit, zero.cost, zero.success) == (0, 0.0, True)


@pytest.mark.parametrize("loss", ["linear", "soft_l1", "huber", "cauchy", "arctan"])
def test_robust_losses_end_where_scipys_do(loss):
    wild = Y.clone()
    wild[3] += 0.5

    def residuals(x):
        return x[0] * torch.exp(-x[1] * T) + x[2] - wild

    ours = tw.least_squares(residuals, START, loss=loss, loss_scale=0.1)
    theirs = optimize.least_squares(
        lambda x: residuals(torch.from_numpy(x)).numpy(),
        START.numpy(),
        lambda x: torch.func.jacrev(residuals)(torch.from_numpy(x)).numpy(),
        loss=loss, f_scale=0.1, xtol=1e-15, ftol=1e-15, gtol=1e-12,
    )  # fmt: skip
    assert ours.success
    assert ours.cost == pytest.approx(theirs.cost, rel=1e-9)
    np.testing.assert_allclose(ours.x.numpy(), theirs.x, rtol=1e-4)
    np.testing.assert_allclose(ours.grad.numpy(), 0.0, atol=1e-6)
    assert (ours.covariance is None) == (loss != "linear")


def test_fewer_residuals_than_unknowns():
    def residuals(x):
        return torch.stack([x[0] * x[1] - 2, x[2] ** 2 + x[0] - 3])

    result = tw.least_squares(residuals, torch.ones(3, dtype=torch.float64))
    assert result.success
    assert result.cost < 1e-28
    assert result.covariance.isnan().all()


def test_products_alone_reach_the_same_minimum_of_a_large_problem():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(120, 90, generator=generator, dtype=torch.float64)

    def residuals(x):
        return torch.tanh(A @ x / 10) + 0.01 * (A @ x) - 0.1

    start = torch.zeros(90, dtype=torch.float64)
    ours = tw.least_squares(residuals, start, options={"solver": "lsmr"}, gtol=1e-6)
    dense = tw.least_squares(residuals, start, gtol=1e-6)
    assert ours.success
    assert ours.cost == pytest.approx(dense.cost, rel=1e-9)
    assert ours.njev == 0


# ---- kinds, limits, messages --------------------------------------------------------------------


def test_arrays_trees_and_shapes():
    array = tw.least_squares(decay, np.array([1.0, 1.0, 0.0]))
    assert all(isinstance(v, np.ndarray) for v in (array.x, array.grad, array.jacobian,
                                                   array.residuals, array.covariance))  # fmt: skip
    assert isinstance(array.deviations, np.ndarray)

    def of_tree(x):
        return decay(torch.cat([x["a"].reshape(1), x["b"].reshape(2)]))

    tree = {"a": torch.ones(()).double(), "b": torch.tensor([[1.0], [0.0]]).double()}
    found = tw.least_squares(of_tree, tree)
    assert found.x["b"].shape == (2, 1)
    np.testing.assert_allclose(found.x["b"].reshape(-1), array.x[1:], rtol=1e-9)
    matrix = tw.least_squares(lambda x: (x**2 - 4).reshape(3, 2), torch.full((2, 3), 1.0))
    torch.testing.assert_close(matrix.x, torch.full((2, 3), 2.0))


def test_float32_stops_at_its_own_precision():
    exact = tw.least_squares(decay, START)
    single = tw.least_squares(decay, START.float())
    assert single.x.dtype == torch.float32
    assert single.success
    assert ((single.x - exact.x).abs() / exact.deviations).max() < 3e-3
    assert single.nit <= exact.nit


@pytest.mark.parametrize("method", ["lm", "gauss-newton"])
def test_limits_callback_and_history(method):
    seen = []
    full = tw.least_squares(decay, START, method, return_all=True, callback=seen.append)
    assert len(full.allvecs) == full.nit + 1
    assert torch.equal(full.allvecs[0], START)
    assert torch.equal(full.allvecs[-1], full.x)
    costs = [result.cost for result in seen]
    assert costs == sorted(costs, reverse=True)
    assert [result.nit for result in seen] == list(range(1, full.nit))
    two = tw.least_squares(decay, START, method, maxiter=2)
    assert (two.nit, two.status, two.success) == (2, Status.ITERATIONS, False)
    assert torch.equal(two.x, full.allvecs[2])
    assert tw.least_squares(decay, START, method, maxfev=3).status is Status.EVALUATIONS
    late = tw.least_squares(decay, START, method, time_budget=0.0)
    assert (late.status, late.nit) == (Status.TIME, 0)
    stopped = tw.least_squares(decay, START, method, callback=lambda r: r.nit == 1)
    assert (stopped.status, stopped.nit) == (Status.CALLBACK, 1)

    def stop(result):
        raise StopIteration

    assert tw.least_squares(decay, START, method, callback=stop).status is Status.CALLBACK
    assert "2 of 2 iterations" in str(two)


def test_tolerances_by_name():
    loose = tw.least_squares(decay, START, gtol=1e-2)
    assert loose.message.startswith("the gradient is small enough: angle")
    assert "<= gtol 0.01" in loose.message
    by_cost = tw.least_squares(decay, START, gtol=0.0, ftol=1e-3)
    assert by_cost.status in {Status.FUNCTION, Status.PRECISION}
    by_step = tw.least_squares(decay, START, gtol=0.0, ftol=0.0, xtol=1e-2)
    assert by_step.status is Status.STEP
    assert "<= xtol 0.01" in by_step.message
    assert tw.least_squares(decay, START, tol=1e-2).nfev <= loose.nfev
    tight = tw.least_squares(decay, START, tol=0.0)
    assert tight.status in {Status.PRECISION, Status.GRADIENT}
    assert tight.success


def test_nan_at_the_start_is_said_and_nan_elsewhere_is_too_far():
    nan = tw.least_squares(lambda x: x.log(), torch.tensor([-1.0]))
    assert (nan.status, nan.success, nan.nit) == (Status.NON_FINITE_START, False, 0)
    assert "nan" in nan.message
    assert nan.x.tolist() == [-1.0]
    bad = tw.least_squares(lambda x: x.sqrt() + 1, torch.zeros(2))  # its slope is infinite
    assert bad.status is Status.NON_FINITE_START
    assert "Jacobian" in bad.message
    wall = tw.least_squares(lambda x: torch.log(x) - 2, torch.full((1,), 100.0).double())
    assert wall.success
    assert wall.x.item() == pytest.approx(math.exp(2))


def test_a_minimum_at_infinity_or_none_is_no_success():
    down = tw.least_squares(lambda x: torch.exp(-x) + 1, torch.zeros(1).double(), maxiter=30)
    assert down.cost >= 0.5
    kink = tw.least_squares(
        lambda x: torch.stack([x[0].abs() + 1, (x[0] - 1e-3).abs()]), torch.ones(1).double()
    )
    assert not (kink.success and kink.x.item() > 1e-2)


def test_an_exception_in_the_residuals_comes_through():
    calls = []

    def failing(x):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return decay(x)

    start = START.clone()
    with pytest.raises(KeyboardInterrupt):
        tw.least_squares(failing, start)
    assert torch.equal(start, START)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"least_squares: unknown method 'lmm'.*'lm'"):
        tw.least_squares(decay, START, "lmm")
    with pytest.raises(ValueError, match=r"method must be a least-squares method"):
        tw.least_squares(decay, START, tw.optim.Adam)
    with pytest.raises(ValueError, match=r"least_squares\(gtol=-1\): gtol must be"):
        tw.least_squares(decay, START, gtol=-1)
    with pytest.raises(ValueError, match=r"least_squares\(maxiter=-1\)"):
        tw.least_squares(decay, START, maxiter=-1)
    with pytest.raises(ValueError, match=r"LevenbergMarquardt\(loss='l1'\): loss must be one of"):
        tw.least_squares(decay, START, loss="l1")
    with pytest.raises(TypeError, match="residuals must be a tensor"):
        tw.least_squares(lambda _: [1.0], START)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    m=st.integers(1, 6),
    n=st.integers(1, 5),
    method=st.sampled_from(["lm", "gauss-newton"]),
    kind=st.sampled_from(["smooth", "wall", "constant", "copies", "steep"]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_nothing_crashes_and_nothing_gets_worse(seed, m, n, method, kind, dtype):
    generator = torch.Generator().manual_seed(seed)
    A, b = (torch.randn(*s, generator=generator, dtype=dtype) for s in ((m, n), (m,)))

    def residuals(x):
        u = A @ x
        if kind == "wall":
            return torch.sqrt(1.5 - u) + b
        if kind == "constant":
            return b + 0.0 * u
        if kind == "copies":
            return torch.sin(u.sum() * torch.ones_like(b)) + b
        return u + torch.exp(u * (30 if kind == "steep" else 1)) - b

    start = 0.1 * torch.randn(n, generator=generator, dtype=dtype)
    first = 0.5 * residuals(start).double().square().sum().item()
    result = tw.least_squares(residuals, start, method, maxiter=40)
    assert result.x.isfinite().all()
    if result.status is not Status.NON_FINITE_START:
        assert result.cost <= first * (1 + 1e-5)
        assert math.isfinite(result.optimality)
