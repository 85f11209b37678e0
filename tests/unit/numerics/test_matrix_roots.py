"""Roots and bases against closed forms, scipy and deliberately broken matrices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from thalweg.numerics import matrix_roots
from thalweg.numerics.matrix_roots import eigen, inverse_root, refined_basis


def definite(n, seed=0, dtype=torch.float64, condition=1e3):
    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
    return ((q * torch.logspace(0, np.log10(condition), n, dtype=torch.float64)) @ q.T).to(dtype)


@pytest.mark.parametrize("root", [1, 2, 4, 3.5])
def test_the_root_is_scipys(root):
    a = definite(7)
    expected = scipy.linalg.fractional_matrix_power(a.numpy(), -1 / root).real
    found, good = inverse_root(a, root, 1e-12)
    assert bool(good)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-10, atol=1e-12)


def test_the_power_of_a_root_is_the_inverse():
    a = torch.stack([definite(5, seed) for seed in range(3)])
    found, _ = inverse_root(a, 4, 1e-12)
    eye = torch.eye(5, dtype=torch.float64).expand(3, 5, 5)
    torch.testing.assert_close(torch.linalg.matrix_power(found, 4) @ a, eye, rtol=0, atol=1e-9)


def test_tridiagonal_matrices_have_known_eigenvalues():
    n = 12
    a = torch.diag(torch.full((n,), 2.0)) - torch.diag(torch.ones(n - 1), 1)
    a = (a - torch.diag(torch.ones(n - 1), -1)).double()
    expected = 2 - 2 * torch.cos(torch.arange(1, n + 1).double() * np.pi / (n + 1))
    torch.testing.assert_close(eigen(a).values, expected)


def test_a_rank_deficient_root_is_the_floors():
    v = torch.tensor([3.0, 4.0], dtype=torch.float64)
    a = torch.outer(v, v)  # eigenvalues 25 and 0
    found, good = inverse_root(a, 2, 1e-4)
    along, across = v / 5, torch.tensor([-0.8, 0.6], dtype=torch.float64)
    assert bool(good)
    torch.testing.assert_close(found @ along, along / 5)
    torch.testing.assert_close(found @ across, across / (5 * 1e-2))


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e30])
def test_the_floor_is_relative(scale):
    a = definite(4, dtype=torch.float32)
    torch.testing.assert_close(
        inverse_root(a * scale, 2)[0] * scale**0.5, inverse_root(a, 2)[0], rtol=1e-4, atol=1e-5
    )


def test_the_root_of_zero_is_the_identity():
    found, good = inverse_root(torch.zeros(2, 3, 3), 4)
    assert bool(good.all())
    assert torch.equal(found, torch.eye(3).expand(2, 3, 3))
    assert inverse_root(torch.zeros(0, 0), 2)[0].shape == (0, 0)


def test_only_the_lower_triangle_is_read():
    a = definite(4)
    torch.testing.assert_close(eigen(a.tril()).values, eigen(a).values)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_reported_and_spoils_no_other(value):
    a = torch.stack([definite(3), definite(3), definite(3, 1)])
    a[1, 0, 0] = value
    roots, good = inverse_root(a, 2)
    assert good.tolist() == [True, False, True]
    assert torch.equal(roots[1], torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(roots[2], inverse_root(definite(3, 1), 2)[0])
    bases, order, good = refined_basis(a, eigen(a).vectors)
    assert good.tolist() == [True, False, True]
    assert torch.equal(bases[1], torch.eye(3, dtype=torch.float64))
    assert order[1].tolist() == [0, 1, 2]


class TestWhenLapackGivesUp:
    """As LAPACK does on some float32 matrices: it is tried again one by one, in float64."""

    def patched(self, monkeypatch, fails):
        kept = torch.linalg.eigh

        def eigh(a):
            if fails(a):
                raise torch.linalg.LinAlgError("failed to converge")
            return kept(a)

        monkeypatch.setattr(matrix_roots.torch.linalg, "eigh", eigh)

    def test_float64_is_tried(self, monkeypatch):
        a = torch.stack([definite(3, s, torch.float32) for s in range(2)])
        before = inverse_root(a, 4)[0]
        self.patched(monkeypatch, lambda a: a.dtype is torch.float32)
        roots, good = inverse_root(a, 4)
        assert good.tolist() == [True, True]
        assert roots.dtype is torch.float32
        torch.testing.assert_close(roots, before)

    def test_what_fails_there_too_is_reported(self, monkeypatch):
        self.patched(monkeypatch, lambda a: a.ndim == 3 or float(a[0, 0]) == 2.0)
        a = torch.stack([torch.eye(2), 2 * torch.eye(2)])
        roots, good = inverse_root(a, 2)
        assert good.tolist() == [True, False]
        assert torch.equal(roots[1], torch.eye(2))


def test_a_root_that_overflows_is_reported():
    roots, good = inverse_root(torch.full((1, 1), 1e-38), 0.5)
    assert not bool(good)
    assert roots.item() == 1.0


class TestRefinedBasis:
    def test_it_is_the_orthonormal_factor_in_order(self):
        a, q = definite(5), torch.linalg.qr(definite(5, 3))[0]
        new, order, good = refined_basis(a, q)
        quotients = np.diag(q.numpy().T @ a.numpy() @ q.numpy())
        assert order.tolist() == np.argsort(-quotients).tolist()
        expected = np.linalg.qr(a.numpy() @ q.numpy()[:, order.numpy()])[0]
        assert bool(good)
        torch.testing.assert_close(new.abs(), torch.from_numpy(expected).abs())

    def test_repeated_it_is_the_eigenbasis(self):
        a, q = definite(4), torch.eye(4, dtype=torch.float64)
        for _ in range(60):
            q, _, _ = refined_basis(a, q)
        expected = np.linalg.eigh(a.numpy())[1][:, ::-1]
        torch.testing.assert_close(q.abs(), torch.from_numpy(expected.copy()).abs())

    def test_it_stays_orthonormal_on_a_singular_matrix(self):
        a = torch.zeros(3, 3)
        a[0, 0] = 1.0
        q, _, good = refined_basis(a, torch.eye(3))
        assert bool(good)
        torch.testing.assert_close(q.T @ q, torch.eye(3))


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"eigen\(matrices=\(2, 3\)\): matrices must be of shape"):
        eigen(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"inverse_root\(root=0\): root must be"):
        inverse_root(torch.eye(2), 0)
    with pytest.raises(ValueError, match=r"inverse_root\(floor=0.0\): floor must be"):
        inverse_root(torch.eye(2), 2, 0.0)
