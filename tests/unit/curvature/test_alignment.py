"""Alignment against the entries."""

from __future__ import annotations

import pytest
import torch

from thalweg.curvature.alignment import alignment
from thalweg.curvature.dense import Dense


N = 100


def pair():
    generator = torch.Generator().manual_seed(5)
    q, _ = torch.linalg.qr(torch.randn(N, N, generator=generator, dtype=torch.float64))
    H = (q * (1.0 / torch.arange(1, N + 1, dtype=torch.float64))) @ q.T
    noise = torch.randn(N, 10, generator=generator, dtype=torch.float64) / N
    half = q * (1.0 / torch.arange(1, N + 1, dtype=torch.float64)).sqrt()
    C = 0.5 * half @ half.T @ half @ half.T + noise @ noise.T
    return C, H


@pytest.mark.parametrize(
    "method",
    [
        "hutchinson",
        pytest.param("xtrace", marks=pytest.mark.slow),
        pytest.param("auto", marks=pytest.mark.slow),
    ],
)
def test_the_intervals_cover(method):
    C, H = pair()
    operators = Dense(C, symmetric=True), Dense(H, symmetric=True)
    expected = {
        "cosine": (C * H).sum() / (C.norm() * H.norm()),
        "product": (C * H).sum(),
        "trace of C": C.trace(),
        "trace of H": H.trace(),
        "norm of C": C.norm(),
        "norm of H": H.norm(),
    }
    found = [alignment(*operators, method, max_products=40, seed=s) for s in range(200)]
    for i, (name, value) in enumerate(expected.items()):
        estimates = [[f.cosine, f.product, *f.traces, *f.norms][i] for f in found]
        truth = float(value)
        inside = sum(e.interval()[0] <= truth <= e.interval()[1] for e in estimates) / 200
        assert 0.88 <= inside <= 0.99, name
        mean = sum(e.value for e in estimates) / 200
        assert mean == pytest.approx(truth, rel=0.05), name


def test_a_multiple_is_aligned_and_costs_are_counted():
    _, H = pair()
    first, second = Dense(3.0 * H, symmetric=True), Dense(H, symmetric=True)
    found = alignment(first, second, "hutchinson", probes=10)
    assert found.cosine.value == pytest.approx(1.0)
    assert found.cosine.stderr < 1e-12
    assert found.cosine.products == first.products + second.products == 20
    opposite = alignment(first, Dense(-H, symmetric=True), "xtrace", probes=10)
    assert opposite.cosine.value == pytest.approx(-1.0)


def test_small_ones_are_exact():
    C, H = pair()
    found = alignment(Dense(C[:15, :15]), Dense(H[:15, :15]))
    expected = (C * H)[:15, :15].sum() / (C[:15, :15].norm() * H[:15, :15].norm())
    assert found.cosine.value == pytest.approx(float(expected))
    assert found.cosine.stderr == 0.0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="H must be an operator of shape"):
        alignment(Dense(torch.eye(3)), Dense(torch.eye(4)))
