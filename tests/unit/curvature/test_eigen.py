"""Eigenpairs against known spectra and LAPACK."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thalweg.curvature import Dense, Expression
from thalweg.curvature.condition import condition_number
from thalweg.curvature.eigen import eigsh, eigsh_near
from thalweg.errors import NonFiniteError
from thalweg.vectors import Vector
from unit.curvature.spectra import rotated, trained


BULK = np.random.default_rng(1).uniform(-1, 1, size=800)


def check_pairs(A, pairs, expected, rtol):
    """Values, orthonormal vectors, and residuals that are what they say."""
    np.testing.assert_allclose(np.sort(pairs.values), np.sort(expected), rtol=rtol, atol=1e-12)
    vectors = pairs.vectors.double()
    k = vectors.shape[1]
    accuracy = 1e-5 if pairs.vectors.dtype == torch.float32 else 1e-11
    assert (vectors.T @ vectors - torch.eye(k).double()).abs().max() < accuracy
    rest = (A @ pairs.vectors).double() - vectors * pairs.values
    scale = max(map(abs, pairs.ends))
    assert (rest.norm(dim=0) - pairs.residuals).abs().max() < 10 * accuracy * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("which", "wanted"),
    [("LA", [0, 1, 2, 3]), ("SA", [-1, -2, -3, -4]), ("LM", None), ("BE", [0, 1, -1, -2])],
)
def test_both_ends(which, wanted, dtype):
    values = np.sort(np.r_[BULK, 9.0, 7.0, 4.0, 3.0, -8.0, -6.0, -5.0, -2.0])[::-1]
    expected = values[wanted] if wanted else [9.0, -8.0, 7.0, -6.0]
    A = rotated(values, dtype)
    pairs = eigsh(A, 4, which, tol=1e-4)
    assert pairs.converged
    assert pairs.products == A.products
    check_pairs(A, pairs, expected, 1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_top_of_a_trained_spectrum_in_few_products(seed):
    values = trained(20_000, seed)
    A = rotated(values, torch.float32, seed)
    top = eigsh(A, seed=seed)
    assert abs(float(top.values[0]) - values[0]) < 1e-3 * values[0]
    assert top.products <= 8
    assert float(top.residuals[0]) <= 0.01 * values[0]
    assert abs(float(top.values[0]) - values[0]) <= float(top.residuals[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "top", [[10, 10, 10, 9, 9], [10, 10, 10, 10, 10], [10, 9.99, 9.98, 5, 5]], ids=str
)
def test_clusters_and_multiplicities(top, dtype):
    for seed in range(3):
        A = rotated(np.r_[BULK, top], dtype, seed)
        pairs = eigsh(A, len(top), tol=1e-4, seed=seed)
        check_pairs(A, pairs, top, 1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_copies_hidden_from_one_vector_are_looked_for(dtype):
    # From one vector 10 and 5 converge long before rounding shows the second 10.
    A = rotated(np.r_[BULK, 10.0, 10.0, 5.0], dtype)
    for seed in range(5):
        np.testing.assert_allclose(eigsh(A, 2, seed=seed).values, [10.0, 10.0], rtol=1e-3)
        alone = eigsh(A, 2, seed=seed, copies=False)
        np.testing.assert_allclose(alone.values, [10.0, 5.0], rtol=1e-3)
        assert alone.products < 20


def test_no_ghosts():
    values = np.r_[1000.0, 500.0, 100.0, BULK]
    pairs = eigsh(rotated(values), 6, tol=1e-5, max_products=3000)
    np.testing.assert_allclose(pairs.values, np.sort(values)[::-1][:6], rtol=1e-5)


def test_against_lapack_with_restarts():
    torch.manual_seed(4)
    matrix = torch.randn(300, 300, dtype=torch.float64)
    matrix = matrix + matrix.T
    pairs = eigsh(Dense(matrix), 5, "BE", tol=1e-9, max_products=5000)
    exact = torch.linalg.eigvalsh(matrix)
    assert pairs.converged
    assert pairs.products > 20  # more than one basis
    check_pairs(Dense(matrix), pairs, torch.cat([exact[:2], exact[-3:]]).numpy(), 1e-12)


def test_a_shifted_operator_is_resolved_like_the_plain_one():
    # Relative to its values the first vector looks converged at 1.0001.
    A = rotated(np.r_[4.0, np.ones(20_000)], torch.float32)
    for seed in range(5):
        found = eigsh(A, tol=0.03, seed=seed)
        assert float(found.values[0]) == pytest.approx(4.0, rel=1e-3)


@pytest.mark.parametrize(
    ("values", "k", "expected"),
    [(np.zeros(60), 3, [0.0] * 3), (np.ones(60), 3, [1.0] * 3), ([-3.0], 1, [-3.0])],
)
def test_degenerate_operators(values, k, expected):
    for which in ("LA", "SA", "LM", "BE"):
        pairs = eigsh(rotated(values), k, which)
        np.testing.assert_allclose(pairs.values, expected, atol=1e-12)
        assert pairs.converged


@pytest.mark.parametrize("k", [7, 8])
def test_nearly_all_pairs_come_from_lapack(k):
    matrix = torch.randn(8, 8, dtype=torch.float64)
    matrix = matrix + matrix.T
    pairs = eigsh(Dense(matrix), k, "SA")
    assert pairs.products == 8
    check_pairs(Dense(matrix), pairs, torch.linalg.eigvalsh(matrix)[:k].numpy(), 1e-12)


def test_a_warm_start_saves_products():
    values = np.sort(np.r_[BULK, 1.3, 1.25, 1.2])
    A = rotated(values)
    cold = eigsh(A, tol=1e-3)
    warm = eigsh(A * 1.01, tol=1e-3, start=cold)
    assert cold.products >= 2 * warm.products
    assert float(warm.values[0]) == pytest.approx(1.313, rel=1e-4)
    many = eigsh(A * 1.01, 3, copies=False, start=eigsh(A, 3, tol=1e-3), tol=1e-3)
    assert eigsh(A, 3, copies=False, tol=1e-3).products >= 2 * many.products
    np.testing.assert_allclose(many.values, [1.313, 1.2625, 1.212], rtol=1e-4)
    for start in (cold.vectors[:, 0], Vector([cold.vectors[:100, 0], cold.vectors[100:, 0]])):
        assert eigsh(A, start=start).values[0] == eigsh(A, start=cold).values[0]


def test_a_warm_start_on_the_wrong_eigenvector_is_left():
    scale = torch.from_numpy(trained(5000).copy())[:, None]
    A = Expression((5000, 5000), lambda v: scale * v, symmetric=True, dtype=torch.float64)
    second = torch.zeros(5000, dtype=torch.float64)
    second[1] = 1.0
    for seed in range(8):
        found = eigsh(A, start=second, seed=seed)
        assert float(found.values[0]) == pytest.approx(100.0, rel=1e-2)


def test_errors_bound_the_error_where_the_gap_is_resolved():
    values = trained(3000)
    A = rotated(values)
    for tol in (0.03, 0.01, 1e-3):
        pairs = eigsh(A, 3, tol=tol)
        off = np.abs(pairs.values.numpy() - values[:3])
        assert (off <= pairs.errors.numpy() * 1.5).all()
        assert (pairs.errors <= pairs.residuals + 1e-9).all()


def test_a_budget_ends_the_search():
    pairs = eigsh(rotated(BULK), 3, tol=1e-9, max_products=12)
    assert pairs.products == 12
    assert not pairs.converged
    assert "not converged" in str(pairs)


def test_one_seed_one_answer():
    A = rotated(trained(500), torch.float32)
    assert torch.equal(eigsh(A, 2, seed=3).vectors, eigsh(A, 2, seed=3).vectors)
    assert not torch.equal(eigsh(A, 2, seed=3).vectors, eigsh(A, 2, seed=4).vectors)


def test_half_precision_operators_get_float32_vectors():
    scale = torch.cat([torch.tensor([8.0]), torch.linspace(-1, 1, 99)]).bfloat16()[:, None]
    A = Expression((100, 100), lambda v: scale * v, symmetric=True, dtype=torch.bfloat16)
    pairs = eigsh(A)
    assert pairs.vectors.dtype == torch.float32
    assert float(pairs.values[0]) == pytest.approx(8.0, rel=0.02)


@pytest.mark.parametrize("shift", [pytest.param(0.3, marks=pytest.mark.slow), 0.9, -1.2])
def test_nearest_to_a_shift(shift):
    torch.manual_seed(5)
    matrix = torch.randn(300, 300, dtype=torch.float64)
    matrix = (matrix + matrix.T) / np.sqrt(600)
    exact = torch.linalg.eigvalsh(matrix)
    expected = exact[(exact - shift).abs().argsort()[:2]].numpy()
    pairs = eigsh_near(Dense(matrix), shift, 2, tol=1e-6)
    assert pairs.converged
    check_pairs(Dense(matrix), pairs, expected, 1e-8)


def test_bad_arguments():
    A = Dense(torch.eye(3))
    with pytest.raises(ValueError, match=r"k must be at most 3"):
        eigsh(A, 4)
    with pytest.raises(ValueError, match="which"):
        eigsh(A, 1, "largest")
    with pytest.raises(ValueError, match="tol"):
        eigsh(A, tol=0.0)
    with pytest.raises(ValueError, match="start must be 3 finite entries"):
        eigsh(A, start=torch.zeros(3))
    with pytest.raises(ValueError, match="max_products"):
        eigsh(A, 2, max_products=1)
    with pytest.raises(ValueError, match="shift"):
        eigsh_near(A, float("nan"))
    with pytest.raises(ValueError, match="symmetric"):
        eigsh(Dense(torch.tensor([[0.0, 1.0], [0.0, 0.0]])))
    with pytest.raises(TypeError, match="operator"):
        eigsh(torch.eye(3))


def test_nan_products_are_named():
    A = Expression((50, 50), lambda v: v * float("nan"), symmetric=True)
    with pytest.raises(NonFiniteError, match="eigsh: product 1"):
        eigsh(A)
    with pytest.raises(NonFiniteError, match="eigsh"):
        eigsh(A, 45)


def test_condition_number_of_a_definite_operator():
    A = rotated(np.r_[np.linspace(1, 2, 500), 0.5, 8.0])
    k = condition_number(A, 1e-3, method="lanczos", tol=1e-4)
    assert k.value == pytest.approx(16.0, rel=1e-6)
    assert k.low <= 16.0 <= k.high
    assert k.high - k.low < 0.1
    assert (k.inside, k.below) == (0.0, 0.0)


def test_condition_number_above_a_tolerance():
    values = trained(1400)
    cut = 1e-3 * values[0]
    exact = values[0] / values[values > cut].min()
    A = rotated(values)
    dense, krylov = (condition_number(A, 1e-3, method=m) for m in ("dense", "lanczos"))
    assert dense.value == pytest.approx(exact, rel=1e-9)
    assert dense.inside == np.mean(np.abs(values) <= cut)
    assert krylov.low <= exact <= krylov.high
    assert krylov.inside == pytest.approx(dense.inside, abs=0.1)
    assert krylov.low > 10


def test_condition_number_where_nothing_curves_upwards():
    for method in ("dense", "lanczos"):
        assert np.isnan(condition_number(rotated(-np.ones(200)), 1e-3, method=method).value)
