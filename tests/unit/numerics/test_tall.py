"""Tall matrices by blocks, and probes, against the plain computation."""

from __future__ import annotations

import pytest
import torch

from thalweg.numerics import tall
from thalweg.numerics.probes import Probes


@pytest.mark.parametrize("rows", [2**16, 40])
def test_blocks_give_what_the_whole_gives(rows, monkeypatch):
    monkeypatch.setattr(tall, "_ROWS", rows)
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(333, 7, generator=generator)
    a[:, 3] = a[:, 2] * (1 + 1e-5)  # badly conditioned
    b = torch.randn(333, 7, generator=generator)
    torch.testing.assert_close(tall.inner(a, b), a.double().T @ b.double())
    torch.testing.assert_close(tall.column_dots(a, b), (a.double() * b.double()).sum(0))
    q, r = tall.orthonormal(a)
    assert q.dtype == torch.float32
    assert r.dtype == torch.float64
    torch.testing.assert_close(q.double() @ r, a.double(), rtol=0, atol=1e-5)
    gram = q.double().T @ q.double()
    torch.testing.assert_close(gram, torch.eye(7).double(), rtol=0, atol=1e-6)
    assert torch.equal(r, r.triu())


def test_sums_are_in_double_precision():
    a = torch.full((3_000_000, 1), 0.1)
    assert tall.column_dots(a, a).item() == pytest.approx(3e6 * float(a[0]) ** 2, rel=1e-12)


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian", "sphere"])
def test_probes_have_the_identity_as_covariance(distribution):
    probes = Probes(5, distribution, seed=1, dtype=torch.float64).draw(40_000)
    second = probes @ probes.T / 40_000
    torch.testing.assert_close(second, torch.eye(5).double(), rtol=0, atol=0.04)


def test_probes_are_a_stream_that_the_seed_decides():
    first, second = Probes(6, seed=3), Probes(6, seed=3)
    assert torch.equal(
        first.draw(4), torch.cat([second.draw(1), second.draw(1), second.draw(2)], dim=1)
    )
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(Probes(6, seed=generator).draw(2), Probes(6, seed=3).draw(2))
    with pytest.raises(ValueError, match="distribution must be one of"):
        Probes(6, "uniform")
