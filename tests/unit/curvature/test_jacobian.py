"""Jacobians of models and of functions, and the Gauss-Newton matrix of residuals."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import Objective
from thalweg.curvature import GaussNewton, Jacobian
from unit.curvature.oracle import Case, close, jacobian


DOUBLE = torch.float64


def made():
    torch.manual_seed(10)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(DOUBLE)
    return Case(
        model, F.cross_entropy, torch.randn(5, 3, dtype=DOUBLE), torch.tensor([0, 1, 1, 0, 1])
    )


@pytest.mark.parametrize("scheme", [None, "linearize", "dual", "reverse"])
def test_both_products_are_those_of_the_dense_jacobian(scheme):
    case = made()
    _, outputs, params = case.seen()
    dense = jacobian(outputs, params)
    J = Jacobian(case.closure(), scheme=scheme)
    assert J.shape == dense.shape == (10, 26)
    assert not J.symmetric
    close(J.to_dense(), dense)
    close(J.adjoint.to_dense(), dense.T)
    close(J.outputs, outputs().detach().reshape(-1))
    u = torch.randn(10, 3, dtype=DOUBLE)
    close(J.adjoint @ u, dense.T @ u)
    close((J.adjoint @ J).to_dense(), dense.T @ dense)


def test_rows_of_a_loader_stand_batch_after_batch():
    case = made()
    _, outputs, params = case.seen()
    risk = case.objective().over([(case.x[:3], case.y[:3]), (case.x[3:], case.y[3:])])
    J = Jacobian(risk)
    close(J.to_dense(), jacobian(outputs, params))
    close(J.adjoint.to_dense(), jacobian(outputs, params).T)


def test_some_parameters():
    case = made()
    _, outputs, params = case.seen()
    J = Jacobian(case.closure(), params="2.*")
    close(J.to_dense(), jacobian(outputs, params[2:]))
    assert J.names == ["2.weight", "2.bias"]


def test_the_snapshot_stays():
    case = made()
    J = Jacobian(case.closure())
    before = J.to_dense()
    with torch.no_grad():
        for p in case.model.parameters():
            p.add_(1.0)
    close(J.to_dense(), before, 1e-14)
    close(J.adjoint.to_dense(), before.T, 1e-14)


def test_a_function_of_any_shape():
    x = torch.randn(2, 3, dtype=DOUBLE)
    J = Jacobian.of(lambda x: (x @ x.T).exp(), x)
    leaf = x.clone().requires_grad_()
    dense = jacobian(lambda: (leaf @ leaf.T).exp(), [leaf])
    close(J.to_dense(), dense)
    close(J.adjoint.to_dense(), dense.T)


def test_the_gauss_newton_matrix_of_residuals():
    x = torch.randn(3, dtype=DOUBLE)

    def residuals(x):
        return torch.stack([x[0] * x[1], x[1].sin(), x[2] ** 2, x.sum()])

    A = GaussNewton(residuals, x)
    a, b, c = x.tolist()
    dense = torch.tensor([[b, a, 0], [0, math.cos(b), 0], [0, 0, 2 * c], [1, 1, 1]], dtype=DOUBLE)
    close(A.to_dense(), dense.T @ dense)
    close(A.residuals, residuals(x))
    close(A.gradient, dense.T @ residuals(x))
    assert A.symmetric


def test_one_gauss_newton_step_solves_linear_least_squares():
    matrix, target = torch.randn(6, 3, dtype=DOUBLE), torch.randn(6, dtype=DOUBLE)
    x = torch.randn(3, dtype=DOUBLE)
    A = GaussNewton(lambda x: matrix @ x - target, x)
    step = torch.linalg.solve(A.to_dense(), -A.gradient)
    close(x + step, torch.linalg.lstsq(matrix, target).solution)


def test_an_embedding_holds_its_padding_row_still_both_ways():
    model = nn.Sequential(nn.Embedding(4, 2, padding_idx=0), nn.Linear(2, 2)).to(DOUBLE)
    words = torch.tensor([0, 1, 3])
    closure = Objective(model, F.cross_entropy).closure(words, torch.tensor([0, 1, 1]))
    J = Jacobian(closure)
    close(J.to_dense(), J.adjoint.to_dense().T)
    assert not J.to_dense()[:, :2].any()


def test_a_model_with_its_own_loss_has_no_outputs():
    objective = Objective(nn.Linear(2, 1), None, forward=lambda m, b: m(b).mean())
    with pytest.raises(TypeError, match="computes its own loss"):
        Jacobian(objective.closure(torch.ones(3, 2)))
