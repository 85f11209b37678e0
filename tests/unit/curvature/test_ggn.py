"""Gauss-Newton matrices: where they are the Hessian, and what outputs they take."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import Objective
from thalweg.curvature import GGN, Hessian, How
from unit.curvature.oracle import Case, close, gauss_newton, hessian


DOUBLE = torch.float64


class Features(nn.Module):
    """Linear in its parameters, not in its inputs."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(3, dtype=DOUBLE))
        self.head = nn.Linear(9, 3, bias=False).to(DOUBLE)

    def forward(self, x):
        return self.head(torch.cat([x, x.sin(), x**2], 1)) + self.scale * x


@pytest.mark.parametrize(
    "loss",
    [F.cross_entropy, nn.CrossEntropyLoss(label_smoothing=0.3), lambda z, _: z.exp().mean()],
)
def test_it_is_the_hessian_where_the_model_is_linear_in_its_parameters(loss):
    case = Case(Features(), loss, torch.randn(5, 3, dtype=DOUBLE), torch.tensor([0, 2, 1, 1, 0]))
    value, _, params = case.seen()
    close(GGN(case.closure()).to_dense(), hessian(value, params))


def test_it_is_the_hessian_where_the_residual_is_zero():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(DOUBLE)
    x = torch.randn(5, 3, dtype=DOUBLE)
    closure = Objective(model, F.mse_loss).closure(x, model(x).detach())
    close(GGN(closure).to_dense(), Hessian(closure).to_dense())


def test_its_rank_is_at_most_the_number_of_outputs():
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).to(DOUBLE)
    x = torch.randn(2, 3, dtype=DOUBLE)
    values = torch.linalg.eigvalsh(
        GGN(Objective(model, F.mse_loss).closure(x, x[:, :2])).to_dense()
    )
    assert int((values > 1e-12).sum()) == 4
    assert values.min() > -1e-14


def test_targets_that_broadcast_the_outputs():
    model = nn.Sequential(nn.Linear(3, 1), nn.Tanh()).to(DOUBLE)
    x, y = torch.randn(4, 3, dtype=DOUBLE), torch.randn(4, 2, dtype=DOUBLE)

    def loss(z, y):
        return (z - y).square().mean()

    expected = gauss_newton(Case(model, loss, x, y))
    with pytest.warns(UserWarning, match="broadcast"):
        found = GGN(Objective(model, F.mse_loss).closure(x, y)).to_dense()
    close(found, expected)


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 4, 3), (2, 4, 3, 2)])
def test_cross_entropy_of_any_shape(shape):
    """A single sample, samples, positions, pixels."""
    logits = torch.randn(shape, dtype=DOUBLE)
    model = Table(logits)
    rest = shape[:1] + shape[2:] if len(shape) > 1 else ()
    y = torch.randint(0, 4, rest)
    case = Case(model, F.cross_entropy, torch.zeros(1), y)
    value, _, params = case.seen()
    close(GGN(case.closure()).to_dense(), hessian(value, params))


class Table(nn.Module):
    """Outputs that are the parameters."""

    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(values)

    def forward(self, x):
        return 1.0 * self.values


def test_a_large_vocabulary_is_not_formed():
    """The loss's Hessian acts by products: the matrix of 5000 classes would not fit a test."""
    model = nn.Linear(2, 5000, bias=False)
    x, y = torch.randn(3, 2), torch.randint(0, 5000, (3,))
    G = GGN(Objective(model, F.cross_entropy).closure(x, y))
    p = model(x).softmax(1).detach()
    v = torch.randn(5000, 2)
    u = x @ v.T
    expected = (p * (u - (p * u).sum(1, keepdim=True))).T @ x / 3
    close(G @ v.reshape(-1), expected.reshape(-1), 1e-5)


def test_many_products_pass_from_dual_numbers_to_a_recording_unseen():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(DOUBLE)
    case = Case(
        model, F.cross_entropy, torch.randn(5, 3, dtype=DOUBLE), torch.tensor([0, 1] * 2 + [1])
    )
    expected = gauss_newton(case)
    G = GGN(case.closure(), how=How(check=False))
    v = torch.randn(len(expected), dtype=DOUBLE)
    products = torch.stack([G @ v for _ in range(9)])
    close(products, (expected @ v).expand(9, -1))


def test_a_forward_pass_under_no_grad_is_not_differentiated():
    """Forward mode goes through no_grad, backward mode does not; the loss has the latter."""

    class Target(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            h = self.a(x).tanh()
            with torch.no_grad():
                scale = h.norm(dim=1, keepdim=True)
            return self.b(h / scale)

    case = Case(
        Target().to(DOUBLE),
        F.cross_entropy,
        torch.randn(5, 3, dtype=DOUBLE),
        torch.tensor([0, 1, 1, 0, 1]),
    )
    close(GGN(case.closure()).to_dense(), gauss_newton(case))


def test_outputs_that_are_no_tensor_are_refused_in_words():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 2)

        def forward(self, x):
            return self.inner(x), x

    objective = Objective(Two(), lambda z, y: (z[0] - y).square().mean())
    closure = objective.closure(torch.ones(4, 3), torch.zeros(4, 2))
    with pytest.raises(TypeError, match="one tensor, got tuple"):
        GGN(closure).to_dense()
    assert Hessian(closure).to_dense().any()
