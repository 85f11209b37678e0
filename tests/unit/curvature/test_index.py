"""The number of negative eigenvalues, and directions of negative curvature."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thalweg.curvature import Dense
from thalweg.curvature.eigen import eigsh
from thalweg.curvature.index import negative_curvature, negative_eigenvalues
from unit.curvature.spectra import rotated, trained


def counts(values, threshold):
    return int((values < -threshold).sum()), int((np.abs(values) <= threshold).sum())


@pytest.mark.parametrize("tolerance", [1e-6, 1e-3, 1e-2])
@pytest.mark.parametrize("seed", range(3))
def test_inertia_counts_as_eigvalsh_does(seed, tolerance):
    torch.manual_seed(seed)
    matrix = torch.randn(120, 120, dtype=torch.float64)
    matrix = matrix @ torch.diag(torch.randn(120).double() ** 5) @ matrix.T  # many near zero
    matrix = (matrix + matrix.T) / 2
    values = torch.linalg.eigvalsh(matrix).numpy()
    found = negative_eigenvalues(Dense(matrix), tolerance)
    below, inside = counts(values, tolerance * np.abs(values).max())
    assert (found.count, found.inside, found.stderr) == (below, inside, 0.0)
    assert (found.method, found.products) == ("inertia", 120)


def test_an_absolute_tolerance():
    A = Dense(torch.diag(torch.tensor([-3.0, -0.2, 0.05, 7.0])))
    found = negative_eigenvalues(A, 0.1, scale=1.0)
    assert (found.count, found.inside, found.threshold) == (2, 1, 0.1)
    assert negative_eigenvalues(A, 1.0, scale=1.0).count == 1


@pytest.mark.parametrize("tolerance", [3e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lanczos_counts_within_its_error(dtype, tolerance):
    values = trained(2000)
    below, inside = counts(values, tolerance * 100.0)
    found = negative_eigenvalues(rotated(values, dtype), tolerance, method="lanczos")
    assert abs(found.count - below) <= 2.5 * found.stderr
    assert abs(found.inside - inside) <= 2.5 * found.inside_stderr
    assert found.stderr < 0.1 * 2000
    assert found.low <= below <= found.high
    assert found.threshold == pytest.approx(tolerance * 100.0, rel=1e-4)


def test_the_error_knows_that_steps_are_coarse():
    # All probes see a smooth spectrum through nodes in the same places.
    angles = np.pi * (np.arange(1500) + 0.5) / 1500
    values = np.sort(2 * np.cos(angles) + 0.01)
    for tolerance in (1e-3, 3e-3, 0.03):
        found = negative_eigenvalues(
            rotated(values), tolerance, method="lanczos", steps=40, probes=20
        )
        below, inside = counts(values, found.threshold)
        assert abs(found.count - below) <= 2.1 * found.stderr
        assert abs(found.inside - inside) <= 2.1 * found.inside_stderr


def test_lanczos_intervals_cover_the_truth():
    rng = np.random.default_rng(0)
    misses = 0
    for seed in range(60):
        values = rng.standard_t(2, size=150)
        found = negative_eigenvalues(
            rotated(values, seed=seed), 1e-2, method="lanczos", steps=30, probes=8, seed=seed
        )
        below, _ = counts(values, found.threshold)
        misses += abs(found.count - below) > 2.36 * found.stderr  # Student, 7 degrees
    assert misses <= 6


def test_a_target_ends_early_or_when_probes_no_longer_help():
    A = rotated(trained(1000))
    easy = negative_eigenvalues(A, 1e-2, method="lanczos", target=0.05)
    assert easy.stderr <= 0.05 * 1000
    assert easy.products == 4 * 80
    hopeless = negative_eigenvalues(A, 1e-3, method="lanczos", target=1e-9)
    assert hopeless.products < 200 * 80


@pytest.mark.parametrize("method", ["inertia", "lanczos"])
def test_operators_without_negative_eigenvalues(method):
    zero = negative_eigenvalues(rotated(np.zeros(200)), 1e-3, method=method)
    assert (zero.count, zero.inside) == (0, 200)
    one = negative_eigenvalues(rotated(np.ones(200)), 1e-3, method=method)
    assert (one.count, one.inside) == (0, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_direction_of_negative_curvature(dtype):
    values = np.r_[trained(1000), -20.0]
    A = rotated(values, dtype)
    gradient = torch.randn(1001, dtype=dtype)
    saddle = negative_curvature(A, gradient=gradient)
    v = saddle.vector
    assert saddle.found
    assert float(v.norm()) == pytest.approx(1.0, rel=1e-5)
    assert saddle.value == pytest.approx(float(v @ (A @ v)), rel=1e-4)
    assert saddle.value == pytest.approx(-20.0, rel=1e-2)
    assert float((A @ v - saddle.value * v).norm()) == pytest.approx(saddle.residual, rel=0.05)
    assert float(gradient @ v) <= 0
    assert float(-gradient @ negative_curvature(A, gradient=-gradient).vector) <= 0
    assert not negative_curvature(A, tolerance=20.5).found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_direction_in_a_semidefinite_operator(dtype):
    A = rotated(np.r_[np.zeros(300), np.linspace(1, 5, 30)], dtype)
    for seed in range(10):
        assert not negative_curvature(A, tol=1e-4, seed=seed).found
    assert not negative_curvature(rotated(np.zeros(300), dtype)).found


def test_a_direction_starts_from_an_earlier_one():
    A = rotated(np.sort(np.random.default_rng(3).normal(size=900)))
    sharp = eigsh(A, which="SA", tol=1e-6)
    warm = negative_curvature(A, start=sharp, tol=1e-3)
    assert warm.products < negative_curvature(A, tol=1e-3).products
    assert warm.value == pytest.approx(float(sharp.values[0]), rel=1e-4)


def test_bad_arguments():
    A = Dense(torch.eye(3))
    for tolerance in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="tolerance"):
            negative_eigenvalues(A, tolerance)
    with pytest.raises(ValueError, match="scale"):
        negative_eigenvalues(A, 0.1, scale=0.0)
    with pytest.raises(ValueError, match="tolerance"):
        negative_curvature(A, -1.0)
