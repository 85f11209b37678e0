"""The Jacobian by rows, by columns and by samples against one backward pass an output."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import thalweg as tw
from thalweg.curvature import dense_jacobian as module
from thalweg.curvature.dense_jacobian import dense_jacobian, jacobian_by_samples
from thalweg.curvature.tangents import Tangents


MODELS = {
    "tanh": lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)),
    "layer-norm": lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3)),
    "batch-norm": lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).eval(),
}


def setting(name, samples=7):
    torch.manual_seed(0)
    model = MODELS[name]().double()
    x = torch.randn(samples, 4, dtype=torch.float64)
    closure = tw.Objective(model, nn.functional.mse_loss).closure(x, x[:, :3])
    still = closure.still()
    leaves = list(still.params)
    tangents = Tangents(lambda theta: still.program.outputs(theta)[0], leaves)
    return still.program, leaves, tangents


def by_hand(outputs, leaves):
    rows = [
        torch.cat([
            part.reshape(-1)
            for part in torch.autograd.grad(
                entry, leaves, retain_graph=True, materialize_grads=True
            )
        ])
        for entry in outputs.reshape(-1)
    ]  # fmt: skip
    return torch.stack(rows)


@pytest.mark.parametrize("name", MODELS)
def test_three_ways_one_matrix(name):
    program, leaves, tangents = setting(name)
    expected = by_hand(tangents.outputs, leaves)
    torch.testing.assert_close(dense_jacobian(tangents, leaves), expected)
    columns = module._by_columns(tangents, leaves, expected.shape[1])
    torch.testing.assert_close(columns, expected)
    made = jacobian_by_samples(program, leaves, range(len(leaves)), tangents.outputs)
    torch.testing.assert_close(made, expected)
    part = jacobian_by_samples(program, leaves, [1], tangents.outputs)
    first = leaves[0].numel()
    torch.testing.assert_close(part, expected[:, first : first + leaves[1].numel()])


def test_samples_that_see_each_other_are_noticed():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double()
    x = torch.randn(7, 4, dtype=torch.float64)
    still = tw.Objective(model, nn.functional.mse_loss).closure(x, x[:, :3]).still()
    outputs, _ = still.outputs()
    assert jacobian_by_samples(still.program, list(still.params), range(6), outputs) is None

    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 3).double()

        def forward(self, x):
            return self.inner(x - x.mean(0))

    still = tw.Objective(Centred(), nn.functional.mse_loss).closure(x, x[:, :3]).still()
    outputs, _ = still.outputs()
    assert jacobian_by_samples(still.program, list(still.params), range(2), outputs) is None


def test_rows_come_in_parts_where_there_are_many(monkeypatch):
    monkeypatch.setattr(module, "_ENTRIES", 64)
    x = torch.linspace(0.5, 1.5, 20, dtype=torch.float64, requires_grad=True)
    tangents = Tangents(lambda p: torch.cumsum(p[0] ** 2, 0), [x])
    expected = by_hand(tangents.outputs, [x])
    torch.testing.assert_close(dense_jacobian(tangents, [x]), expected)


def test_many_rows_of_few_columns_go_forward(monkeypatch):
    t = torch.linspace(0, 1, 400, dtype=torch.float64)
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    tangents = Tangents(lambda p: p[0][0] * torch.exp(-p[0][1] * t), [x])
    monkeypatch.setattr(module, "_by_rows", None)
    made = dense_jacobian(tangents, [x])
    decay = torch.exp(-2 * t)
    torch.testing.assert_close(made, torch.stack([decay, -t * decay], 1))


def test_layers_without_a_batching_rule_go_row_by_row():
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            if x.sum().item() < 0 or grad.sum().item() > 1e9:  # .item() cannot be batched
                raise AssertionError
            return 3 * x**2 * grad

    x = torch.tensor([1.0, 2.0], requires_grad=True)
    tangents = Tangents(lambda p: Cube.apply(p[0]), [x])
    made = dense_jacobian(tangents, [x])
    assert made.tolist() == [[3.0, 0.0], [0.0, 12.0]]


def test_constants_and_nothing():
    x = torch.ones(2, requires_grad=True)
    assert dense_jacobian(Tangents(lambda _: torch.ones(3), [x]), [x]).tolist() == [[0.0, 0.0]] * 3
    assert dense_jacobian(Tangents(lambda p: p[0][:0], [x]), [x]).shape == (0, 2)
