"""Damped least squares against stacked problems, and what comes around them against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize

from thalweg.numerics.covariance import covariance
from thalweg.numerics.damped_least_squares import DampedLeastSquares
from thalweg.numerics.damping import column_scale, first_radius, nielsen
from thalweg.numerics.robust import LOSSES, robust_cost, robust_rows


def problem(m, n, condition=1e3, seed=0):
    rng = np.random.default_rng(seed)
    u, _ = np.linalg.qr(rng.standard_normal((m, min(m, n))))
    v, _ = np.linalg.qr(rng.standard_normal((n, min(m, n))))
    matrix = u @ np.diag(np.geomspace(1, 1 / condition, min(m, n))) @ v.T
    scale = rng.uniform(0.1, 10, n)
    return matrix * scale, rng.standard_normal(m), scale


SHAPES = [(12, 4), (5, 5), (3, 7)]


@pytest.mark.parametrize(("m", "n"), SHAPES)
@pytest.mark.parametrize("damping", [0.0, 1e-3, 1.0])
def test_a_damped_step_is_that_of_the_stacked_problem(m, n, damping):
    J, r, scale = problem(m, n)
    made = DampedLeastSquares(*map(torch.from_numpy, (J, r, scale))).damped(damping)
    # In y = D p, where the shortest solution is lstsq's.
    stacked = np.vstack([J / scale, math.sqrt(damping) * np.eye(n)])
    y, *_ = np.linalg.lstsq(stacked, -np.concatenate([r, np.zeros(n)]), rcond=1e-14)
    np.testing.assert_allclose(made.step.numpy(), y / scale, rtol=1e-9, atol=1e-11)
    assert made.length == pytest.approx(np.linalg.norm(y), rel=1e-10)
    assert made.slope == pytest.approx((J.T @ r) @ made.step.numpy(), rel=1e-9)


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_the_decrease_is_that_of_the_linear_model(m, n):
    """With the damping's term counted: 1/2|r|^2 - 1/2|Jp+r|^2 is slope and curvature alone."""
    J, r, scale = problem(m, n)
    made = DampedLeastSquares(*map(torch.from_numpy, (J, r, scale))).damped(0.3)
    p = made.step.numpy()
    fall = 0.5 * (r @ r) - 0.5 * np.sum((J @ p + r) ** 2)
    assert made.decrease == pytest.approx(fall, rel=1e-10)


@pytest.mark.parametrize(("m", "n"), SHAPES)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 1.5])
def test_a_step_in_a_ball_is_the_best_there(m, n, share):
    J, r, scale = problem(m, n)
    solver = DampedLeastSquares(*map(torch.from_numpy, (J, r, scale)))
    radius = share * solver.damped(0.0).length
    made = solver.within(radius)
    if share > 1:
        assert made.interior
        torch.testing.assert_close(made.step, solver.damped(0.0).step)
        return
    assert radius * (1 - 1e-12) <= made.length <= 1.01 * radius * (1 + 1e-12)
    assert not made.interior
    torch.testing.assert_close(made.step, solver.damped(made.damping).step, rtol=1e-8, atol=1e-12)
    rng = np.random.default_rng(1)
    best = np.linalg.norm(r + J @ made.step.numpy())
    for _ in range(200):
        other = rng.standard_normal(n)
        other *= made.length / np.linalg.norm(other)
        assert np.linalg.norm(r + J @ (other / scale)) >= best - 1e-12


def test_directions_that_change_nothing_get_no_step():
    J = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    r = torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64)
    solver = DampedLeastSquares(J, r, torch.ones(2, dtype=torch.float64))
    assert solver.rank == 1
    torch.testing.assert_close(solver.damped(0.0).step, torch.tensor([-1.0, -1.0]).double())
    assert solver.offset == pytest.approx(math.sqrt(8 / 9))
    nothing = DampedLeastSquares(0 * J, r, torch.ones(2, dtype=torch.float64))
    assert (nothing.rank, nothing.offset) == (0, 0.0)
    assert not nothing.within(1.0).step.any()


def test_the_offset_does_not_depend_on_units():
    J, r, scale = problem(20, 4)
    units = np.array([1e-6, 1.0, 1e3, 1e9])
    first = DampedLeastSquares(*map(torch.from_numpy, (J, r, scale))).offset
    second = DampedLeastSquares(*map(torch.from_numpy, (J * units, r, scale * units))).offset
    q, _ = np.linalg.qr(J)
    assert first == pytest.approx(np.linalg.norm(q.T @ r) / np.linalg.norm(r), rel=1e-9)
    assert second == pytest.approx(first, rel=1e-9)


