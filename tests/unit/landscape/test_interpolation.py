"""Straight lines against closed forms; barriers by hand; the model as it was."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.landscape import barrier_of, interpolate
from thalweg.landscape.batch_norm import recalibrated
from thalweg.objective import Objective
from thalweg.vectors import Vector


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3)
    ).double()


def data(n=20):
    return torch.randn(n, 4, dtype=torch.float64), torch.randint(0, 3, (n,))


def test_a_quadratic_is_its_parabola():
    a, b = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([-1.0, 0.0]).double()
    scale = torch.tensor([1.0, 4.0], dtype=torch.float64)
    found = interpolate(lambda x: (scale * x**2).sum(), a, b, points=9, beyond=0.25)
    assert found.t.tolist() == [k / 8 for k in range(-2, 11)]
    expected = (1 - 2 * found.t) ** 2 + 4 * (2 - 2 * found.t) ** 2
    np.testing.assert_allclose(found.loss, expected, rtol=1e-14)
    assert found.distance == pytest.approx(math.sqrt(8))
    assert not found.monotone()  # past t = 0.9 it rises again


def test_the_three_conventions_on_a_curve_made_by_hand():
    t, loss = [0.0, 0.2, 0.6, 1.0], [1.0, 2.0, 2.5, 3.0]
    assert barrier_of(t, loss, "frankle") == 3.0 - 2.0
    # Above the chord 1 + 2t: 2 - 1.4 = 0.6 at t = 0.2, 2.5 - 2.2 = 0.3 at t = 0.6.
    assert barrier_of(t, loss, "entezari") == pytest.approx(0.6)
    assert barrier_of(t, loss, "max-endpoint") == 0.0
    assert barrier_of([-0.5, *t, 1.5], [9.0, *loss, 9.0]) == 1.0  # what lies outside does not count
    assert math.isnan(barrier_of([0, 0.5, 1], [0, math.nan, 0]))
    assert barrier_of([0, 0.5, 1], [0, math.inf, 0]) == math.inf
    with pytest.raises(ValueError, match="Did you mean 'frankle'"):
        barrier_of(t, loss, "franke")
    with pytest.raises(ValueError, match="both ends"):
        barrier_of(t[1:], loss[1:])


def test_weights_in_every_form_give_the_same_line():
    a, b = network(1).eval(), network(2).eval()
    x, y = data()
    closure = Objective(a, F.cross_entropy).closure(x, y)
    flat = torch.cat([p.detach().reshape(-1) for p in b.parameters()])
    forms = (b, b.state_dict(), Vector(b.parameters()), flat)
    lines = [interpolate(closure, a, form, points=4).loss for form in forms]
    for line in lines[1:]:
        np.testing.assert_array_equal(lines[0], line)


def test_each_point_is_the_network_between_with_its_own_statistics():
    a, b = network(1).eval(), network(2).eval()
    batches, test = [data(12), data(7)], data(9)
    objective = Objective(a, F.cross_entropy)
    found = interpolate(
        objective,
        a.state_dict(),
        b,
        points=3,
        loader=batches,
        also={"test": objective.closure(*test)},
        metrics=["accuracy"],
    )
    assert list(found.metrics) == ["loss", "accuracy", "test_loss", "test_accuracy"]
    middle = copy.deepcopy(a)
    with torch.no_grad():
        for p, q in zip(middle.parameters(), b.parameters(), strict=True):
            p.lerp_(q, 0.5)
    with recalibrated(Objective(middle, F.cross_entropy).over(batches)), torch.no_grad():
        x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert found.loss[1] == pytest.approx(float(F.cross_entropy(middle(x), y)), rel=1e-12)
        hits = (middle(x).argmax(1) == y).double().mean()
        assert found.metrics["accuracy"][1] == pytest.approx(float(hits))
        expected = float(F.cross_entropy(middle(test[0]), test[1]))
        assert found.metrics["test_loss"][1] == pytest.approx(expected, rel=1e-12)
    assert found.line.meta["recalibrated"]


def test_kept_statistics_are_those_of_the_model():
    a, b = network(1).eval(), network(2).eval()
    x, y = data()
    with torch.no_grad():
        a[1].running_mean += 0.3
    found = interpolate(
        Objective(a, F.cross_entropy).closure(x, y), a, b, points=2, recalibrate=False
    )
    b[1].load_state_dict(b[1].state_dict() | {"running_mean": a[1].running_mean})
    expected = float(F.cross_entropy(b(x), y).detach())
    assert found.loss[1] == pytest.approx(expected, rel=1e-12)
    assert not found.line.meta["recalibrated"]


@pytest.mark.parametrize("training", [True, False])
def test_nothing_of_the_model_changes(training):
    model, other = network(1).train(training), network(2)
    x, y = data()
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    grads = [p.grad.clone() for p in model.parameters()]
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first = interpolate(Objective(model, F.cross_entropy).closure(x, y), model, other, points=3)
    assert torch.equal(random, torch.get_rng_state())
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(m.training is training for m in model.modules())
    assert all(map(torch.equal, grads, (p.grad for p in model.parameters())))
    assert all(p.requires_grad for p in model.parameters())
    again = interpolate(Objective(model, F.cross_entropy).closure(x, y), model, other, points=3)
    np.testing.assert_array_equal(first.loss, again.loss)  # dropout's masks are the same


def test_what_does_not_fit_is_said():
    model = network(1).eval()
    closure = Objective(model, F.cross_entropy).closure(*data())
    state = model.state_dict()
    with pytest.raises(ValueError, match=r"no tensor '0\.weight'\. Did you mean 'x0\.weight'"):
        interpolate(closure, model, {f"x{name}": value for name, value in state.items()})
    with pytest.raises(ValueError, match="flat tensor of 63 entries"):
        interpolate(closure, torch.zeros(5), model)
    with pytest.raises(ValueError, match="weights of the shapes"):
        interpolate(closure, Vector([torch.zeros(2)]), model)
    with pytest.raises(TypeError, match="needs batches"):
        interpolate(Objective(model, F.cross_entropy), model, model)
    with pytest.raises(TypeError, match="a closure, an Objective or a function"):
        interpolate(model, model, model)
    with pytest.raises(ValueError, match="points"):
        interpolate(closure, model, model, points=1)
    x = torch.ones(2)
    with pytest.raises(TypeError, match="no outputs to measure"):
        interpolate(lambda x: x.sum(), x, x, metrics={"zero": lambda *_: 0.0})
    with pytest.raises(ValueError, match="no derivatives"):
        interpolate(closure, model, model, metrics=["gradient_norm"])


def test_not_a_number_stays_so():
    found = interpolate(lambda x: x.log().sum(), torch.tensor([1.0]), torch.tensor([-1.0]), 3)
    assert np.isnan(found.loss[2])
    assert math.isnan(found.barrier())
