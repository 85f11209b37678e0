"""Conjugate gradients against numpy's solver, and what they say where A is not positive."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thalweg.numerics.conjugate_gradient import conjugate_gradient


def positive(n, condition=100.0):
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return q @ np.diag(np.geomspace(1.0, condition, n)) @ q.T, rng.standard_normal(n)


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("warm", [False, True])
def test_the_solution_is_numpys(preconditioned, warm):
    A, b = positive(20)
    matrix = torch.from_numpy(A)
    found = conjugate_gradient(
        lambda v: matrix @ v,
        torch.from_numpy(b),
        torch.from_numpy(np.linalg.solve(A, b) + 0.1) if warm else None,
        tolerance=1e-12,
        preconditioner=(lambda v: v / matrix.diagonal()) if preconditioned else None,
    )
    assert found.converged
    np.testing.assert_allclose(found.x.numpy(), np.linalg.solve(A, b), rtol=1e-8)
    np.testing.assert_allclose(found.residual.numpy(), b - A @ found.x.numpy(), atol=1e-10)


def test_as_many_iterations_as_there_are_eigenvalues():
    A = torch.diag(torch.tensor([1.0, 1.0, 5.0, 5.0, 9.0], dtype=torch.float64))
    found = conjugate_gradient(lambda v: A @ v, torch.ones(5, dtype=torch.float64), tolerance=1e-10)
    assert found.iterations == 3


def test_a_warm_start_at_the_solution_takes_no_iteration():
    A, b = positive(10)
    x = torch.from_numpy(np.linalg.solve(A, b))
    found = conjugate_gradient(lambda v: torch.from_numpy(A) @ v, torch.from_numpy(b), x)
    assert (found.iterations, found.converged) == (0, True)


def test_the_limit_is_kept_and_said():
    A, b = positive(30)
    found = conjugate_gradient(lambda v: torch.from_numpy(A) @ v, torch.from_numpy(b), most=3)
    assert (found.iterations, found.converged) == (3, False)


def test_negative_curvature_is_reported():
    A = torch.diag(torch.tensor([1.0, 2.0, -1.0]))
    found = conjugate_gradient(lambda v: A @ v, torch.tensor([1.0, 1.0, 1.0]))
    assert not found.converged
    assert found.negative is not None
    assert found.negative @ A @ found.negative <= 0
    assert found.x.isfinite().all()


def test_nothing_to_solve():
    found = conjugate_gradient(lambda v: v, torch.zeros(3), torch.ones(3))
    assert found.converged
    assert found.x.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("options", [{"tolerance": -1.0}, {"most": -1}])
def test_bad_arguments(options):
    with pytest.raises(ValueError, match="conjugate_gradient"):
        conjugate_gradient(lambda v: v, torch.ones(1), **options)
