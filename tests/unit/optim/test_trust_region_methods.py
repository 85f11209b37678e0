"""Trust regions: the step in the ball, how the ball follows, and what a rejection costs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from thalweg.numerics.trust_region import RadiusRule
from thalweg.optim import NewtonLanczos, TrustRegionNewton, TrustRegionNewtonCG
from unit.optim.second_order_steps import bent, in_ball, matrix, run, tensor, watched


EXACT = {
    "exact": TrustRegionNewton,
    "lanczos": lambda p, **o: NewtonLanczos(p, forcing=1e-12, **o),
}
ALL = {**EXACT, "steihaug": TrustRegionNewtonCG}
G = tensor(0.2, -0.1, 0.3, 0.15, -0.25, 0.05)
MATRICES = {"definite": [0.1, 0.4, 1.0, 2.0, 3.0, 8.0], "indefinite": [-4.0, -0.5, 0.1, 1, 3, 8]}
ROSENBROCK = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2  # noqa: E731


def steihaug(H, g, radius, forcing):
    """Nocedal and Wright's algorithm 7.2, and how many products it takes."""
    z, r, d = np.zeros(len(g)), g.copy(), -g
    for products in itertools.count(1):
        curved = H @ d
        bend = d @ curved
        alpha = (r @ r) / bend if bend > 0 else np.inf
        if np.linalg.norm(z + min(alpha, 1e9) * d) >= radius:
            roots = np.roots([d @ d, 2 * z @ d, z @ z - radius**2])
            return z + roots.max() * d, products
        z, before = z + alpha * d, r @ r
        r = r + alpha * curved
        if np.linalg.norm(r) <= forcing * np.linalg.norm(g):
            return z, products
        d = -r + (r @ r) / before * d
    raise AssertionError


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("radius", [0.05, 0.3, 40.0])
@pytest.mark.parametrize("method", EXACT)
def test_the_step_is_the_minimiser_in_the_ball(kind, radius, method):
    H = matrix(MATRICES[kind], seed=6)
    x = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer = EXACT[method]([x], radius=radius)
    _, after = run(optimizer, bent(H, G), x, 1)
    expected = in_ball(H, G, radius)
    np.testing.assert_allclose(after.numpy(), expected, rtol=1e-7, atol=1e-8)
    assert optimizer.info.details["predicted"] == pytest.approx(-float(bent(H, G)(after)))


def test_with_a_scale_the_ball_is_an_ellipsoid():
    H, D = matrix(MATRICES["indefinite"], seed=6), None
    x = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    _, after = run(TrustRegionNewton([x], radius=0.3, scale="diagonal"), bent(H, G), x, 1)
    D = H.diagonal().abs().sqrt()
    expected = in_ball(H / D / D[:, None], G / D, 0.3) / D.numpy()
    np.testing.assert_allclose(after.numpy(), expected, rtol=1e-7, atol=1e-8)
    assert (D * after).norm().item() == pytest.approx(0.3)


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("radius", [0.05, 0.3, 40.0])
def test_steihaugs_step_and_its_products(kind, radius):
    H = matrix(MATRICES[kind], seed=6)
    x = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer = TrustRegionNewtonCG([x], radius=radius, forcing=0.1)
    _, after = run(optimizer, bent(H, G), x, 1)
    expected, products = steihaug(H.numpy(), G.numpy(), radius, 0.1)
    np.testing.assert_allclose(after.numpy(), expected, rtol=1e-9, atol=1e-10)
    assert optimizer.counts.nhvp == products


@pytest.mark.parametrize("method", ALL)
def test_the_radius_follows_the_ratio(method):
    rule, x = RadiusRule(), tensor(-1.2, 1.0).requires_grad_()
    optimizer, grown, shrunk = ALL[method]([x], radius=0.1), 0, 0
    for _ in range(12):
        before = float(optimizer.memory.get("radius", 0.1))
        run(optimizer, ROSENBROCK, x, 1)
        details, after = optimizer.info.details, float(optimizer.memory["radius"])
        if details["rejections"]:  # cut until the trial of the last radius
            assert details["radius"] <= 0.5 * before
            shrunk += 1
        else:
            assert details["radius"] == before
        if details["ratio"] >= rule.good:
            assert after == max(details["radius"], rule.grow * optimizer.info.step_length)
            grown += after > before
        elif details["ratio"] >= rule.poor:
            assert after == details["radius"]
        else:
            assert 0.1 <= after / min(details["radius"], optimizer.info.step_length) <= 0.5
    assert grown
    assert shrunk


@pytest.mark.parametrize("method", ALL)
def test_the_first_radius_is_the_newton_steps_length(method):
    H = matrix(MATRICES["definite"], seed=6)
    for factor in (1.0, 1e-6, 1e6):
        x = torch.zeros(6, dtype=torch.float64, requires_grad=True)
        options = {} if method == "exact" else {"forcing": 1e-10}
        cls = {"lanczos": NewtonLanczos}.get(method, ALL[method])
        optimizer = cls([x], **options)
        run(optimizer, bent(factor * H, factor * G), x, 1)
        newton = torch.linalg.solve(H, G).norm().item()
        assert optimizer.info.details["radius"] == pytest.approx(newton, rel=1e-6)
        assert optimizer.info.details["rejections"] == 0


@pytest.mark.parametrize("method", ALL)
def test_a_rejection_costs_a_value_and_no_products(method, monkeypatch):
    seen = watched(monkeypatch)
    x = tensor(2.0, 3.0).requires_grad_()
    optimizer = ALL[method]([x], radius=50.0)
    run(optimizer, lambda x: (1 + x**2).sqrt().sum(), x, 1)  # Newton's step goes to (-8, -27)
    assert optimizer.info.details["rejections"] >= 1
    assert len(seen) == optimizer.info.details["rejections"] + 1
    assert len(set(seen)) == 1
    assert optimizer.counts.ngev == 2  # at the start and where it was accepted


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("start", [(0.5, 0.0), (0.3, 1e-8), (0.0, 0.0)])
def test_leaves_a_saddle(method, start):
    x = tensor(*start).requires_grad_()
    path = run(ALL[method]([x]), lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 2, x, 40)
    torch.testing.assert_close(path[-1].abs(), tensor(0.0, 1.0), rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", ALL)
def test_converges_quadratically(method):
    x = tensor(-1.2, 1.0).requires_grad_()
    options = {"steihaug": {"forcing": 1e-10}}.get(method, {})
    path = run(ALL[method]([x], **options), ROSENBROCK, x, 40)
    errors = [float((p - 1).norm()) for p in path]
    close = [e for e in errors if 1e-7 < e < 1e-2]
    assert close
    for before, after in itertools.pairwise(errors):
        if before < 1e-2:
            assert after <= 100 * before**2 + 1e-14
    assert errors[-1] < 1e-13
