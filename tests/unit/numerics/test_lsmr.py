"""LSQR and LSMR against scipy's and against dense answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.sparse import linalg

from thalweg.numerics.lsmr import lsmr
from thalweg.numerics.lsqr import lsqr


def matrix(m, n, condition=50.0):
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.standard_normal((m, min(m, n))))
    v, _ = np.linalg.qr(rng.standard_normal((n, min(m, n))))
    return u @ np.diag(np.geomspace(1, 1 / condition, min(m, n))) @ v.T, rng.standard_normal(m)


def products(A):
    A = torch.from_numpy(A)
    return (lambda v: A @ v), (lambda u: A.T @ u)


@pytest.mark.parametrize("method", [lsmr, lsqr])
@pytest.mark.parametrize(("m", "n"), [(30, 10), (10, 10), (10, 30)])
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_the_solution_is_the_dense_one(method, m, n, damping):
    A, b = matrix(m, n)
    found = method(*products(A), torch.from_numpy(b), damping, tolerance=1e-13, most=200)
    stacked = np.vstack([A, damping * np.eye(n)])
    expected, *_ = np.linalg.lstsq(stacked, np.concatenate([b, np.zeros(n)]), rcond=1e-12)
    assert found.converged
    np.testing.assert_allclose(found.x.numpy(), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("most", [1, 3, 7])
def test_iterates_are_scipys(damping, most):
    A, b = matrix(40, 15, 1e3)
    right = torch.from_numpy(b)
    theirs = linalg.lsmr(A, b, damp=damping, atol=0, btol=0, conlim=0, maxiter=most)[0]
    ours = lsmr(*products(A), right, damping, 0.0, most)
    np.testing.assert_allclose(ours.x.numpy(), theirs, rtol=1e-6)
    theirs = linalg.lsqr(A, b, damp=damping, atol=0, btol=0, conlim=0, iter_lim=most)[0]
    np.testing.assert_allclose(lsqr(*products(A), right, damping, 0.0, most).x.numpy(), theirs,
                               rtol=1e-6)  # fmt: skip


@pytest.mark.parametrize("method", [lsmr, lsqr])
@pytest.mark.parametrize("damping", [0.0, 0.2])
def test_the_recurrence_knows_the_gradient(method, damping):
    A, b = matrix(25, 12, 1e2)
    for most in (1, 4, 9):
        found = method(*products(A), torch.from_numpy(b), damping, 0.0, most)
        x = found.x.numpy()
        gradient = A.T @ (b - A @ x) - damping**2 * x
        share = np.linalg.norm(gradient) / np.linalg.norm(A.T @ b)
        assert found.normal == pytest.approx(share, rel=1e-6)
        assert found.iterations == most


def test_lsmrs_gradient_falls_in_every_iteration():
    A, b = matrix(60, 40, 1e4)
    norms = [lsmr(*products(A), torch.from_numpy(b), 0.0, 0.0, k).normal for k in range(1, 30)]
    pairs = itertools.pairwise(norms)
    assert all(second <= first * (1 + 1e-12) for first, second in pairs)


@pytest.mark.parametrize("method", [lsmr, lsqr])
def test_nothing_to_do_and_one_dimension(method):
    A = torch.tensor([[2.0], [0.0]])
    zero = method(lambda v: A @ v, lambda u: A.T @ u, torch.tensor([0.0, 1.0]))
    assert (zero.x.tolist(), zero.iterations, zero.converged) == ([0.0], 0, True)
    one = method(lambda v: A @ v, lambda u: A.T @ u, torch.tensor([3.0, 1.0]))
    assert one.x.item() == pytest.approx(1.5, rel=1e-6)
    with pytest.raises(ValueError, match=r"damping must be a number >= 0"):
        method(lambda v: A @ v, lambda u: A.T @ u, torch.ones(2), damping=-1.0)
