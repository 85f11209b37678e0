"""Lanczos' recurrence, its quadrature, and the thick restart, against NumPy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from thalweg.errors import NonFiniteError
from thalweg.numerics.krylov_space import KrylovSpace
from thalweg.numerics.lanczos import inner, lanczos, orthogonalize, project
from thalweg.numerics.probes import Probes
from thalweg.numerics.quadrature import between, gauss, lanczos_quadrature
from thalweg.numerics.thick_restart import Search, eigenpairs


def symmetric(n, seed=0, dtype=torch.float64):
    matrix = torch.randn(n, n, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    return (matrix + matrix.T) / math.sqrt(2 * n)


def largest(values, residuals):
    return np.argsort(-values)


def test_inner_products_accumulate_in_double_precision():
    # One large product first: float32 loses every later one.
    v = torch.ones(1_000_000)
    v[0] = 2.0**13
    assert inner(v, v) == 2.0**26 + 999_999


def test_projections_accumulate_in_double_precision_when_exact():
    rows = torch.ones(2, 1_000_000)
    rows[:, 0] = 2.0**26
    w = torch.ones(1_000_000)
    expected = torch.tensor([2.0**26 + 999_999] * 2, dtype=torch.float64).float()
    assert torch.equal(project(w, rows, exact=True), expected)


def test_orthogonalize_keeps_orthogonality_under_cancellation():
    rows = torch.linalg.qr(torch.randn(400, 5, dtype=torch.float64))[0].T.contiguous()
    new = torch.randn(400, dtype=torch.float64)
    nearly_inside = rows.T @ torch.ones(5, dtype=torch.float64) + 1e-10 * new
    unit, left = orthogonalize(nearly_inside, rows)
    assert (rows @ unit).abs().max() < 1e-14
    assert 0 < left < 1e-8
    assert orthogonalize(rows[2], rows)[1] == 0.0


def test_the_recurrence_holds_with_an_orthonormal_basis():
    A = symmetric(120)
    run = lanczos(lambda v: A @ v, torch.randn(120, dtype=torch.float64), 100, reorthogonalize=True)
    assert run.basis is not None
    T = np.diag(run.diagonal) + np.diag(run.off_diagonal, 1) + np.diag(run.off_diagonal, -1)
    Q = run.basis.numpy()
    assert np.abs(Q.T @ Q - np.eye(100)).max() < 1e-13
    rest = A.numpy() @ Q - Q @ T
    assert np.abs(rest[:, :-1]).max() < 1e-12
    assert np.linalg.norm(rest[:, -1]) == pytest.approx(run.residual, rel=1e-10)


def test_all_steps_give_all_eigenvalues():
    A = symmetric(40)
    for reorthogonalize in (False, True):
        run = lanczos(lambda v: A @ v, torch.ones(40).double(), 60, reorthogonalize=reorthogonalize)
        np.testing.assert_allclose(run.eigh()[0], torch.linalg.eigvalsh(A).numpy(), atol=1e-12)
        assert run.residual == 0.0


def test_an_invariant_space_ends_the_run():
    scale = torch.tensor([1.0, 2.0, 2.0, 5.0] * 30)
    run = lanczos(lambda v: scale * v, torch.randn(120), 50)
    assert len(run.diagonal) == 3
    np.testing.assert_allclose(run.eigh()[0], [1, 2, 5], rtol=1e-5)
    zero = lanczos(torch.zeros_like, torch.randn(120), 50)
    assert zero.diagonal.tolist() == [0.0]
    assert zero.residual == 0.0


def test_a_product_that_returns_its_argument_is_not_overwritten():
    run = lanczos(lambda v: v, torch.randn(10), 4)
    np.testing.assert_allclose(run.diagonal, [1.0], rtol=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_products_that_are_not_finite_are_refused_in_words(bad):
    def product(v):
        result = v.clone()
        result[3] = bad
        return result

    with pytest.raises(NonFiniteError, match="product 1 has a NaN or an infinite entry"):
        lanczos(product, torch.randn(10), 4)
    with pytest.raises(NonFiniteError, match="product 1 has a NaN or an infinite entry"):
        KrylovSpace(product, torch.randn(10, 1), 4, "here").expand(0)


def test_a_bad_start_is_refused():
    for start in (torch.zeros(3), torch.full((3,), math.nan)):
        with pytest.raises(ValueError, match="finite and not zero"):
            lanczos(lambda v: v, start, 2)
    with pytest.raises(ValueError, match="steps"):
        lanczos(lambda v: v, torch.ones(3), 0)


@pytest.mark.parametrize("reorthogonalize", [False, True])
def test_the_quadrature_is_exact_for_polynomials(reorthogonalize):
    A, v = symmetric(60), torch.randn(60, dtype=torch.float64)
    v /= v.norm()
    nodes, weights = lanczos_quadrature(lambda x: A @ x, v, 6, reorthogonalize=reorthogonalize)
    power = v
    for degree in range(12):
        assert weights @ nodes**degree == pytest.approx((v @ power).item(), abs=1e-12)
        power = A @ power
    # One degree more is beyond a rule of six nodes.
    assert abs(weights @ nodes**12 - (v @ power).item()) > 1e-6


def test_bounds_on_the_distribution_hold_the_truth():
    A = symmetric(80, seed=3)
    values, vectors = torch.linalg.eigh(A)
    v = torch.randn(80, dtype=torch.float64)
    v /= v.norm()
    mass = ((vectors.T @ v) ** 2).numpy()
    rule = gauss(lanczos(lambda x: A @ x, v, 10, reorthogonalize=True))
    widths = []
    for x in np.linspace(-2.2, 2.2, 89):
        low, high = between(*rule, x)
        truth = mass[values.numpy() < x].sum()
        assert low - 1e-12 <= truth <= high + 1e-12
        widths.append(high - low)
    assert np.mean(widths) < 0.25


def space_after(A, starts, size, steps):
    space = KrylovSpace(lambda v: A @ v, starts, size, "test")
    while space.filled < steps:
        space.expand(0)
    return space


@pytest.mark.parametrize("block", [1, 3])
def test_a_krylov_space_keeps_its_relation_through_a_restart(block):
    A = symmetric(90)
    starts = torch.randn(90, block, dtype=torch.float64)
    space = space_after(A, starts, 12, 12)
    for _ in range(2):
        values, vectors, residuals = space.ritz()
        u = space.rows[: space.filled].T.numpy() @ vectors
        true = np.linalg.norm(A.numpy() @ u - u * values, axis=0)
        np.testing.assert_allclose(residuals, true, atol=1e-10)
        assert np.abs(u.T @ u - np.eye(len(values))).max() < 1e-12
        space.compress(vectors, np.argsort(-values)[:6])
        values, _, residuals = space.ritz()
        np.testing.assert_allclose(np.sort(residuals), np.sort(true[-6:]), atol=1e-10)
        while space.filled < 12:
            space.expand(len(space.waiting) - 1)


def test_orthogonality_in_float32_with_dominant_entries():
    # Vectors of a few large and very many small entries: float32 sums alone lose four digits here.
    n = 400_000
    scale = 0.05 * torch.randn(n, generator=torch.Generator().manual_seed(1))
    scale[:5] = torch.tensor([100.0, 60.0, 45.0, 40.0, 30.0])
    start = torch.randn(n, 1, generator=torch.Generator().manual_seed(2))
    space = KrylovSpace(lambda v: scale * v, start, 8, "test")
    while space.filled < 8:
        space.expand(0)
    rows = space.rows.double()
    assert (rows @ rows.T - torch.eye(8).double()).abs().max() < 1e-6
    assert abs(space.ritz()[0][-1] - 100.0) < 1e-4


def test_a_start_equal_to_the_random_vector_still_gets_a_probe():
    # Probes with the seed of the start draw the start again first.
    scale = torch.cat([torch.tensor([9.0, 9.0, 5.0]), torch.linspace(-1, 1, 300)]).double()
    probes = Probes(303, "gaussian", 0, torch.float64)
    start = Probes(303, "gaussian", 0, torch.float64).draw(1)
    search = Search(2, largest, 1e-2, 1e-3, 20, 500, True)
    pairs = eigenpairs(lambda v: scale * v, start, search, probes)
    np.testing.assert_allclose(pairs.values, [9.0, 9.0], rtol=1e-3)
