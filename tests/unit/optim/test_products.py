"""Products inside a step: exact from our closures, by differences from any other."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

import thalweg as tw
from thalweg import optim
from thalweg.curvature import GGN
from thalweg.optim import products
from thalweg.optim.products import CurvatureFallbackWarning, look
from thalweg.vectors import Vector


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(products, "_SAID", set())


def network(dtype=torch.float64, *extra):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), *extra, nn.Linear(6, 2)).to(dtype)
    x, y = torch.randn(20, 3, dtype=dtype), torch.randn(20, 2, dtype=dtype)
    return model, x, y


def torch_closure(model, x, y):
    def closure():
        model.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    return closure


def call(closure):
    with torch.enable_grad():
        return closure()


def looking(closure, params):
    with torch.no_grad():
        return look("Tester", closure, list(params), call)


def dense(model, x, y):
    """The Hessian, a row for each entry of the gradient."""
    params = list(model.parameters())
    loss = nn.functional.mse_loss(model(x), y)
    gradient = torch.autograd.grad(loss, params, create_graph=True)
    entries = torch.cat([g.flatten() for g in gradient])
    rows = [
        torch.cat(
            [
                part.flatten()
                for part in torch.autograd.grad(
                    e, params, retain_graph=True, allow_unused=True, materialize_grads=True
                )
            ]
        )
        for e in entries
    ]
    return torch.stack(rows)


def probe(params, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return Vector(
        torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p) for p in params
    )


def flat(tensors):
    return torch.cat([t.detach().flatten() for t in tensors])


def error(product, expected):
    return float((flat(product) - expected).norm() / expected.norm())


def test_from_an_objectives_closure_they_are_exact_and_the_gradient_is_left():
    model, x, y = network()
    v = probe(model.parameters())
    expected = dense(model, x, y) @ flat(v)
    seen = looking(tw.Objective(model, nn.functional.mse_loss).closure(x, y), model.parameters())
    assert seen.exact
    assert error(seen.product(v), expected) < 1e-13
    left = [p.grad.clone() for p in model.parameters()]
    torch_closure(model, x, y)()
    torch.testing.assert_close(left, [p.grad for p in model.parameters()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_from_torchs_closure_they_are_differences_right_to_a_thousandth(dtype):
    model, x, y = network(dtype)
    v = probe(model.parameters())
    expected = dense(model, x, y) @ flat(v)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.warns(CurvatureFallbackWarning, match="Tester: an ordinary closure was passed"):
        seen = looking(torch_closure(model, x, y), model.parameters())
    grads = [p.grad for p in model.parameters()]
    values = [g.clone() for g in grads]
    with torch.no_grad():
        product = seen.product(v)
    assert not seen.exact
    assert error(product, expected) < (1e-3 if dtype is torch.float32 else 1e-7)
    for p, start, grad, value in zip(model.parameters(), before, grads, values, strict=True):
        assert torch.equal(p, start)
        assert p.grad is grad
        assert torch.equal(grad, value)


def test_a_closure_that_fills_the_same_gradients_each_time_leaves_those_of_here():
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    buffer = torch.zeros(2, dtype=torch.float64)

    def closure():
        buffer.copy_(x.detach() ** 3)
        x.grad = buffer
        return (x.detach() ** 4).sum() / 4

    with pytest.warns(CurvatureFallbackWarning):
        seen = looking(closure, [x])
    with torch.no_grad():
        product = seen.product(Vector([torch.ones(2, dtype=torch.float64)]))
    torch.testing.assert_close(product[0], torch.tensor([3.0, 12.0]).double())
    torch.testing.assert_close(x.grad, torch.tensor([1.0, 8.0]).double())


def test_the_warning_comes_once_and_points_at_the_callers_line():
    model, x, y = network()
    closure = torch_closure(model, x, y)
    optimizer = optim.AdaHessian(model.parameters())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            optimizer.step(closure)
    assert [w.category for w in caught] == [CurvatureFallbackWarning]
    assert "objective.closure(x, y)" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_dropout_draws_the_same_mask_for_both_ends():
    model, x, y = network(torch.float64, nn.Dropout(0.5))
    v = probe(model.parameters())
    torch.manual_seed(7)
    with pytest.warns(CurvatureFallbackWarning):
        seen = looking(torch_closure(model, x, y), model.parameters())
    after = torch.rand(1)
    with torch.no_grad():
        product = seen.product(v)
    torch.manual_seed(7)
    expected = dense(model, x, y) @ flat(v)
    assert error(product, expected) < 1e-6
    torch.manual_seed(7)
    torch_closure(model, x, y)()
    assert torch.equal(after, torch.rand(1))  # the products leave the random state alone


def test_the_same_path_as_exact_products_to_a_thousandth():
    ends = []
    for ours in (True, False):
        model, x, y = network(torch.float32)
        optimizer = optim.AdaHessian(model.parameters(), lr=0.05, interval=2)
        exact = tw.Objective(model, nn.functional.mse_loss).closure(x, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CurvatureFallbackWarning)
            for _ in range(10):
                optimizer.step(exact if ours else torch_closure(model, x, y))
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(ends[1], ends[0], rtol=2e-3, atol=2e-3)
    assert not torch.equal(*ends)


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-2), (torch.float64, 1e-4)])
def test_one_sided_differences_cost_one_gradient_and_warn_of_nothing(ours, dtype, close):
    model, x, y = network(dtype)
    closure = tw.Objective(model, nn.functional.mse_loss).closure(x, y)
    params = [nn.Parameter(torch.ones(2, dtype=dtype)), *model.parameters()]
    v = probe(params)
    expected = dense(model, x, y) @ flat(list(v)[1:])
    before, calls = flat(params), []

    def torchs():
        calls.append(1)
        return torch_closure(model, x, y)()

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = look("Tester", closure if ours else torchs, params, call, differences=True)
        product = seen.product(v)
    assert not product[0].any()
    assert error(list(product)[1:], expected) < close
    assert torch.equal(flat(params), before)
    assert (closure.ledger.backward if ours else len(calls)) == 2
    assert closure.ledger.product == 0


def test_differences_train_like_products():
    ends = []
    for differences in (False, True):
        model, x, y = network(torch.float32)
        closure = tw.Objective(model, nn.functional.mse_loss).closure(x, y)
        first = float(closure.value())
        optimizer = optim.AdaHessian(model.parameters(), lr=0.05, differences=differences)
        for _ in range(10):
            optimizer.step(closure)
        ends.append(float(closure.value()))
        assert closure.ledger.product == (0 if differences else 10)
    assert ends[0] < 0.9 * first
    assert ends[1] == pytest.approx(ends[0], rel=0.05)


# ---- where there is no second derivative -----------------------------------------------------
class Distances(nn.Module):
    """Distances from fixed centres, by a kernel of torch's that has no second derivative."""

    def __init__(self, kernel=True):
        super().__init__()
        centres = torch.randn(6, 6, generator=torch.Generator().manual_seed(2))
        self.register_buffer("centres", centres)
        self.kernel = kernel

    def forward(self, x):
        if self.kernel:
            return torch.cdist(x, self.centres, 2.0, "donot_use_mm_for_euclid_dist")
        return (x[:, None] - self.centres).square().sum(2).sqrt()


