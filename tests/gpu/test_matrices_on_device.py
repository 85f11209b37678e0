"""Matrices of one shape are moved together on the accelerator, with the same result as apart."""

from __future__ import annotations

import pytest
import torch

from gpu import subjects
from gpu.subjects import DEVICE
from thalweg import optim
from thalweg.numerics.matrix_roots import eigen, inverse_root, refined_basis
from thalweg.numerics.newton_schulz import orthogonalized


subjects.require()
pytestmark = pytest.mark.gpu


def stepped(make, shapes, steps, foreach, dtype=torch.float64):
    """The parameters after some steps with given gradients."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    params = [torch.nn.Parameter(d.to(DEVICE, dtype)) for d in drawn]
    optimizer = make(params, foreach=foreach)
    for _ in range(steps):
        for p in params:
            g = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            p.grad = g.to(DEVICE, dtype)
        optimizer.step()
    return [p.detach() for p in params]


@pytest.mark.parametrize(
    "make",
    [
        lambda params, **o: optim.SOAP(params, interval=3, **o),
        lambda params, **o: optim.Shampoo(params, interval=3, block_size=12, **o),
        lambda params, **o: optim.Muon(params, ns_dtype="parameter", **o),
    ],
    ids=["soap", "shampoo", "muon"],
)
def test_together_as_one_by_one(make):
    # Square ones: no null space, in which any basis would do.
    shapes = [(16, 16)] * 5 + [(9, 9)] * 3 + [(7,), (30,)]
    together, apart = (stepped(make, shapes, 7, how) for how in (True, False))
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_bfloat16_parameters_keep_float32_state():
    for make in (optim.SOAP, optim.Shampoo):
        for p in stepped(make, [(16, 16), (16, 16)], 3, True, torch.bfloat16):
            assert p.dtype is torch.bfloat16
            assert bool(p.isfinite().all())


@pytest.mark.parametrize("n", [8, 33, 200])
def test_roots_and_bases_of_batches(n):
    generator = torch.Generator().manual_seed(n)
    rows = torch.randn(4, n, 2 * n, generator=generator, dtype=torch.float64)
    grams = rows @ rows.mT / n
    on_device = grams.to(DEVICE)
    for got, expected in zip(inverse_root(on_device, 4), inverse_root(grams, 4), strict=True):
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-9, atol=1e-9)
    values, vectors, good = eigen(on_device)
    assert bool(good.all())
    torch.testing.assert_close((vectors * values[:, None]) @ vectors.mT, on_device)
    new, order, good = refined_basis(on_device, vectors.flip(-1))
    assert bool(good.all())
    eye = torch.eye(n, dtype=torch.float64, device=DEVICE).expand_as(new)
    torch.testing.assert_close(new.mT @ new, eye)
    assert order.device == on_device.device


def test_a_bad_matrix_leaves_the_others():
    grams = torch.eye(6, dtype=torch.float32, device=DEVICE).repeat(3, 1, 1)
    grams[1] = float("nan")
    roots, good = inverse_root(grams, 2)
    assert good.tolist() == [True, False, True]
    torch.testing.assert_close(roots[1], torch.eye(6, device=DEVICE))


def test_orthogonalized_in_bfloat16():
    drawn = torch.randn(3, 40, 24, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    found = orthogonalized(drawn).float()
    values = torch.linalg.svdvals(found.cpu())
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.4
