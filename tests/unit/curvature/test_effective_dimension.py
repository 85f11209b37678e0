"""The effective dimension against eigenvalues."""

from __future__ import annotations

import math

import pytest
import torch

from thalweg.curvature.dense import Dense
from thalweg.curvature.effective_dimension import effective_dimension


N = 100
SPECTRUM = 10.0 / torch.arange(1, N + 1, dtype=torch.float64) ** 1.5


def matrix(spectrum, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    q, _ = torch.linalg.qr(torch.randn(N, N, generator=generator, dtype=torch.float64))
    return ((q * spectrum) @ q.T).to(dtype)


def truth(damping):
    return float((SPECTRUM / (SPECTRUM + damping)).sum())


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_the_interval_covers(distribution):
    A, expected = Dense(matrix(SPECTRUM), symmetric=True), truth(0.1)
    found = [
        effective_dimension(A, 0.1, probes=12, distribution=distribution, seed=s)
        for s in range(200)
    ]
    inside = sum(e.interval()[0] <= expected <= e.interval()[1] for e in found) / 200
    assert 0.9 <= inside <= 0.99
    errors = torch.tensor([e.value for e in found]) - expected
    assert abs(errors.mean()) < 4 * errors.std() / math.sqrt(200) + 1e-3 * expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("damping", [1e-3, 0.1, 5.0, 1e3])
def test_a_diagonal_is_measured_to_the_truncation(damping, dtype):
    # On a diagonal matrix Rademacher samples do not differ: what is left is the solver's error.
    A = Dense(torch.diag(SPECTRUM).to(dtype))
    found = effective_dimension(A, damping, probes=2)
    assert found.value == pytest.approx(truth(damping), rel=2e-3)
    assert found.value >= truth(damping) * (1 - 1e-4)
    assert found.products == A.products


def test_a_truncated_solve_is_counted_in_the_error():
    A = Dense(torch.diag(SPECTRUM))
    for damping, iterations in ((1e-3, 5), (1e-3, 10), (1e-2, 5)):
        found = effective_dimension(A, damping, probes=3, max_iterations=iterations)
        error = found.value - truth(damping)
        assert error > 1e-3 * found.value
        assert found.stderr >= error / 2


def test_a_target_is_met():
    A = Dense(matrix(SPECTRUM), symmetric=True)
    found = effective_dimension(A, 0.1, target=0.02, max_products=5000)
    assert found.stderr <= 0.02 * found.value
    assert abs(found.value - truth(0.1)) < 4 * found.stderr
    limited = effective_dimension(A, 0.1, target=1e-6, max_products=300)
    assert limited.products <= 300


def test_zero_has_none():
    assert effective_dimension(Dense(torch.zeros(30, 30)), 1.0).value == pytest.approx(0.0)


def test_refusals():
    with pytest.raises(ValueError, match="negative eigenvalue"):
        effective_dimension(Dense(torch.diag(torch.linspace(-1.0, 1.0, 50))), 0.1)
    with pytest.raises(ValueError, match="damping must be"):
        effective_dimension(Dense(torch.eye(50)), 0.0)
    with pytest.raises(ValueError, match="a symmetric operator"):
        effective_dimension(Dense(torch.ones(50, 50).triu()), 1.0)
