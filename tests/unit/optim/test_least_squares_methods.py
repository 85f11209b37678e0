"""Levenberg-Marquardt and Gauss-Newton against equations worked out in the test."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import thalweg as tw
from thalweg.optim import GaussNewton, LevenbergMarquardt


def curve(x):
    return torch.stack([x[0] ** 2 + x[1] - 3, x[0] * x[1] - 1, x[0] - 2 * x[1] ** 2])


def at(x, fn=curve):
    """Residuals and Jacobian by one backward pass a row."""
    leaf = x.detach().clone().requires_grad_()
    r = fn(leaf)
    rows = [torch.autograd.grad(entry, leaf, retain_graph=True)[0] for entry in r]
    return r.detach(), torch.stack(rows)


def begun(cls=LevenbergMarquardt, fn=curve, start=(2.0, 0.5), **options):
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    return x, cls([x], **options), tw.Objective.residuals(fn).closure(x)


@pytest.mark.parametrize("scaling", ["more", "marquardt", "levenberg"])
@pytest.mark.parametrize("damping", ["trust-region", "nielsen"])
def test_a_step_solves_the_damped_normal_equations(scaling, damping):
    x, optimizer, closure = begun(scaling=scaling, damping=damping)
    largest = torch.zeros(2, dtype=torch.float64)
    for _ in range(5):
        before = x.detach().clone()
        r, J = at(before)
        largest = torch.maximum(largest, J.norm(dim=0))
        D = {"more": largest, "marquardt": J.norm(dim=0), "levenberg": torch.ones(2).double()}
        loss = optimizer.step(closure)
        assert float(loss) == pytest.approx(0.5 * float(r.dot(r)), rel=1e-14)
        details = optimizer.info.details
        matrix = J.T @ J + details["damping"] * torch.diag(D[scaling] ** 2)
        step = -torch.linalg.solve(matrix, J.T @ r)
        torch.testing.assert_close(x.detach() - before, step, rtol=1e-6, atol=1e-12)
        fall = 0.5 * (r.dot(r) - (r + J @ step).square().sum())
        assert details["predicted"] == pytest.approx(float(fall), rel=1e-6)
        gained = float(0.5 * (r.dot(r) - at(x)[0].square().sum()))
        if details["predicted"] > 10 * details["rounding"]:
            assert details["ratio"] == pytest.approx(gained / float(fall), rel=1e-4)
        torch.testing.assert_close(x.grad, at(x)[1].T @ at(x)[0], rtol=1e-9, atol=1e-12)


def test_nielsens_damping_by_hand():
    x, optimizer, closure = begun(damping="nielsen")
    optimizer.step(closure)
    assert optimizer.info.details["damping"] == 1e-3
    ratio = optimizer.info.details["ratio"]
    expected = 1e-3 * max(1 / 3, 1 - (2 * ratio - 1) ** 3)
    optimizer.step(closure)
    assert optimizer.info.details["damping"] == pytest.approx(expected, rel=1e-12)
    assert x.requires_grad


def test_the_radius_holds_the_step_and_shrinks_after_a_refusal():
    steep = lambda x: torch.stack([torch.exp(3 * x[0]) - 1, x[0] + x[1]])  # noqa: E731
    x, optimizer, closure = begun(fn=steep, start=(-3.0, 1.0))
    value = closure.value()
    for _ in range(12):
        before = float(closure.value())
        optimizer.step(closure)
        assert float(closure.value()) <= before
        details = optimizer.info.details
        if details["rejections"]:
            assert details["damping"] > 0
    assert closure.value() < 1e-20 < value
    assert optimizer.counts.nfev > optimizer.counts.ngev  # refused trials cost no Jacobian
    assert x.isfinite().all()


def test_geodesic_acceleration_follows_a_bend():
    """On a parabola's valley the step with acceleration lands nearer to the bottom."""
    valley = lambda x: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])  # noqa: E731
    counts = {}
    for geodesic in (False, True):
        _, optimizer, closure = begun(fn=valley, start=(-1.2, 1.0), geodesic=geodesic)
        while closure.value() > 1e-20:
            optimizer.step(closure)
        counts[geodesic] = optimizer.counts.ngev
    assert counts[True] < counts[False]


