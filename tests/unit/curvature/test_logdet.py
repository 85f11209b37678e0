"""Log-determinants against sums of logarithms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thalweg.curvature import Dense
from thalweg.curvature.logdet import logdet
from unit.curvature.spectra import rotated


WELL = np.random.default_rng(0).uniform(0.5, 4.0, size=120)


def test_dense_is_exact():
    torch.manual_seed(0)
    factor = torch.randn(40, 60, dtype=torch.float64)
    A = Dense(factor @ factor.T, symmetric=True)
    estimate = logdet(A)
    assert float(estimate) == pytest.approx(float(torch.logdet(A.matrix)), rel=1e-12)
    assert (estimate.stderr, estimate.products) == (0.0, 40)


def test_the_interval_covers_the_truth():
    A, truth = Dense(rotated(WELL).to_dense(), symmetric=True), np.log(WELL).sum()
    covered = 0
    for seed in range(200):
        low, high = logdet(A, "lanczos", steps=20, probes=6, seed=seed).interval()
        covered += low <= truth <= high
    assert 180 <= covered <= 198


def test_too_few_steps_widen_the_error():
    values = np.geomspace(1e-4, 1.0, 400)
    A, truth = rotated(values), np.log(values).sum()
    coarse = logdet(A, "lanczos", steps=8, probes=100)
    # The quadrature's error is far beyond the spread of 100 probes.
    assert abs(float(coarse) - truth) < 3 * coarse.stderr
    fine = logdet(A, "lanczos", steps=200, probes=30)
    assert fine.stderr < 0.2 * coarse.stderr
    assert abs(float(fine) - truth) < 3 * fine.stderr


def test_a_target_is_met_by_more_probes():
    A = rotated(WELL)
    for target in (0.05, 0.01):
        estimate = logdet(A, "lanczos", steps=20, target=target)
        assert estimate.stderr <= target * abs(float(estimate))
        assert estimate.products == 20 * estimate.samples
    assert estimate.samples > 4


@pytest.mark.parametrize("method", ["lanczos", "dense"])
@pytest.mark.parametrize("lowest", [-0.5, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_not_positive_is_refused_in_words(method, lowest, dtype):
    A = rotated(np.r_[WELL, lowest], dtype)
    with pytest.raises(ValueError, match=r"positive definite; it has an eigenvalue .*damped"):
        logdet(A, method, steps=121)
    assert np.isfinite(float(logdet(A.damped(0.6), method)))


def test_bad_arguments():
    A = Dense(torch.eye(3))
    with pytest.raises(ValueError, match="method"):
        logdet(A, "cholesky")
    with pytest.raises(ValueError, match="target"):
        logdet(A, target=0.0)
    with pytest.raises(ValueError, match="probes"):
        logdet(A, probes=0)
