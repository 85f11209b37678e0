"""The iteration against the singular value decomposition and the scalar polynomial."""

from __future__ import annotations

import pytest
import torch

from thalweg.numerics.newton_schulz import QUINTIC, orthogonalized


SHAPES = [(5, 5), (4, 9), (9, 4), (1, 6), (6, 1), (3, 4, 7), (2, 3, 5, 4)]


def drawn(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_go_through_the_polynomial_and_vectors_stay(shape):
    m = drawn(shape)
    u, s, vh = torch.linalg.svd(m, full_matrices=False)
    s = s / s.norm(dim=-1, keepdim=True)
    a, b, c = QUINTIC
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    expected = (u * s.unsqueeze(-2)) @ vh
    torch.testing.assert_close(orthogonalized(m, dtype=None), expected, rtol=1e-9, atol=1e-10)


def test_five_steps_bring_singular_values_near_one():
    s = torch.linspace(0.01, 1.0, 991, dtype=torch.float64)
    found = torch.stack([torch.linalg.svdvals(_at(v))[0] for v in s])
    assert found.min() > 0.68
    assert found.max() < 1.21


def _at(value):
    """One step pattern on a matrix of norm 1 whose first singular value is ``value``."""
    return orthogonalized(
        torch.diag(torch.tensor([value, (1 - value**2) ** 0.5], dtype=torch.float64)), dtype=None
    )[:1]


def test_converging_coefficients_reach_the_polar_factor():
    m = drawn((6, 4))
    u, _, vh = torch.linalg.svd(m, full_matrices=False)
    found = orthogonalized(m, 40, (15 / 8, -5 / 4, 3 / 8), dtype=None)
    torch.testing.assert_close(found, u @ vh, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_one_matrix_ends_at_torchs_bits(shape):
    p = torch.nn.Parameter(torch.zeros(shape))
    theirs = torch.optim.Muon([p], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False)
    theirs.param_groups[0]["adjust_lr_fn"] = "none"  # the factor 1
    p.grad = drawn(shape).float()
    theirs.step()
    found = orthogonalized(p.grad)
    assert found.dtype is torch.bfloat16
    assert torch.equal(found.float(), -p.detach())


def test_zero_and_empty_matrices_stay():
    assert torch.equal(orthogonalized(torch.zeros(3, 2), dtype=None), torch.zeros(3, 2))
    assert orthogonalized(torch.zeros(0, 2, 2), dtype=None).shape == (0, 2, 2)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"orthogonalized\(matrices=\(3,\)\): matrices must be"):
        orthogonalized(torch.ones(3))
    with pytest.raises(ValueError, match=r"orthogonalized\(steps=-1\): steps must be"):
        orthogonalized(torch.eye(2), -1)
