"""Objectives of residuals: half the sum of squares, a closure like any other, and the residuals."""

from __future__ import annotations

import pytest
import torch

import thalweg as tw


def residuals(x):
    return torch.stack([x[0] * x[1] - 2, x[0] - 1, 3 * x[1]])


def bound():
    x = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
    return x, tw.Objective.residuals(residuals).closure(x)


def test_the_value_is_half_the_sum_of_squares_and_its_gradient_is_jtr():
    x, closure = bound()
    assert closure.value().item() == 0.5 * (16 + 1 + 81)
    value, gradient = closure.value_and_grad()
    jacobian = torch.tensor([[3.0, 2.0], [1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    r = torch.tensor([4.0, 1.0, 9.0], dtype=torch.float64)
    assert value == closure()
    torch.testing.assert_close(gradient[0], jacobian.T @ r)
    torch.testing.assert_close(x.grad, jacobian.T @ r)
    elsewhere, targets = closure.outputs(torch.zeros(2, dtype=torch.float64))
    assert (elsewhere.tolist(), targets) == ([-2.0, -1.0, 0.0], None)


def test_torchs_optimizers_take_it():
    x, closure = bound()
    optimizer = torch.optim.LBFGS([x], line_search_fn="strong_wolfe", max_iter=100)
    optimizer.step(closure)
    assert closure.value_and_grad()[1][0].abs().max() < 1e-4


def test_curvature_knows_its_gauss_newton_matrix():
    _, closure = bound()
    jacobian = torch.tensor([[3.0, 2.0], [1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    ggn = tw.curvature.GGN(closure)
    torch.testing.assert_close(ggn.to_dense(), jacobian.T @ jacobian)
    hessian = jacobian.T @ jacobian + 4.0 * torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    torch.testing.assert_close(tw.curvature.Hessian(closure).to_dense(), hessian)


def test_random_numbers_are_drawn_once():
    x = torch.ones(3, requires_grad=True)
    closure = tw.Objective.residuals(lambda x: x + torch.randn(3)).closure(x)
    first = closure.value()
    assert closure.value() == first
    assert torch.equal(closure.outputs()[0], closure.outputs()[0])
    assert 0.5 * closure.outputs()[0].square().sum() == first


def test_what_is_refused():
    with pytest.raises(TypeError, match="a callable is needed"):
        tw.Objective.residuals(3)
    with pytest.raises(ValueError, match="a leaf tensor that requires a gradient"):
        tw.Objective.residuals(residuals).closure(torch.ones(2))
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match="the residuals must be a tensor of real numbers"):
        tw.Objective.residuals(lambda _: 3.0).closure(x)()
