"""A closure is one function of parameter space, whatever the model does and is done to it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import thalweg as tw
from thalweg import Objective, Vector


def plain(model, x, y, loss=F.mse_loss):
    """Loss and gradient as autograd gives them."""
    value = loss(model(x), y)
    params = [p for p in model.parameters() if p.requires_grad]
    return value.detach(), Vector(torch.autograd.grad(value, params))


def data(n=8, inputs=3, outputs=2):
    return torch.randn(n, inputs), torch.randn(n, outputs)


def normed():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def buffers(model):
    return [b.clone() for b in model.buffers()]


def assert_equal(a, b):
    assert all(torch.equal(s, t) for s, t in zip(a, b, strict=True))


def assert_close(a, b):
    for s, t in zip(a, b, strict=True):
        torch.testing.assert_close(s, t)


# ---- running statistics ---------------------------------------------------------------------
def test_looking_leaves_running_statistics_alone():
    model = normed()
    closure = Objective(model, F.mse_loss).closure(*data())
    theta, before = closure.snapshot() + 0.1, buffers(model)
    for at in (None, theta, theta.flatten().flat):
        closure.value(at)
        closure.value_and_grad(at)
        closure.outputs(at)
        assert_equal(buffers(model), before)


@pytest.mark.parametrize("looked", [False, True])
def test_stepping_moves_running_statistics_once(looked):
    model = normed()
    x, y = data()
    reference = copy.deepcopy(model)
    reference(x)
    closure = Objective(model, F.mse_loss).closure(x, y)
    if looked:
        closure.value()
    for _ in range(3):  # a line search calls again
        closure()
        assert_equal(buffers(model), buffers(reference))


def test_evaluation_mode_is_the_models():
    model = normed()
    x, y = data()
    closure = Objective(model, F.mse_loss).closure(x, y)
    training = closure.value()
    model.eval()
    assert closure.value() != training
    torch.testing.assert_close(closure.value(), plain(model, x, y)[0])


# ---- randomness -----------------------------------------------------------------------------
def dropped():
    return nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.5), nn.Linear(16, 2))


def test_dropout_draws_the_same_each_time():
    model = dropped()
    closure = Objective(model, F.mse_loss).closure(*data())
    theta = closure.snapshot()
    first = closure()
    grads = [p.grad.clone() for p in model.parameters()]
    torch.rand(7)
    assert closure.value() == first
    assert closure.value(theta) == first
    value, gradient = closure.value_and_grad(theta)
    assert value == first
    assert_close(gradient, grads)
    assert closure() == first
    other = Objective(model, F.mse_loss).closure(*closure.program.batch)
    assert other.value() != first


@pytest.mark.parametrize("looks", [0, 3])
def test_the_global_random_stream_goes_on_as_in_a_plain_loop(looks):
    model, (x, y) = dropped(), data()
    torch.manual_seed(1)
    losses = [(F.mse_loss(model(x), y).detach(), torch.rand(2)) for _ in range(3)]
    end = torch.rand(1)
    torch.manual_seed(1)
    objective = Objective(model, F.mse_loss)
    for expected, drawn in losses:
        closure = objective.closure(x, y)
        for _ in range(looks):
            closure.value(closure.snapshot())
        assert closure() == expected
        assert torch.equal(torch.rand(2), drawn)
        closure.value_and_grad()
    assert torch.equal(torch.rand(1), end)


# ---- tied weights, frozen and unused parameters -----------------------------------------------
class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.embed(x).tanh())


def test_tied_weights_are_one_parameter_and_their_gradient_is_summed():
    model = Tied()
    x, y = torch.tensor([0, 1, 4]), torch.tensor([1, 2, 3])
    objective = Objective(model, F.cross_entropy)
    assert len(objective.params) == 1
    closure = objective.closure(x, y)
    theta = closure.snapshot() + 0.3 * Vector([torch.randn(5, 3)])
    value, gradient = closure.value_and_grad(theta)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved.head.weight.copy_(theta[0])
    expected, grad = plain(moved, x, y, F.cross_entropy)
    torch.testing.assert_close(value, expected)
    assert_close(gradient, grad)


def test_frozen_parameters_are_no_part_of_theta():
    model = normed()
    model[0].requires_grad_(False)
    x, y = data()
    objective = Objective(model, F.mse_loss)
    closure = objective.closure(x, y)
    assert [p.shape for p in closure.params] == [p.shape for p in objective.params]
    assert objective.params.numel() == sum(p.numel() for p in model.parameters()) - 16
    assert_close(closure.value_and_grad()[1], plain(model, x, y)[1])
    closure()
    assert model[0].weight.grad is None


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.spare = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        return self.used(x)


def test_an_unused_parameter_has_no_grad_and_a_zero_gradient():
    model = Unused()
    objective = Objective(model, F.mse_loss)
    closure = objective.closure(*data())
    for stepped in (closure, objective.over([data(), data(4)])):
        stepped()
        assert model.spare.weight.grad is None
        assert model.used.weight.grad is not None
        assert stepped.value_and_grad()[1][2].abs().sum() == 0


# ---- live parameters --------------------------------------------------------------------------
def test_a_step_in_place_after_the_closure_is_made():
    model, (x, y) = normed(), data()
    closure = Objective(model, F.mse_loss).closure(x, y)
    theta = closure.snapshot()
    before = closure.value()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.5)
    assert closure.value() != before
    torch.testing.assert_close(closure.value(theta), before)
    torch.testing.assert_close(closure.value_and_grad()[0], closure.value())
    assert_close(closure.value_and_grad()[1], plain(copy.deepcopy(model), x, y)[1])


def test_looking_leaves_parameters_and_gradients_alone():
    model = normed()
    closure = Objective(model, F.mse_loss).closure(*data())
    closure()
    held = [p.grad for p in model.parameters()]
    params, grads = closure.snapshot(), [g.clone() for g in held]
    theta = params + 1.0
    closure.value(theta)
    closure.value_and_grad(theta)
    assert_equal(closure.params, params)
    assert all(p.grad is g for p, g in zip(model.parameters(), held, strict=True))
    assert_equal(held, grads)


@pytest.mark.parametrize("form", ["vector", "list", "flat"])
def test_theta_in_every_form(form):
    model, (x, y) = normed(), data()
    closure = Objective(model, F.mse_loss).closure(x, y)
    theta = closure.snapshot() + 0.1
    given = {"vector": theta, "list": list(theta), "flat": theta.flatten().flat}[form]
    assert closure.value(given) == closure.value(theta)
    assert_equal(closure.value_and_grad(given)[1], closure.value_and_grad(theta)[1])


def test_outputs_carry_a_graph_where_autograd_is_on():
    model, (x, y) = normed(), data()
    closure = Objective(model, F.mse_loss).closure(x, y)
    outputs, targets = closure.outputs()
    assert outputs.requires_grad
    assert targets is y
    with torch.no_grad():
        assert not closure.outputs()[0].requires_grad


def test_values_carry_no_graph():
    closure = Objective(normed(), F.mse_loss).closure(*data())
    assert not closure().requires_grad
    assert not closure.value().requires_grad
    value, gradient = closure.value_and_grad()
    assert not value.requires_grad
    assert not any(g.requires_grad for g in gradient)
    with torch.no_grad():
        assert closure() == value


def test_torchs_lbfgs_takes_it():
    torch.manual_seed(0)
    model = nn.Linear(3, 1, dtype=torch.float64)
    x = torch.randn(20, 3, dtype=torch.float64)
    y = x @ torch.ones(3, 1, dtype=torch.float64)
    objective = Objective(model, F.mse_loss)
    for closure in (objective.closure(x, y), objective.over([(x[:7], y[:7]), (x[7:], y[7:])])):
        nn.init.zeros_(model.weight)
        optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")
        for _ in range(5):
            optimizer.step(closure)
        assert closure.value() < 1e-8


# ---- cost, copies -----------------------------------------------------------------------------
def test_the_ledger_counts_for_all_closures_of_an_objective():
    objective = Objective(normed(), F.mse_loss)
    first, second = objective.closure(*data()), objective.closure(*data())
    risk = objective.over([data(), data(), data(3)])
    for action, forward, backward in [
        (first, 1, 1),
        (second, 1, 1),
        (first.value, 1, 0),
        (first.value_and_grad, 1, 1),
        (first.outputs, 1, 0),
        (risk, 3, 3),
        (risk.value, 3, 0),
        (risk.value_and_grad, 3, 3),
    ]:
        before = copy.copy(objective.ledger)
        action()
        assert objective.ledger.forward - before.forward == forward
        assert objective.ledger.backward - before.backward == backward
        assert objective.ledger.seconds > before.seconds
    assert first.ledger is risk.ledger is objective.ledger


def test_gradient_equivalents():
    ledger = tw.Ledger(forward=3, backward=3, product=2)
    assert ledger.gradients == 7.0
    assert ledger.as_dict() == {"forward": 3, "backward": 3, "product": 2, "seconds": 0.0}
    with ledger.charge(product=1):
        pass
    assert ledger.product == 3
    with pytest.raises(KeyboardInterrupt), ledger.charge(forward=1):
        raise KeyboardInterrupt
    assert ledger.forward == 4


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_are_apart_and_alike(how):
    objective = Objective(dropped(), nn.CrossEntropyLoss(label_smoothing=0.1))
    closure = objective.closure(torch.randn(4, 3), torch.tensor([0, 1, 1, 0]))
    value = closure.value()
    for thing in (objective, closure):
        twin = copy.deepcopy(thing) if how == "deepcopy" else pickle.loads(pickle.dumps(thing))
        if thing is closure:
            assert twin.value() == value
            with torch.no_grad():
                twin.params.mul_(0.0)
            assert twin.value() != value
        assert closure.value() == value


def test_dropping_frees_without_the_collector():
    import gc
    import weakref

    gc.collect()
    gc.disable()
    try:
        model = normed()
        objective = Objective(model, F.mse_loss)
        closure = objective.closure(*data())
        risk = objective.over([data(), data()])
        for _ in range(2):
            closure()
            closure.value_and_grad(closure.snapshot())
            risk()
        gone = [weakref.ref(model[0].weight), weakref.ref(model), weakref.ref(objective)]
        del model, objective, closure, risk
        assert [r() for r in gone] == [None] * 3
    finally:
        gc.enable()
