"""Steihaug's path against a step-by-step version of the published algorithm, and cut again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from thalweg.numerics.conjugate_directions import ConjugateDirections
from thalweg.numerics.forcing import forcing_term
from thalweg.numerics.steihaug import ConjugatePath, Truncation, to_boundary


def problem(shift=0.0, n=15, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, n))
    return a @ a.T / n + (0.05 - shift) * np.eye(n), rng.standard_normal(n)


def published(H, g, radius, tolerance):
    """Algorithm 7.2 of Nocedal and Wright."""
    z, r, d = np.zeros_like(g), g.copy(), -g
    for _ in range(2 * len(g)):
        curvature = d @ H @ d
        a, b, c = d @ d, 2 * z @ d, z @ z - radius**2
        edge = z + (-b + math.sqrt(b * b - 4 * a * c)) / (2 * a) * d
        if curvature <= 0:
            return edge
        alpha = r @ r / curvature
        if np.linalg.norm(z + alpha * d) >= radius:
            return edge
        z = z + alpha * d
        new = r + alpha * H @ d
        if np.linalg.norm(new) < tolerance * np.linalg.norm(g):
            return z
        d = -new + new @ new / (r @ r) * d
        r = new
    return z


@pytest.mark.parametrize("shift", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("radius", [1e-3, 0.3, 1.0, 3.0, 100.0])
def test_it_is_the_published_algorithm(shift, radius):
    H, g = problem(shift)
    matrix, gradient = torch.from_numpy(H), torch.from_numpy(g)
    step = ConjugatePath(lambda v: matrix @ v, gradient, Truncation(1e-3)).within(radius)
    np.testing.assert_allclose(step.step.numpy(), published(H, g, radius, 1e-3), rtol=1e-8)
    p = step.step.numpy()
    assert step.decrease == pytest.approx(-(g @ p + 0.5 * p @ H @ p), rel=1e-10)
    assert step.length == pytest.approx(np.linalg.norm(p), rel=1e-10)


def test_a_cut_takes_no_product_and_is_the_step_of_a_fresh_path():
    H, g = problem(0.5)
    matrix, gradient = torch.from_numpy(H), torch.from_numpy(g)
    path = ConjugatePath(lambda v: matrix @ v, gradient)
    path.within(5.0)
    taken = path.products
    for radius in (2.0, 0.5, 0.01):
        fresh = ConjugatePath(lambda v: matrix @ v, gradient).within(radius)
        assert torch.equal(path.within(radius).step, fresh.step)
    assert path.products == taken
    assert path.within(50.0).length == 50.0  # and a larger ball goes on where it ended


def test_negative_curvature_is_reported_with_its_direction():
    H, g = problem(4.0)
    matrix = torch.from_numpy(H)
    path = ConjugatePath(lambda v: matrix @ v, torch.from_numpy(g))
    assert path.negative is None
    free = path.within(math.inf)
    assert path.why == "negative"
    assert not free.boundary
    d = path.negative
    assert d is not None
    assert d @ matrix @ d <= 0
    assert d @ torch.from_numpy(g) < 0
    assert path.natural_length() > free.length


def test_a_preconditioner_makes_the_ball_its_own():
    H, g = problem()
    d = np.geomspace(0.1, 10.0, len(g))
    H, g = H * d * d[:, None], g * d
    matrix, diagonal = torch.from_numpy(H), torch.from_numpy(1 / d**2)
    path = ConjugatePath(
        lambda v: matrix @ v, torch.from_numpy(g), Truncation(1e-12), lambda v: diagonal * v
    )
    for radius in (0.5, 2.0):
        step = path.within(radius)
        p = step.step.numpy()
        assert np.linalg.norm(p * d) == pytest.approx(radius, rel=1e-9)
        plain = published(H / d / d[:, None], g / d, radius, 1e-12)
        np.testing.assert_allclose(p * d, plain, rtol=1e-7)
    whole = path.within(math.inf)
    np.testing.assert_allclose(whole.step.numpy(), -np.linalg.solve(H, g), rtol=1e-6)
    assert path.why in {"residual", "decrease"}  # the latter where nothing more can be gained


def test_the_test_of_the_models_decrease_ends_sooner_than_that_of_the_residual():
    H, g = problem(n=60)
    matrix, gradient = torch.from_numpy(H), torch.from_numpy(g)
    early = ConjugatePath(lambda v: matrix @ v, gradient, Truncation(1e-10, decrease=0.1))
    late = ConjugatePath(lambda v: matrix @ v, gradient, Truncation(1e-10))
    gained, best = early.within(math.inf).decrease, late.within(math.inf).decrease
    assert early.why == "decrease"
    assert early.products < 0.7 * late.products
    assert gained > 0.9 * best


def test_the_limit_and_a_gradient_of_zero():
    H, g = problem()
    matrix = torch.from_numpy(H)
    path = ConjugatePath(lambda v: matrix @ v, torch.from_numpy(g), Truncation(0.0, most=3))
    path.within(math.inf)
    assert (path.why, path.products) == ("limit", 3)
    still = ConjugatePath(lambda v: matrix @ v, torch.zeros(15).double())
    assert still.within(1.0).decrease == 0.0
    assert still.natural_length() == 0.0
    with pytest.raises(ValueError, match=r"within\(radius=-1.0\): radius must be a number > 0"):
        path.within(-1.0)


def test_the_edge_is_found_without_cancellation():
    # z'd / |z| |d| is nearly 1 and z is all but on the edge.
    t = to_boundary(1.0, 1e8, 1e16, 1.0 + 1e-12)
    assert t == pytest.approx(1e-12 / 1e8, rel=1e-3)
    assert to_boundary(4.0, -2.0, 1.0, 2.0) == 4.0
    assert to_boundary(1.0, 3.0, 9.0, 1.0) == 0.0


def test_conjugate_directions_are_conjugate():
    H, g = problem()
    matrix = torch.from_numpy(H)
    cg, directions = ConjugateDirections(lambda v: matrix @ v, torch.from_numpy(g)), []
    for _ in range(8):
        directions.append(cg.direction)
        cg.look()
        cg.move()
    d = torch.stack(directions)
    products = d @ matrix @ d.T
    assert (products - products.diag().diag()).abs().max() < 1e-10 * products.diag().max()


def test_forcing_terms_follow_the_gradient_and_are_held():
    assert forcing_term(1.0, None, None, 0.3) == 0.3
    assert forcing_term(1e-6, 1.0, 0.3) == pytest.approx(0.9 * 0.3 ** ((1 + 5**0.5) / 2))
    assert forcing_term(1e-6, 1e-3, 0.1) == pytest.approx(0.9 * 1e-3 ** ((1 + 5**0.5) / 2))
    assert forcing_term(2.0, 1.0, 0.5) == 0.5
    assert forcing_term(1e-6 * 1e8, 1e-3 * 1e8, 0.1) == forcing_term(1e-6, 1e-3, 0.1)