def test_columns_of_zeros_are_left_alone_to_the_last_digit():
    J, r, _ = problem(9, 4)
    J[:, 2] = 0.0
    solver = DampedLeastSquares(torch.from_numpy(J), torch.from_numpy(r), torch.ones(4).double())
    for made in (solver.damped(0.1), solver.damped(0.0), solver.within(0.1)):
        assert made.step[2] == 0.0
        assert made.step.count_nonzero() == 3


def test_applied_solves_with_another_right_hand_side():
    J, r, scale = problem(9, 4)
    other = np.random.default_rng(3).standard_normal(9)
    solver = DampedLeastSquares(*map(torch.from_numpy, (J, r, scale)))
    made = solver.applied(0.2, torch.from_numpy(other)).numpy()
    expected = -np.linalg.solve(J.T @ J + 0.2 * np.diag(scale**2), J.T @ other)
    np.testing.assert_allclose(made, expected, rtol=1e-9)


def test_scales_by_hand():
    norms, before = torch.tensor([3.0, 0.0, 1.0]), torch.tensor([1.0, 4.0, 2.0])
    assert column_scale(norms, None, "more").tolist() == [3.0, 1.0, 1.0]
    assert column_scale(norms, before, "more").tolist() == [3.0, 4.0, 2.0]
    assert column_scale(norms, before, "marquardt").tolist() == [3.0, 1.0, 1.0]
    assert column_scale(norms, before, "levenberg").tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="rule must be one of"):
        column_scale(norms, None, "moré")


def test_nielsens_rule_by_hand():
    assert nielsen(1.0, 8.0, 0.5) == (1.0, 2.0)  # 1 - 0^3
    assert nielsen(1.0, 8.0, 0.0) == (8.0, 16.0)
    damping, growth = nielsen(1.0, 2.0, 0.1)
    assert damping == pytest.approx(1 + 0.8**3)
    assert growth == 2.0
    assert first_radius(0.5, 10.0) == 5.0


# ---- robust losses ------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_costs_are_scipys(loss):
    r = np.array([0.0, 1e-9, 0.3, -2.0, 40.0])
    theirs = optimize.least_squares(
        lambda x: r + 0.0 * x, [0.0], loss=loss, f_scale=0.7, max_nfev=1
    ).cost
    assert robust_cost(torch.from_numpy(r), loss, 0.7) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_rescaled_rows_have_the_gradient_and_the_curvature(loss):
    """Along residuals that change linearly, the second derivative is that of the loss itself."""
    r = torch.tensor([0.2, -0.9, 1.4], dtype=torch.float64, requires_grad=True)
    scale = 1.3
    z = (r / scale) ** 2
    rho = {
        "linear": lambda z: z,
        "soft_l1": lambda z: 2 * ((1 + z).sqrt() - 1),
        "huber": lambda z: torch.where(z <= 1, z, 2 * z.sqrt() - 1),
        "cauchy": lambda z: torch.log1p(z),
        "arctan": torch.atan,
    }[loss]
    cost = 0.5 * scale**2 * rho(z).sum()
    assert robust_cost(r.detach(), loss, scale) == pytest.approx(cost.item(), rel=1e-14)
    (slope,) = torch.autograd.grad(cost, r, create_graph=True)
    made = robust_rows(r.detach(), loss, scale)
    torch.testing.assert_close(made.rows * made.residuals, slope.detach())
    bend = torch.autograd.grad(slope.sum(), r, materialize_grads=True)[0]
    bend = torch.ones_like(bend) if loss == "linear" else bend
    floor = 0.01 * (slope / r).detach()
    torch.testing.assert_close(made.rows**2, torch.maximum(bend, floor), rtol=1e-9, atol=0)


# ---- covariance ---------------------------------------------------------------------------------


def test_the_covariance_is_curve_fits():
    rng = np.random.default_rng(0)
    t = np.linspace(0, 4, 30)
    y = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.05 * rng.standard_normal(30)

    def model(t, a, b, c):
        return a * np.exp(-b * t) + c

    best, theirs = optimize.curve_fit(model, t, y, [1, 1, 0], ftol=1e-15, xtol=1e-15)
    a, b, _ = best
    J = np.stack([np.exp(-b * t), -a * t * np.exp(-b * t), np.ones(30)], 1)
    squares = float(np.sum((y - model(t, *best)) ** 2))
    ours = covariance(torch.from_numpy(J), squares)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5)


def test_what_the_data_do_not_determine_has_infinite_variance():
    J = torch.tensor([[1.0, 1.0, 0.0], [2.0, 2.0, 1.0], [3.0, 3.0, 0.5], [1.0, 1.0, 2.0]])
    made = covariance(J, 3.0)
    assert made[0, 0] == made[1, 1] == math.inf
    assert made[2, 2].isfinite()
    assert made[0, 1].isnan()
    assert covariance(J[:3], 3.0).isnan().all()
