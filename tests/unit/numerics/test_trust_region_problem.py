"""The trust-region problem, dense and in Krylov spaces, against its dual solved by scipy.

Strong duality holds for this problem although it is not convex: a step whose model value equals a
dual value is a global minimiser, and no other proof is needed.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from thalweg.errors import NonFiniteError
from thalweg.numerics.lanczos_model import LanczosModel, lowest_eigenpair
from thalweg.numerics.quadratic_model import QuadraticModel, diagonal_scale
from thalweg.numerics.secular import secular
from thalweg.numerics.steihaug import ConjugatePath, Truncation


SIZE = 24
RADII = (0.01, 1.0, 30.0)
SEEDS = {"definite": 1, "indefinite": 2, "hard": 3, "near-hard": 4, "zero gradient": 5}
SEEDS |= {"multiple": 6, "eigenvector": 7, "singular": 8, "negative multiple": 9, "scaled": 10}
CASES = [(kind, radius) for kind in SEEDS for radius in RADII]
TIGHT = Truncation(1e-11)


def problem(kind, n=SIZE):
    """H and g; the lowest eigenvalue is the first column's."""
    rng = np.random.default_rng(SEEDS[kind])
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    values = np.sort(3 * rng.standard_normal(n))
    parts = rng.standard_normal(n)
    if kind == "definite":
        values = np.abs(values) + 0.1
    if kind == "hard":
        parts[0] = 0.0
    if kind == "near-hard":
        parts[0] = 1e-10
    if kind == "zero gradient":
        parts[:] = 0.0
    if kind == "multiple":
        values[:4], parts[:4] = values[0], 0.0
    if kind == "eigenvector":
        parts = 2.0 * (np.arange(n) == n // 2)
    if kind == "singular":
        values, parts[:3] = np.r_[np.zeros(3), np.geomspace(1e-3, 1e3, n - 3)], 0.0
    if kind == "negative multiple":
        values[:] = -2.0
    if kind == "scaled":
        values, parts = 1e9 * values, 1e-9 * parts
    return (q * values) @ q.T, q @ parts, values, parts


def dual(values, parts, radius):
    """The largest value of the concave dual function, from the eigenvalues the problem was made of.

    q(sigma) = -1/2 sum parts^2 / (values + sigma) - sigma r^2 / 2, sigma >= max(0, -lowest).
    """
    low = max(0.0, -values.min())
    top = np.linalg.norm(parts) / radius + 1e-12 * np.abs(values).max()

    def negative(tau):
        bottom = values + low + tau
        terms = np.divide(parts**2, bottom, out=np.zeros_like(parts), where=parts != 0)
        return 0.5 * terms.sum() + 0.5 * (low + tau) * radius**2

    grid = np.r_[0.0, np.geomspace(1e-16 * max(top, 1e-300), top, 400)]
    with np.errstate(divide="ignore"):
        best = int(np.argmin([negative(tau) for tau in grid]))
        inside = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        found = minimize_scalar(negative, bounds=inside, method="bounded", options={"xatol": 0.0})
        return -min(found.fun, negative(grid[best]))


def value(H, g, step):
    p = step.numpy()
    return g @ p + 0.5 * p @ H @ p


def exact(step, H, g, radius, optimum):
    """The step is feasible, its value is the optimum, and it says truly what it gains."""
    assert np.linalg.norm(step.step.numpy()) <= radius * (1 + 1e-10)
    assert value(H, g, step.step) <= optimum + 1e-8 * abs(optimum)
    assert step.decrease == pytest.approx(-value(H, g, step.step), rel=1e-8)


@pytest.mark.parametrize(("kind", "radius"), CASES)
def test_the_dense_step_is_the_global_minimiser(kind, radius):
    H, g, values, parts = problem(kind)
    model = QuadraticModel(torch.from_numpy(g), torch.from_numpy(H))
    step = model.within(radius)
    exact(step, H, g, radius, dual(values, parts, radius))
    residual = H @ step.step.numpy() + step.multiplier * step.step.numpy() + g
    assert np.linalg.norm(residual) <= 1e-8 * max(np.linalg.norm(g), step.multiplier * radius)


@pytest.mark.parametrize(("kind", "radius"), CASES)
def test_the_krylov_step_is_the_global_minimiser(kind, radius):
    H, g, values, parts = problem(kind)
    matrix = torch.from_numpy(H)
    model = LanczosModel(lambda v: matrix @ v, torch.from_numpy(g))
    exact(
        model.within(radius, TIGHT, explore=SIZE, everywhere=True),
        H,
        g,
        radius,
        dual(values, parts, radius),
    )


@pytest.mark.parametrize("kind", ["hard", "near-hard", "multiple", "zero gradient"])
def test_the_hard_case_is_met_and_said(kind):
    H, g, *_ = problem(kind)
    step = QuadraticModel(torch.from_numpy(g), torch.from_numpy(H)).within(30.0)
    assert step.boundary
    assert step.length == pytest.approx(30.0, rel=1e-12)
    assert step.hard or kind != "zero gradient"  # rounding makes the hard case near-hard


def test_the_secular_equation_in_the_exact_hard_case():
    found = secular(np.array([-2.0, -2.0, 1.0]), np.array([0.0, 0.0, 3.0]), 5.0)
    assert found.hard
    assert found.multiplier == 2.0
    assert np.linalg.norm(found.step) == pytest.approx(5.0, rel=1e-15)
    assert found.step[2] == pytest.approx(-1.0)
    assert found.decrease == pytest.approx(3.0 - 0.5 + 24.0)


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e8, 1e150])
def test_units_of_the_function_do_not_matter(scale):
    _, _, values, parts = problem("indefinite")
    plain, scaled = secular(values, parts, 1.0), secular(scale * values, scale * parts, 1.0)
    np.testing.assert_allclose(scaled.step, plain.step, rtol=1e-12)
    assert scaled.decrease == pytest.approx(scale * plain.decrease, rel=1e-12)


