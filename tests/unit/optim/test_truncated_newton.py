"""Newton-CG and Hessian-free: how far they solve, where they start, what they try, damping."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import thalweg as tw
from thalweg.numerics.kept_iterates import kept_iterates
from thalweg.optim import HessianFree, HessianFreeOptions, NewtonCG, hessian_free
from unit.optim.second_order_steps import bent, matrix, run, tensor


G = tensor(0.2, -0.1, 0.3, 0.15, -0.25, 0.05)
MATRICES = {"definite": [0.1, 0.4, 1.0, 2.0, 3.0, 8.0], "indefinite": [-4.0, -0.5, 0.1, 1, 3, 8]}


def network(seed=0, samples=40):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    x = torch.randn(samples, 4).double()
    return model, x, (x[:, :2] * x[:, 2:]).tanh()


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# ---- Newton-CG --------------------------------------------------------------------------------


def truncated(H, g, forcing):
    """Nocedal and Wright's algorithm 7.1; a negative curvature counts by its size."""
    z, r, d, largest = np.zeros(len(g)), g.copy(), -g, 0.0
    products = 0
    while np.linalg.norm(r) > forcing * np.linalg.norm(g):
        curved, products = H @ d, products + 1
        bend = d @ curved
        largest = max(largest, bend / (d @ d))
        if bend <= 0:
            size = max(-bend, 1e-2 * largest * (d @ d))
            return z + (r @ r) / size * d, products
        alpha, before = (r @ r) / bend, r @ r
        z, r = z + alpha * d, r + alpha * curved
        d = -r + (r @ r) / before * d
    return z, products


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("forcing", [0.5, 0.1, 1e-10])
def test_newton_cg_follows_conjugate_gradients_as_far_as_it_is_told(kind, forcing):
    H = matrix(MATRICES[kind], seed=7)
    x = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer = NewtonCG([x], forcing=forcing)
    _, after = run(optimizer, bent(H, G, 1e-4), x, 1)
    expected, products = truncated(H.numpy(), G.numpy(), forcing)
    step = after.numpy() / optimizer.info.details["alpha"]
    np.testing.assert_allclose(step, expected, rtol=1e-8, atol=1e-9)
    assert optimizer.counts.nhvp == products


@pytest.mark.parametrize(
    ("method", "start"),
    [
        (NewtonCG, (0.5, 0.0)),
        (NewtonCG, (0.3, 1e-8)),
        (NewtonCG, (0.0, 0.0)),
        (HessianFree, (0.5, 0.0)),
        (HessianFree, (0.0, 0.0)),
    ],
)
def test_they_leave_a_saddle(method, start):
    x = tensor(*start).requires_grad_()
    path = run(method([x]), lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 2, x, 60)
    torch.testing.assert_close(path[-1].abs(), tensor(0.0, 1.0), rtol=0, atol=1e-6)


def test_newton_cg_solves_more_exactly_as_it_converges():
    x = tensor(-1.2, 1.0, 0.7, 0.2).requires_grad_()
    optimizer, forcings = NewtonCG([x]), []
    for _ in range(40):
        run(optimizer, lambda x: ((1 - x) ** 2 + 10 * (x - x.roll(1) ** 2) ** 2).sum(), x, 1)
        forcings.append(optimizer.info.details.get("forcing", np.nan))
    assert forcings[0] == 0.5
    assert np.nanmin(forcings) < 1e-2


# ---- Hessian-free -------------------------------------------------------------------------------


def solves(monkeypatch):
    """What every solve was asked for and what it gave."""
    seen = []

    def watching(product, b, start=None, **options):
        found = kept_iterates(product, b, start, **options)
        seen.append((product, b, start, found))
        return found

    monkeypatch.setattr(hessian_free, "kept_iterates", watching)
    return seen


def test_the_first_step_solves_the_damped_system(monkeypatch):
    """The damping is a share of g'Bg / g'g; on a quadratic rho is 1 without it."""
    H = matrix(MATRICES["definite"], seed=7)
    x = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    options = HessianFreeOptions(progress=0.0)
    optimizer = HessianFree([x], damping=0.2, options=options)
    _, after = run(optimizer, bent(H, G), x, 1)
    damping = 0.2 * float(G @ H @ G / (G @ G))
    assert optimizer.info.details["damping"] == pytest.approx(damping)
    expected = -torch.linalg.solve(H + damping * torch.eye(6), G)
    torch.testing.assert_close(after, expected, rtol=1e-7, atol=1e-9)
    assert optimizer.info.details["rho"] == pytest.approx(1.0)
    assert optimizer.memory["damping"] == pytest.approx(damping * 2 / 3)


