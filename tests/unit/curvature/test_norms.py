"""The Frobenius norm against the entries."""

from __future__ import annotations

import math

import pytest
import torch

from thalweg.curvature.dense import Dense
from thalweg.curvature.norms import frobenius


N = 120


def matrix(spectrum):
    generator = torch.Generator().manual_seed(5)
    q, _ = torch.linalg.qr(torch.randn(N, N, generator=generator, dtype=torch.float64))
    return (q * spectrum) @ q.T


SPECTRA = {
    "falling": 1.0 / torch.arange(1, N + 1, dtype=torch.float64).sqrt(),
    "indefinite": torch.linspace(-1.0, 1.5, N, dtype=torch.float64),
}


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("method", ["hutchinson", "xtrace", "auto"])
def test_the_interval_covers(spectrum, method):
    A = Dense(matrix(SPECTRA[spectrum]), symmetric=True)
    truth = float(SPECTRA[spectrum].norm())
    found = [frobenius(A, method, max_products=30, seed=s) for s in range(200)]
    inside = sum(e.interval()[0] <= truth <= e.interval()[1] for e in found) / 200
    assert 0.9 <= inside <= 0.99
    errors = torch.tensor([e.value for e in found]) - truth
    # The root of an unbiased square is too small by its variance over 8 times the value cubed.
    assert abs(errors.mean()) < 4 * errors.std() / math.sqrt(200) + errors.var() / truth


def test_a_basis_makes_the_norm_sharp():
    A = Dense(matrix(0.7 ** torch.arange(N, dtype=torch.float64)), symmetric=True)
    truth = float(A.matrix.norm())
    for seed in range(5):
        assert frobenius(A, "xtrace", probes=20, seed=seed).value == pytest.approx(truth, rel=1e-4)


def test_a_matrix_that_is_not_symmetric():
    generator = torch.Generator().manual_seed(2)
    A = torch.randn(N, N, generator=generator, dtype=torch.float64)
    for method in ("hutchinson", "xtrace"):
        found = frobenius(Dense(A), method, probes=30)
        assert abs(found.value - float(A.norm())) < 4 * found.stderr


def test_a_target_is_met():
    A = Dense(matrix(SPECTRA["falling"]), symmetric=True)
    found = frobenius(A, "hutchinson", target=0.02)
    assert found.stderr <= 0.02 * found.value
    assert found.products == A.products


def test_zero():
    assert frobenius(Dense(torch.zeros(80, 80)), "hutchinson").value == 0.0