def test_one_number():
    for curvature, gradient, expected in ((2.0, 1.0, -0.5), (2.0, 9.0, -1.0), (-1.0, 0.0, 1.0)):
        H, g = torch.tensor([[curvature]]).double(), torch.tensor([gradient]).double()
        dense = QuadraticModel(g, H).within(1.0)
        krylov = LanczosModel(lambda v, H=H: H @ v, g).within(1.0, explore=1)
        assert abs(dense.step.item()) == pytest.approx(abs(expected))
        assert abs(krylov.step.item()) == pytest.approx(abs(expected))


def test_the_damping_of_levenberg_and_marquardt_is_the_same_equation():
    rng = np.random.default_rng(0)
    J, r = rng.standard_normal((30, 5)), rng.standard_normal(30)
    u, s, vt = np.linalg.svd(J, full_matrices=False)
    found = secular(s**2, s * (u.T @ r), 0.01, tolerance=1e-12)
    damped = np.linalg.solve(J.T @ J + found.multiplier * np.eye(5), -J.T @ r)
    np.testing.assert_allclose(vt.T @ found.step, damped, rtol=1e-9)
    assert np.linalg.norm(damped) == pytest.approx(0.01, rel=1e-9)
    rough = secular(s**2, s * (u.T @ r), 0.01, tolerance=0.1)
    assert 0.01 <= np.linalg.norm(rough.step) <= 0.011


def test_a_direction_without_curvature_or_slope_is_left_alone():
    # 1e-17 is what an eigenvalue solver leaves of 0; a step along it would be the whole radius.
    values, parts = np.array([-1e-17, 1.0]), np.array([1e-18, 1.0])
    assert secular(values, parts, 1e6, rounding=1e-15).step.tolist() == [0.0, -1.0]


def test_a_scale_is_a_change_of_variables():
    H, g, *_ = problem("indefinite")
    d = np.geomspace(1e-3, 1e3, SIZE)
    scaled = QuadraticModel(*map(torch.from_numpy, (g * d, H * d * d[:, None], d)))
    plain = QuadraticModel(*map(torch.from_numpy, (g, H)))
    for radius in RADII:
        one, other = plain.within(radius), scaled.within(radius)
        np.testing.assert_allclose(other.step.numpy() * d, one.step.numpy(), rtol=1e-7, atol=1e-12)
        assert other.decrease == pytest.approx(one.decrease, rel=1e-9)


def test_float32_models_are_decomposed_in_double():
    H, g, values, parts = problem("indefinite")
    step = QuadraticModel(torch.from_numpy(g).float(), torch.from_numpy(H).float()).within(1.0)
    assert step.step.dtype == torch.float32
    optimum = dual(values, parts, 1.0)
    assert value(H, g, step.step.double()) == pytest.approx(optimum, rel=1e-5)