def test_gauss_newton_solves_a_linear_problem_at_once_and_shortest():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(6, 3, generator=generator, dtype=torch.float64) @ torch.tensor(
        [[1.0, 0.0, 1.0, 2.0], [0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64
    )
    b = torch.randn(6, generator=generator, dtype=torch.float64)
    x, optimizer, closure = begun(GaussNewton, lambda x: A @ x - b, (0.0, 0.0, 0.0, 0.0))
    optimizer.step(closure)
    assert optimizer.info.details["rank"] == 2
    # The shortest in units in which columns have length 1.
    norms = A.norm(dim=0)
    shortest = torch.linalg.pinv(A / norms) @ b / norms
    torch.testing.assert_close(x.detach(), shortest, rtol=1e-9, atol=1e-12)
    optimizer.step(closure)
    torch.testing.assert_close(x.detach(), shortest, rtol=1e-9, atol=1e-12)


def test_gauss_newton_backtracks():
    x, optimizer, closure = begun(GaussNewton, lambda x: torch.atan(x) * 5, (3.0,))
    optimizer.step(closure)
    assert 0 < optimizer.info.details["alpha"] < 1
    for _ in range(8):
        optimizer.step(closure)
    assert abs(x.item()) < 1e-9


# ---- models ----------------------------------------------------------------------------------


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).double()


X = torch.randn(40, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.sin(X[:, :2] * 2)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("cls", [LevenbergMarquardt, GaussNewton])
def test_batches_are_one_problem(cls, reduction):
    paths = []
    for split in (None, 13):
        model = network()
        objective = tw.Objective(model, nn.MSELoss(reduction=reduction))
        if split is None:
            closure = objective.closure(X, Y)
        else:
            closure = objective.over(zip(X.split(split), Y.split(split), strict=True))
        optimizer = cls(model.parameters())
        losses = [float(optimizer.step(closure)) for _ in range(4)]
        assert losses[0] == pytest.approx(nn.MSELoss(reduction=reduction)(network()(X), Y).item())
        paths.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    torch.testing.assert_close(*paths, rtol=1e-6, atol=1e-8)


def test_a_network_is_fitted_and_products_do_it_too():
    for solver in ("svd", "lsmr"):
        model = network()
        optimizer = LevenbergMarquardt(model.parameters(), solver=solver)
        closure = tw.Objective(model, nn.functional.mse_loss).closure(X, Y)
        first = closure.value()
        for _ in range(15):
            optimizer.step(closure)
        assert closure.value() < 0.2 * first
        assert (optimizer.counts.nhvp > 0) == (solver == "lsmr")


def test_running_statistics_move_once_and_frozen_parameters_stay():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    model[0].weight.requires_grad_(False)
    kept = model[0].weight.clone()
    optimizer = LevenbergMarquardt(model.parameters())
    closure = tw.Objective(model, nn.functional.mse_loss).closure(X, Y)
    value = closure.value()
    for _ in range(3):
        optimizer.step(closure)
    assert model[1].num_batches_tracked == 1
    assert torch.equal(model[0].weight, kept)
    assert closure.value() < value


@pytest.mark.parametrize("cls", [LevenbergMarquardt, GaussNewton])
def test_closures_without_residuals_are_refused(cls):
    model = network()
    optimizer = cls(model.parameters())
    labels = torch.zeros(40, dtype=torch.long)
    with pytest.raises(TypeError, match=r"the objective is CrossEntropy"):
        optimizer.step(tw.Objective(model, nn.functional.cross_entropy).closure(X, labels))
    with pytest.raises(TypeError, match=r"an ordinary closure does not tell"):
        optimizer.step(lambda: nn.functional.mse_loss(model(X), Y))
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match=r"the objective is a plain function"):
        cls([x]).step(tw.Objective.of(lambda x: x.sum()).closure(x))
    with pytest.raises(ValueError, match="must have the same shape"):
        optimizer.step(tw.Objective(model, nn.functional.mse_loss).closure(X, Y[:1]))


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_jacobian_that_is_not_finite_is_a_step_too_far():
    # The value is finite where x < 0, the slope is NaN.
    fn = lambda x: torch.where(x > 0, x.sqrt(), 0.0 * x) + x  # noqa: E731
    x, optimizer, closure = begun(fn=fn, start=(4.0,))
    for _ in range(40):
        optimizer.step(closure)
        assert x.item() > 0
    assert math.isfinite(closure.value())


def test_parameters_the_function_does_not_use_stay():
    x = torch.tensor([2.0, 0.5], dtype=torch.float64, requires_grad=True)
    other = nn.Parameter(torch.tensor([3.0]))
    optimizer = LevenbergMarquardt([x, other])
    optimizer.step(tw.Objective.residuals(curve).closure(x))
    assert other.item() == 3.0