def test_a_layer_without_second_derivative_falls_back():
    model, x, y = network(torch.float64, Distances())
    twin, _, _ = network(torch.float64, Distances(kernel=False))
    v = probe(model.parameters())
    closure = tw.Objective(model, nn.functional.mse_loss).closure(x, y)
    seen = looking(closure, model.parameters())
    with pytest.warns(CurvatureFallbackWarning, match="a layer has no second derivative"):
        product = seen.product(v.detach())
    assert error(product, dense(twin, x, y) @ flat(v)) < 1e-6


class OnceCubed(torch.autograd.Function):
    """A cube whose backward pass says that it cannot be differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad


class Cubed(nn.Module):
    def __init__(self, once):
        super().__init__()
        self.once = once

    def forward(self, x):
        return OnceCubed.apply(x) if self.once else x**3


@pytest.mark.parametrize("first", [True, False])
def test_a_layer_that_is_marked_once_differentiable_falls_back(first):
    # Under a linear loss nothing of torch's own error is left in the graph.
    model, x, y = network(torch.float64, Cubed(once=True))
    twin, _, _ = network(torch.float64, Cubed(once=False))
    loss = (lambda z, _: z.mean()) if first else nn.functional.mse_loss
    v = probe(model.parameters())
    expected = looking(tw.Objective(twin, loss).closure(x, y), twin.parameters()).product(v)
    objective = tw.Objective(model, loss)
    with pytest.warns(CurvatureFallbackWarning, match="OnceCubed is not implemented"):
        seen = looking(objective.closure(x, y), model.parameters())
    assert not seen.exact
    assert error(seen.product(v), flat(expected)) < 1e-6
    again = objective.closure(x, y)  # it is known by now: no pass in vain, no second warning
    before = again.ledger.forward
    looking(again, model.parameters())
    assert again.ledger.forward == before + 1


def test_optimizers_see_the_curvature_of_a_layer_marked_once_differentiable():
    ends = []
    for once in (True, False):
        model, x, y = network(torch.float64, Cubed(once))
        optimizer = optim.AdaHessian(model.parameters(), lr=0.05)
        objective = tw.Objective(model, nn.functional.mse_loss)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CurvatureFallbackWarning)
            for _ in range(5):
                optimizer.step(objective.closure(x, y))
        ends.append(flat(model.parameters()))
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-7)


def test_a_product_with_the_gauss_newton_matrix_of_such_a_layer_is_refused():
    model, x, y = network(torch.float64, Cubed(once=True))
    closure = tw.Objective(model, nn.functional.mse_loss).closure(x, y)
    with pytest.raises(RuntimeError, match=r"OnceCubed has no rule .* marked once_differentiable"):
        GGN(closure) @ torch.ones(sum(p.numel() for p in model.parameters()), dtype=torch.float64)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        q, k, v = (part(x).view(4, 5, 2, 4).transpose(1, 2) for part in (self.q, self.k, self.v))
        return nn.functional.scaled_dot_product_attention(q, k, v).sum((1, 2))


def test_flash_attention_is_differentiated_twice_through_the_plain_kernel():
    torch.manual_seed(0)
    model, x, y = Attention(), torch.randn(4, 5, 8), torch.randn(4, 4)
    params = list(model.parameters())
    v = probe(params)
    closure = tw.Objective(model, nn.functional.mse_loss).closure(x, y)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        model(x)  # there is such a kernel here
        seen = looking(closure, params)
        product = seen.product(v)
        assert seen.exact
    with sdpa_kernel(SDPBackend.MATH):
        expected = dense(model, x, y) @ flat(v)
    assert error(product, expected) < 1e-4
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), torch.no_grad():
        with pytest.warns(CurvatureFallbackWarning):
            other = looking(torch_closure(model, x, y), params)
        assert error(other.product(v), expected) < 5e-3


def test_any_other_error_of_the_model_is_raised():
    model, _, y = network()
    closure = tw.Objective(model, nn.functional.mse_loss).closure(torch.randn(20, 4).double(), y)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        looking(closure, model.parameters())


def test_a_parameter_that_the_closure_does_not_have_gets_zeros():
    model, x, y = network()
    elsewhere = nn.Parameter(torch.ones(4, dtype=torch.float64))
    params = [elsewhere, *model.parameters()]
    v = probe(params)
    closure = tw.Objective(model, nn.functional.mse_loss).closure(x, y)
    product = looking(closure, params).product(v)
    assert not product[0].any()
    expected = dense(model, x, y) @ flat(v)[4:]
    torch.testing.assert_close(flat(list(product)[1:]), expected)


def test_a_loss_that_is_linear_has_no_curvature():
    model = nn.Linear(3, 1)
    closure = tw.Objective(model, lambda z, _: z.sum()).closure(torch.ones(2, 3), torch.ones(2))
    seen = looking(closure, model.parameters())
    assert not flat(seen.product(probe(model.parameters()))).any()
