"""Closures: called once with autograd on, refused when not finite, the same as backward first."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import thalweg as tw
from conformance.subjects import NETWORK, Network, assert_same_state, flat, state_of
from conformance.table import CASES, ROWS, Tether
from thalweg import optim
from thalweg.errors import NonFiniteError


GRADIENT = [name for name, row in CASES.items() if not row.needs_closure]


def made(name, params):
    return CASES[name].build(params, **CASES[name].settings)


@pytest.mark.parametrize("name", CASES)
def test_torchs_closure_is_called_as_often_as_stated_with_autograd_on(name):
    model = NETWORK.model()
    optimizer = made(name, model.parameters())
    each = CASES[name].evaluations
    losses = []

    def closure():
        assert torch.is_grad_enabled()
        losses.append(NETWORK.torch_closure(model, 0)())
        return losses[-1]

    for step in range(3):
        returned = optimizer.step(closure)
        assert len(losses) == each * (step + 1)
        assert returned is losses[each * step]
    with torch.no_grad():
        optimizer.step(closure)
    assert len(losses) == 4 * each


@pytest.mark.parametrize("value", [1.5, None, torch.tensor(2.0), torch.ones(1, requires_grad=True)])
@pytest.mark.parametrize("name", CASES)
def test_returns_what_the_closure_returns(name, value):
    optimizer = made(name, [nn.Parameter(torch.ones(2))])
    assert optimizer.step(lambda: value) is value


@pytest.mark.parametrize("name", GRADIENT)
def test_an_objectives_closure_is_backward_then_step(name):
    model, other = NETWORK.model(), NETWORK.model()
    first, second = made(name, model.parameters()), made(name, other.parameters())
    for t in range(6):
        given = first.step(NETWORK.closure(model, t))
        x, y = NETWORK.batch(t)
        second.zero_grad()
        loss = nn.functional.mse_loss(other(x), y)
        loss.backward()
        assert second.step() is None
        assert given == loss
        assert not given.requires_grad
    assert torch.equal(flat(model.parameters()), flat(other.parameters()))


@pytest.mark.parametrize("name", CASES)
def test_closures_of_both_kinds_make_the_same_path(name):
    # Torch's closures give products with the Hessian by differences.
    error = 1e-6 if CASES[name].looks else 0.0
    close = {"rtol": error, "atol": error}
    model, other = NETWORK.model(), NETWORK.model()
    first, second = made(name, model.parameters()), made(name, other.parameters())
    for t in range(6):
        given = first.step(NETWORK.closure(model, t))
        torch.testing.assert_close(given, second.step(NETWORK.torch_closure(other, t)), **close)
    torch.testing.assert_close(flat(model.parameters()), flat(other.parameters()), **close)


@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if row.needs_closure])
def test_a_method_that_needs_a_closure_says_so(name):
    row = ROWS[name]
    p = nn.Parameter(torch.ones(2))
    for optimizer in (row.build([p]), optim.WeightAveraging(row.build([p]))):
        with pytest.raises(TypeError, match=rf"{row.cls.__name__}\.step\(\): .* needs a closure"):
            optimizer.step()
        assert torch.equal(p, torch.ones(2))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", ["tensor", "number"])
@pytest.mark.parametrize("name", CASES)
def test_a_loss_that_is_not_finite_changes_nothing(name, kind, value):
    model = NETWORK.model()
    optimizer = made(name, model.parameters())
    NETWORK.walk(optimizer, model, 4)
    params, state = flat(model.parameters()), state_of(optimizer)

    def closure():
        loss = NETWORK.torch_closure(model, 0)()
        return loss * value if kind == "tensor" else value

    with pytest.raises(NonFiniteError, match=r"\.step\(\): the loss is -?(nan|inf) at call 5 of"):
        optimizer.step(closure)
    assert torch.equal(flat(model.parameters()), params)
    assert_same_state(state, state_of(optimizer))
    optimizer.step(NETWORK.closure(model, 0))


@pytest.mark.parametrize("name", CASES)
def test_a_closure_that_raises_changes_nothing(name):
    model = NETWORK.model()
    optimizer = made(name, model.parameters())
    NETWORK.walk(optimizer, model, 4)
    params, state = flat(model.parameters()), state_of(optimizer)

    def closure():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert torch.equal(flat(model.parameters()), params)
    assert_same_state(state, state_of(optimizer))


def test_nesterov_evaluates_ahead_and_comes_back():
    p = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = optim.Nesterov([p], lr=0.1, momentum=0.5)
    seen = []

    def closure():
        seen.append(p.item())
        p.grad = torch.ones_like(p)
        return p.detach().sum()

    optimizer.step(closure)
    assert p.item() == pytest.approx(0.9)
    optimizer.step(closure)
    assert seen == pytest.approx([1.0, 0.9 - 0.1 * 0.5 * 1.0])
    assert p.item() == pytest.approx(0.9 - 0.1 * 1.5)


# ---- mixed precision ------------------------------------------------------------------------
def scaled_run(optimizer, model, network, scaler, steps=6):
    for t in range(steps):
        x, y = network.batch(t)
        optimizer.zero_grad()
        scaler.scale(nn.functional.mse_loss(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("name", GRADIENT)
def test_a_scaled_run_is_the_unscaled_run(name, unscale):
    network = Network(torch.float32)
    model, other = network.model(), network.model()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    scaled_run(made(name, model.parameters()), model, network, scaler)
    assert scaler.get_scale() > 1024.0
    network.walk(made(name, other.parameters()), other, 6)
    torch.testing.assert_close(
        flat(model.parameters()), flat(other.parameters()), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("name", GRADIENT)
def test_a_scaled_step_with_infinite_gradients_is_skipped(name):
    network = Network(torch.float32)
    model = network.model()
    optimizer = made(name, model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled_run(optimizer, model, network, scaler, 3)
    params, state = flat(model.parameters()), state_of(optimizer)
    scaler.scale(model(torch.full((1, 3), 1.0)).sum() * 1e30).backward()
    model[0].weight.grad[0, 0] = float("inf")
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() < 1024.0
    assert torch.equal(flat(model.parameters()), params)
    assert_same_state(state, state_of(optimizer))


@pytest.mark.parametrize("name", [n for n in CASES if n not in GRADIENT])
def test_gradient_scaling_is_refused_where_a_closure_is_needed(name):
    network = Network(torch.float32)
    model = network.model()
    scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(TypeError, match=r"\.step\(\): this method needs a closure"):
        scaled_run(made(name, model.parameters()), model, network, scaler, 1)


@pytest.mark.parametrize("name", [n for n in CASES if CASES[n].looks])
def test_torch_refuses_to_scale_a_closure(name):
    """Otherwise curvature would be that of the scaled loss, and nobody would know."""
    network = Network(torch.float32)
    model = network.model()
    scaler = torch.amp.GradScaler("cpu")
    optimizer, closure = made(name, model.parameters()), network.closure(model, 0)
    before = flat(model.parameters())
    with pytest.raises(RuntimeError, match="Closure use is not currently supported"):
        scaler.step(optimizer, closure=closure)
    scaler.scale(torch.ones(()))  # from here on it has a scale
    with pytest.raises(AssertionError, match="No inf checks"):
        scaler.step(optimizer, closure)
    assert torch.equal(flat(model.parameters()), before)


# ---- evaluation -----------------------------------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_evaluation_swaps_and_restores(name):
    model = NETWORK.model()
    optimizer = made(name, model.parameters())
    with optimizer.evaluation():
        pass
    NETWORK.walk(optimizer, model, 8)
    trained, state = flat(model.parameters()), state_of(optimizer)
    with optimizer.evaluation():
        inside = flat(model.parameters())
    assert torch.equal(flat(model.parameters()), trained)

    def interrupted():
        with optimizer.evaluation():
            assert torch.equal(flat(model.parameters()), inside)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(flat(model.parameters()), trained)
    assert_same_state(state, state_of(optimizer))


@pytest.mark.parametrize("outer", [False, True])
def test_evaluation_reaches_an_average_inside(outer):
    model = NETWORK.model()
    optimizer = optim.WeightAveraging(optim.SGD(model.parameters(), lr=0.1))
    optimizer = Tether(optimizer, pull=0.0) if outer else optimizer
    path = []
    for t in range(5):
        optimizer.step(NETWORK.closure(model, t))
        path.append(flat(model.parameters()))
    with optimizer.evaluation():
        torch.testing.assert_close(flat(model.parameters()), torch.stack(path).mean(0))
    assert torch.equal(flat(model.parameters()), path[-1])


def test_torchs_lbfgs_inside_a_wrapper():
    x = torch.tensor([3.0, -2.0], requires_grad=True)
    inner = torch.optim.LBFGS([x], line_search_fn="strong_wolfe")
    optimizer = optim.WeightAveraging(inner, "exponential", decay=0.0)
    closure = tw.Objective.of(lambda x: ((x - 1) ** 2).sum()).closure(x)
    for _ in range(3):
        optimizer.step(closure)
    torch.testing.assert_close(x.detach(), torch.ones(2))
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step(closure)