def test_bad_arguments_and_non_finite_derivatives():
    with pytest.raises(ValueError, match=r"secular\(radius=0.0\): radius must be"):
        secular(np.ones(1), np.ones(1), 0.0)
    with pytest.raises(ValueError, match="finite"):
        secular(np.array([np.nan]), np.ones(1), 1.0)
    with pytest.raises(NonFiniteError, match="derivatives"):
        QuadraticModel(torch.ones(1), torch.full((1, 1), float("nan")))
    with pytest.raises(NonFiniteError, match="product 1 has a NaN"):
        ConjugatePath(lambda v: v * float("nan"), torch.ones(2)).within(1.0)


# ---- Newton steps of the model --------------------------------------------------------------
def test_negative_eigenvalues_are_flipped_or_clipped():
    H = torch.diag(torch.tensor([2.0, -4.0, 1e-9])).double()
    g = torch.tensor([2.0, 4.0, 1.0]).double()
    model = QuadraticModel(g, H)
    assert model.newton(0.01).step.tolist() == pytest.approx([-1.0, -1.0, -25.0])
    assert model.newton(0.01, "clip").step.tolist() == pytest.approx([-1.0, -100.0, -25.0])
    flipped = model.newton(0.01)
    assert flipped.decrease == pytest.approx(-value(H.numpy(), g.numpy(), flipped.step))
    low, direction = model.lowest()
    assert low == -4.0
    assert direction.tolist() == [0.0, -1.0, 0.0]  # downhill


def test_the_diagonal_scale_of_nothing_is_one():
    assert diagonal_scale(torch.zeros(2, 2)).tolist() == [1.0, 1.0]
    assert diagonal_scale(torch.diag(torch.tensor([4.0, 0.0]).double())).tolist() == [2.0, 2e-8]


# ---- Krylov spaces --------------------------------------------------------------------------
def counted(matrix):
    calls = []

    def product(v):
        calls.append(v)
        return matrix @ v

    return product, calls


def test_a_smaller_ball_takes_no_new_product():
    H, g, values, parts = problem("indefinite")
    product, calls = counted(torch.from_numpy(H))
    model = LanczosModel(product, torch.from_numpy(g))
    model.within(1.0, TIGHT)
    before = len(calls)
    again = model.within(0.25, TIGHT)
    assert (len(calls), again.products) == (before, 0)
    exact(again, H, g, 0.25, dual(values, parts, 0.25))


def test_a_space_too_small_still_gains_more_than_conjugate_gradients():
    H, g, *_ = problem("indefinite", 60)
    matrix = torch.from_numpy(H)
    for radius in RADII:
        krylov = LanczosModel(lambda v: matrix @ v, torch.from_numpy(g), 12).within(radius)
        path = ConjugatePath(lambda v: matrix @ v, torch.from_numpy(g), Truncation(1e-5, most=12))
        assert krylov.products <= 12
        assert krylov.decrease >= path.within(radius).decrease * (1 - 1e-12)


def test_the_accuracy_asked_for_is_kept():
    H, g, *_ = problem("definite", 80)
    matrix = torch.from_numpy(H)
    for share in (0.5, 1e-2, 1e-6):
        model = LanczosModel(lambda v: matrix @ v, torch.from_numpy(g))
        step = model.within(1.0, Truncation(share))
        residual = H @ step.step.numpy() + step.multiplier * step.step.numpy() + g
        assert np.linalg.norm(residual) <= 1.01 * share * np.linalg.norm(g)


def test_without_exploring_the_hard_case_stays_hidden():
    H, g, values, parts = problem("eigenvector")
    matrix = torch.from_numpy(H)
    blind = LanczosModel(lambda v: matrix @ v, torch.from_numpy(g)).within(5.0, TIGHT)
    assert blind.products == 1
    assert -blind.decrease > 0.5 * dual(values, parts, 5.0)


def test_the_lowest_eigenpair_is_numpys():
    H, _, values, _ = problem("indefinite")
    low, vector = lowest_eigenpair(
        lambda v: torch.from_numpy(H) @ v, torch.zeros(SIZE).double(), 24
    )
    assert low == pytest.approx(values[0], rel=1e-10)
    assert torch.dist(torch.from_numpy(H) @ vector, low * vector) < 1e-7


@pytest.mark.parametrize("kind", ["definite", "indefinite"])
def test_the_natural_length_is_that_of_the_flipped_newton_step(kind):
    H, g, values, parts = problem(kind)
    model = LanczosModel(lambda v: torch.from_numpy(H) @ v, torch.from_numpy(g))
    newton = np.linalg.norm(parts / np.abs(values))
    natural = model.natural_length(TIGHT)
    assert natural == pytest.approx(newton, rel=1e-6 if kind == "definite" else 2.0)
