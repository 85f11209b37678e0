"""The dense Hessian of a step: many products in one pass are the products one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import thalweg as tw
from thalweg.objective import products as passes
from thalweg.optim import products
from thalweg.optim.ground import Counts, Ground
from thalweg.optim.products import CurvatureFallbackWarning, look


class Unbatched(torch.autograd.Function):
    """x^3, whose second backward pass looks at a number, which torch cannot do for many at once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return Slope.apply(x, grad)


class Slope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, grad):
        ctx.save_for_backward(x, grad)
        return 3 * x**2 * grad

    @staticmethod
    def backward(ctx, back):
        x, grad = ctx.saved_tensors
        scale = float(back.abs().max().item())
        return 6 * x * grad * back * (scale / scale if scale else 1.0), 3 * x**2 * back


class Cubes(nn.Module):
    def forward(self, x):
        return Unbatched.apply(x)


LAYERS = {
    "tanh": lambda: [nn.Tanh()],
    "layer norm": lambda: [nn.LayerNorm(4), nn.Tanh()],
    "batch norm": lambda: [nn.BatchNorm1d(4), nn.Tanh()],
    "no batching rule": lambda: [nn.LayerNorm(4), Cubes()],
}


def network(kind, dtype=torch.float64):
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(3, 4), *LAYERS[kind](), nn.Linear(4, 2)).to(dtype)
    return model, torch.randn(10, 3, dtype=dtype), torch.randn(10, 2, dtype=dtype)


def standing(closure, params):
    params = list(params)

    def call(evaluate):
        with torch.enable_grad():
            return evaluate()

    with torch.no_grad():
        seen = look("Tester", closure, params, call)
    return Ground(closure, params, seen.loss, seen.product, counts=Counts())


def one_by_one(ground):
    eye = torch.eye(ground.x.numel(), dtype=ground.x.dtype)
    columns = torch.stack([ground.product(row) for row in eye])
    return (columns + columns.T) / 2


def risk(model, x, y):
    objective = tw.Objective(model, nn.functional.mse_loss)
    return objective.over([(x[:4], y[:4]), (x[4:8], y[4:8]), (x[8:], y[8:])])


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("memory", [2**27, 2**15])
@pytest.mark.parametrize("over", [False, True], ids=["batch", "risk"])
def test_equals_single_products_to_rounding(kind, dtype, memory, over, monkeypatch):
    monkeypatch.setattr(passes, "_MEMORY", memory)
    model, x, y = network(kind, dtype)
    objective = tw.Objective(model, nn.functional.mse_loss)
    closure = risk(model, x, y) if over else objective.closure(x, y)
    ground = standing(closure, model.parameters())
    expected = one_by_one(ground)
    error = (ground.hessian() - expected).abs().max() / expected.abs().max()
    assert expected.any()
    assert error < 20 * torch.finfo(dtype).eps


@pytest.mark.parametrize("kind", ["layer norm", "no batching rule"])
def test_from_a_point_that_was_tried(kind):
    model, x, y = network(kind)
    ground = standing(risk(model, x, y), model.parameters())
    before = ground.hessian()
    ground.take(ground.attempt(ground.x + 0.1))
    torch.testing.assert_close(ground.hessian(), one_by_one(ground), rtol=1e-13, atol=1e-14)
    assert (ground.hessian() - before).abs().max() > 1e-3


def passes_of(ground, monkeypatch):
    """How many backward passes a Hessian takes."""
    calls, grad = [], torch.autograd.grad

    def counting(*args, **options):
        calls.append(1)
        return grad(*args, **options)

    monkeypatch.setattr(torch.autograd, "grad", counting)
    ground.hessian()
    monkeypatch.undo()
    return len(calls)


def test_passes_are_as_many_as_memory_asks_for(monkeypatch):
    model, x, y = network("layer norm")
    objective = tw.Objective(model, nn.functional.mse_loss)
    ground = standing(objective.closure(x, y), model.parameters())
    n = ground.x.numel()
    assert passes_of(ground, monkeypatch) == 1
    monkeypatch.setattr(passes, "_MEMORY", 1)
    assert passes_of(ground, monkeypatch) == n


def test_after_one_failed_pass_the_rest_goes_one_by_one(monkeypatch):
    model, x, y = network("no batching rule")
    objective = tw.Objective(model, nn.functional.mse_loss)
    ground = standing(objective.closure(x, y), model.parameters())
    n = ground.x.numel()
    assert passes_of(ground, monkeypatch) == n + 1
    assert passes_of(ground, monkeypatch) == n


def test_each_column_is_counted_as_a_product():
    model, x, y = network("tanh")
    closure = tw.Objective(model, nn.functional.mse_loss).closure(x, y)
    ground = standing(closure, model.parameters())
    before = closure.ledger.product
    ground.hessian()
    assert ground.counts.nhvp == ground.x.numel()
    assert closure.ledger.product - before == ground.x.numel()


def test_of_a_part_of_the_parameters_and_of_one_that_the_loss_has_not():
    model, x, y = network("tanh")
    closure = tw.Objective(model, nn.functional.mse_loss).closure(x, y)
    stranger = nn.Parameter(torch.ones(3, dtype=torch.float64))
    ground = standing(closure, [model[2].weight, stranger, model[0].bias])
    whole = one_by_one(standing(closure, model.parameters()))
    order = [*range(16, 24), *range(12, 16)]
    seen = [*range(8), *range(11, 15)]
    hessian = ground.hessian()
    torch.testing.assert_close(hessian[seen][:, seen], whole[order][:, order])
    torch.testing.assert_close(one_by_one(ground), hessian, rtol=1e-13, atol=1e-15)
    assert not hessian[8:11].any()


@pytest.mark.parametrize("shape", [(), (3,), (0, 2)], ids=str)
@pytest.mark.parametrize("kind", ["tanh", "no batching rule"])
@pytest.mark.parametrize("memory", [2**27, 2**13])
def test_a_parameter_that_the_loss_does_not_use_has_a_zero_row(shape, kind, memory, monkeypatch):
    monkeypatch.setattr(passes, "_MEMORY", memory)
    model, x, y = network(kind)
    model.register_parameter("unused", nn.Parameter(torch.ones(shape, dtype=torch.float64)))
    closure = tw.Objective(model, nn.functional.mse_loss).closure(x, y)
    ground = standing(closure, [model.unused, *model[0].parameters()])
    hessian, n = ground.hessian(), model.unused.numel()
    assert not hessian[:n].any()
    assert hessian[n:, n:].any()
    torch.testing.assert_close(hessian, one_by_one(ground), rtol=1e-13, atol=1e-14)


def test_where_a_second_derivative_lacks_each_column_is_a_difference(monkeypatch):
    monkeypatch.setattr(products, "_SAID", set())
    model, x, y = network("tanh")
    expected = one_by_one(standing(risk(model, x, y), model.parameters()))

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x.tanh())
            return x.tanh()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return grad * (1 - ctx.saved_tensors[0] ** 2)

    class OnceTanh(nn.Module):
        def forward(self, x):
            return Once.apply(x)

    model = nn.Sequential(model[0], OnceTanh(), model[2])
    with pytest.warns(CurvatureFallbackWarning):
        ground = standing(risk(model, x, y), model.parameters())
    error = (ground.hessian() - expected).abs().max() / expected.abs().max()
    assert 0 < error < 1e-6
