"""Diagonals against the matrix itself."""

from __future__ import annotations

import math

import pytest
import torch

from thalweg.curvature.dense import Dense
from thalweg.curvature.diagonal import diagonal


N = 100
REPETITIONS = 200


def matrix(spectrum, n=N):
    generator = torch.Generator().manual_seed(5)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return (q * spectrum) @ q.T


FALLING = matrix(0.9 ** torch.arange(N, dtype=torch.float64))
FLAT = matrix(torch.linspace(1.0, 2.0, N, dtype=torch.float64))


@pytest.mark.parametrize("A", [FALLING, FLAT], ids=["falling", "flat"])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("hutchinson", {"probes": 12}),
        ("hutchinson", {"probes": 5, "distribution": "gaussian"}),
        ("xdiag", {"probes": 12}),
    ],
    ids=str,
)
def test_the_intervals_cover_entry_by_entry(A, method, options):
    truth = A.diagonal()
    errors, inside = [], []
    for seed in range(REPETITIONS):
        found = diagonal(Dense(A, symmetric=True), method, seed=seed, **options)
        low, high = found.interval()
        inside.append(((low <= truth) & (truth <= high)).double())
        errors.append(found.value - truth)
    covered, error = torch.stack(inside), torch.stack(errors)
    assert 0.92 <= covered.mean() <= 0.98
    z = error.mean(0) / (error.std(0) / math.sqrt(REPETITIONS))
    assert z.abs().max() < 5
    assert abs(z.mean()) < 0.8


def test_xdiag_is_the_better_on_a_falling_spectrum():
    A = Dense(matrix(0.8 ** torch.arange(N, dtype=torch.float64)), symmetric=True)
    truth = A.matrix.diagonal()

    def error(method):
        found = [diagonal(A, method, max_products=40, seed=s) for s in range(10)]
        assert all(e.products == 40 for e in found)
        return float(torch.stack([e.value - truth for e in found]).norm())

    assert error("xdiag") < 0.2 * error("hutchinson")
    assert error("auto") < 0.2 * error("hutchinson")


def test_rademacher_is_exact_on_a_diagonal():
    entries = torch.linspace(-1.0, 3.0, N)
    found = diagonal(Dense(torch.diag(entries)), "hutchinson", probes=2)
    torch.testing.assert_close(found.value, entries)
    assert found.stderr.max() < 1e-3


def test_an_operator_that_is_not_symmetric():
    generator = torch.Generator().manual_seed(1)
    A = FALLING + torch.randn(N, N, generator=generator, dtype=torch.float64) / N
    found = [diagonal(Dense(A), "xdiag", probes=10, seed=s).value for s in range(REPETITIONS)]
    error = torch.stack(found) - A.diagonal()
    z = error.mean(0) / (error.std(0) / math.sqrt(REPETITIONS))
    assert z.abs().max() < 5


@pytest.mark.parametrize("method", ["hutchinson", "xdiag", "auto"])
def test_a_target_is_met(method):
    A = Dense(matrix(torch.linspace(1.0, 2.0, 300, dtype=torch.float64), 300), symmetric=True)
    found = diagonal(A, method, target=0.05)
    assert found.stderr.norm() <= 0.06 * found.value.norm()
    assert (found.value - A.matrix.diagonal()).norm() < 0.08 * A.matrix.diagonal().norm()
    assert found.products == A.products


def test_low_rank_is_exact():
    spectrum = torch.zeros(N, dtype=torch.float64)
    spectrum[:4] = torch.tensor([4.0, 3.0, -2.0, 1.0])
    A = matrix(spectrum)
    found = diagonal(Dense(A, symmetric=True), "xdiag", probes=10)
    torch.testing.assert_close(found.value, A.diagonal(), rtol=0, atol=1e-12)


def test_type_and_words():
    found = diagonal(Dense(FALLING.float(), symmetric=True), max_products=30)
    assert found.value.dtype == torch.float32
    assert "100 entries" in str(found)
    with pytest.raises(ValueError, match="'rademacher' with"):
        diagonal(Dense(FALLING), "xdiag", distribution="gaussian")