def test_conjugate_gradients_start_from_a_share_of_the_last_solution(monkeypatch):
    seen = solves(monkeypatch)
    model, x, y = network()
    closure = tw.Objective(model, nn.functional.mse_loss).closure(x, y)
    optimizer = HessianFree(model.parameters(), options=HessianFreeOptions(warm=0.6))
    for _ in range(3):
        optimizer.step(closure)
    assert seen[0][2] is None
    for (_, _, _, before), (_, _, start, _) in itertools.pairwise(seen):
        torch.testing.assert_close(start, 0.6 * before.points[-1])
    seen.clear()
    model = network()[0]
    cold = HessianFree(model.parameters(), options=HessianFreeOptions(warm=0.0))
    closure = tw.Objective(model, nn.functional.mse_loss).closure(x, y)
    for _ in range(3):
        cold.step(closure)
    assert [start for _, _, start, _ in seen] == [None] * 3


def test_the_best_of_the_iterates_is_taken(monkeypatch):
    """F is asked from the last one back, while it falls."""
    seen = solves(monkeypatch)
    x = tensor(-1.2, 1.0, 0.7, 0.2, 1.9, -0.3).requires_grad_()

    def fn(x):
        return ((1 - x) ** 2 + 10 * (x - x.roll(1) ** 2) ** 2).sum()

    optimizer, earlier = HessianFree([x], damping=1e-3), 0
    for _ in range(15):
        before, count = x.detach().clone(), len(seen)
        run(optimizer, fn, x, 1)
        if optimizer.info.details.get("alpha") != 1.0 or len(seen) != count + 1:
            continue
        points = seen[-1][3].points
        values = [float(fn(before + p)) for p in points]
        chosen = len(values) - 1
        while chosen and values[chosen - 1] < values[chosen]:
            chosen -= 1
        torch.testing.assert_close(x.detach(), before + points[chosen])
        earlier += chosen < len(values) - 1
    assert earlier


def test_the_damping_follows_rho():
    model, x, y = network()
    closure = tw.Objective(model, nn.functional.mse_loss).closure(x, y)
    optimizer, seen = HessianFree(model.parameters(), damping=1.0), set()
    for _ in range(30):
        before, value = weights(model), float(closure.value())
        optimizer.step(closure)
        details = optimizer.info.details
        if "rho" not in details or "curvature" in details:
            continue
        gained = value - float(closure.value())
        assert details["rho"] == pytest.approx(gained / details["predicted"], rel=1e-5)
        assert not torch.equal(before, weights(model))
        rho, after = details["rho"], optimizer.memory["damping"] / details["damping"]
        expected = 2 / 3 if rho > 0.75 else 1.5 if rho < 0.25 else 1.0
        assert after == pytest.approx(expected)
        seen.add(expected)
    assert 2 / 3 in seen
    assert len(seen) > 1


@pytest.mark.parametrize("preconditioner", ["none", "fisher"])
def test_batches_may_change_from_step_to_step(preconditioner):
    model, x, y = network(samples=200)
    objective = tw.Objective(model, nn.functional.mse_loss)
    whole = objective.closure(x, y)
    start = float(whole.value())
    optimizer = HessianFree(model.parameters(), preconditioner=preconditioner)
    for i in range(20):
        picked = slice(50 * (i % 4), 50 * (i % 4 + 1))
        batch = objective.closure(x[picked], y[picked])
        before = float(batch.value())
        optimizer.step(batch)
        assert float(batch.value()) <= before
    assert float(whole.value()) < 0.3 * start


@pytest.mark.parametrize("products", ["forward", "central"])
def test_products_by_differences_make_the_same_path_to_a_thousandth(products):
    paths = []
    for how in ("exact", products):
        model, x, y = network()
        closure = tw.Objective(model, nn.functional.mse_loss).closure(x, y)
        optimizer = HessianFree(model.parameters(), damping=1.0, curvature="hessian", products=how)
        start = weights(model)
        for _ in range(4):
            optimizer.step(closure)
        paths.append(weights(model) - start)
    assert (paths[0] - paths[1]).norm() < 1e-3 * paths[0].norm()
    assert not torch.equal(*paths)


def test_where_nothing_is_lower_it_is_damped_tenfold(monkeypatch):
    seen, tried = solves(monkeypatch), []
    choose = hessian_free.best_iterate

    def refusing(point, iterates):
        tried.append(iterates)
        return choose(point, iterates) if len(tried) > 2 else None

    monkeypatch.setattr(hessian_free, "best_iterate", refusing)
    H = matrix(MATRICES["definite"], seed=7)
    x = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer = HessianFree([x], damping=0.2, options=HessianFreeOptions(progress=0.0))
    _, after = run(optimizer, bent(H, G), x, 1)
    damping = 100 * 0.2 * float(G @ H @ G / (G @ G))
    assert optimizer.info.details["retries"] == 2
    assert optimizer.info.details["damping"] == pytest.approx(damping)
    torch.testing.assert_close(after, -torch.linalg.solve(H + damping * torch.eye(6), G))
    assert len(seen) == 3
