"""Saddle-free Newton: |H| in place of H, whole or in a Krylov space, and its damping."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thalweg.numerics.lanczos_span import krylov_model
from thalweg.optim import SaddleFreeNewton
from unit.optim.second_order_steps import bent, matrix, run, tensor, watched


VALUES = [-4.0, -0.5, 0.1, 1.0, 3.0, 8.0]
G = tensor(0.2, -0.1, 0.3, 0.15, -0.25, 0.05)


def absolute_step(H, g, damping):
    values, vectors = np.linalg.eigh(H.numpy())
    lifted = np.abs(values) + damping * np.abs(values).max()
    return -vectors @ ((vectors.T @ g.numpy()) / lifted)


@pytest.mark.parametrize("options", [{}, {"dense": 0}], ids=["dense", "Lanczos"])
@pytest.mark.parametrize("damping", [0.01, 0.3])
def test_the_step_is_that_of_the_absolute_hessian(options, damping):
    H = matrix(VALUES, seed=4)
    x = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer = SaddleFreeNewton([x], damping=damping, **options)
    _, after = run(optimizer, bent(H, G, 1e-3), x, 1)
    np.testing.assert_allclose(after.numpy(), absolute_step(H, G, damping), rtol=1e-9, atol=1e-11)
    assert optimizer.info.details["damping"] == damping
    assert optimizer.info.details["ratio"] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("options", [{}, {"dense": 0}], ids=["dense", "Lanczos"])
def test_without_damping_a_convex_quadratic_takes_one_step(options):
    H = matrix(np.abs(VALUES), seed=4)
    x = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    path = run(SaddleFreeNewton([x], damping=0.0, **options), bent(H, G), x, 1)
    torch.testing.assert_close(path[-1], -torch.linalg.solve(H, G), rtol=1e-8, atol=1e-8)


def test_in_a_smaller_space_the_step_is_the_projected_one():
    """In an orthonormal basis V of the space the step is -V (|V'HV| + damping)^-1 V'g."""
    H, g = matrix(np.linspace(-3, 9, 30), seed=5), torch.linspace(-0.3, 0.3, 30).double()
    x = torch.zeros(30, dtype=torch.float64, requires_grad=True)
    optimizer = SaddleFreeNewton([x], dense=0, krylov=8)
    _, after = run(optimizer, bent(H, g), x, 1)
    assert optimizer.counts.nhvp == 8
    basis = torch.linalg.qr(krylov_model(lambda v: H @ v, g, 8).vectors)[0]
    assert basis.shape == (30, 7)
    small = absolute_step(basis.T @ H @ basis, basis.T @ g, 0.01)
    np.testing.assert_allclose(after.numpy(), basis.numpy() @ small, rtol=1e-7, atol=1e-9)
    krylov = torch.stack([g, H @ g, H @ (H @ g)], 1)
    seen = basis @ (basis.T @ krylov)
    torch.testing.assert_close(seen, krylov, rtol=1e-8, atol=1e-9)


def test_the_damping_falls_tenfold_where_the_model_is_right():
    H = matrix(VALUES, seed=4)
    x = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer = SaddleFreeNewton([x], damping=0.5)
    used = []
    for _ in range(3):
        run(optimizer, bent(H, G), x, 1)
        used.append(optimizer.info.details["damping"])
    assert used == pytest.approx([0.5, 0.05, 0.005])


@pytest.mark.parametrize("options", [{}, {"dense": 0}], ids=["dense", "Lanczos"])
def test_a_rejected_trial_is_damped_more_without_new_products(options, monkeypatch):
    """From (2, 0.1) in sum sqrt(1 + x^2) the whole step overshoots to (-8, 0)."""
    seen = watched(monkeypatch)
    x = tensor(2.0, 0.1).requires_grad_()
    optimizer = SaddleFreeNewton([x], **options)
    before, after = run(optimizer, lambda x: (1 + x**2).sqrt().sum(), x, 1)
    details = optimizer.info.details
    assert details["rejections"] > 0
    assert details["damping"] == pytest.approx(0.01 * 10 ** details["rejections"])
    assert len(seen) == details["rejections"] + 1
    assert set(seen) == {optimizer.counts.nhvp}
    assert after.norm() < before.norm()


@pytest.mark.parametrize("options", [{}, {"dense": 0}], ids=["dense", "Lanczos"])
@pytest.mark.parametrize("start", [(0.5, 0.0), (0.3, 1e-8), (0.0, 0.0)])
def test_leaves_a_saddle(options, start):
    x = tensor(*start).requires_grad_()
    path = run(
        SaddleFreeNewton([x], **options), lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 2, x, 40
    )
    torch.testing.assert_close(path[-1].abs(), tensor(0.0, 1.0), rtol=0, atol=1e-7)


@pytest.mark.parametrize("options", [{}, {"dense": 0}], ids=["dense", "Lanczos"])
def test_leaves_a_saddle_that_it_converges_to_faster_than_rounding_can_tell(options):
    """On the line into the saddle of (1 - ab)^2 / 2 each step cubes the distance."""
    x = tensor(0.35, -0.35).requires_grad_()
    path = run(SaddleFreeNewton([x], **options), lambda x: 0.5 * (1 - x.prod()) ** 2, x, 30)
    assert path[-1].prod().item() == pytest.approx(1.0)
