"""Sharpness against closed forms, and what Dinh's rescaling does to each measure."""

from __future__ import annotations

import copy
import functools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.curvature import Hessian, eigsh
from thalweg.errors import NonFiniteError
from thalweg.landscape import flatness, keskar, line, plane, rescaled, sharpness
from thalweg.objective import Objective
from unit.landscape.networks import drawn, perceptron


def of(function, *start):
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    return Objective.of(function).closure(x)


@functools.cache
def trained():
    torch.manual_seed(0)
    model = perceptron(6, 8, 3).double()
    x, y = drawn(40, 6, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x.double()), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model, x, y


def network(factor):
    """A ReLU network whose first layer is multiplied by a factor and its second divided."""
    model, x, y = trained()
    other = rescaled(model, "0", "2", factor, inputs=x.double())
    return Objective(other, F.cross_entropy).closure(x.double(), y)


FACTORS = (0.1, 0.5, 10.0)


def test_rescaling_moves_curvature_and_not_the_filter_normalised_surface():
    plain = network(1.0)
    surface = plane(plain, resolution=5, evaluation="in-place", progress=False)
    raw = line(plain, "unit", resolution=5, span=1.0)
    curvature = float(eigsh(Hessian(plain)).values[0])
    element = sharpness(plain, 0.5, adaptive="element")
    by_filter = sharpness(plain, 0.5, adaptive="filter")
    sam = sharpness(plain, 0.05)
    for factor in FACTORS:
        other = network(factor)
        assert float(other.value()) == pytest.approx(float(plain.value()), rel=1e-12)
        there = plane(other, resolution=5, evaluation="in-place", progress=False)
        np.testing.assert_allclose(there.loss, surface.loss, rtol=1e-8)
        assert sharpness(other, 0.5, adaptive="element") == pytest.approx(element, rel=1e-8)
        assert sharpness(other, 0.5, adaptive="filter") == pytest.approx(by_filter, rel=1e-8)
        moved = float(eigsh(Hessian(other)).values[0])
        assert abs(moved / curvature - 1) > 0.1
        assert abs(sharpness(other, 0.05) / sam - 1) > 0.1
        unit = line(other, "unit", resolution=5, span=1.0)
        assert abs(unit.loss / raw.loss - 1).max() > 0.01
    extremes = [float(eigsh(Hessian(network(f))).values[0]) for f in (0.02, 50.0)]
    assert min(extremes) > 20 * curvature


def test_a_ball_on_a_quadratic():
    scale = torch.tensor([4.0, 1.0], dtype=torch.float64)
    closure = of(lambda x: (scale * x.square()).sum() / 2, 0.3, 0.0)
    # The gradient is along the stiff axis, so one step is exact.
    assert sharpness(closure, 0.5) == pytest.approx(2 * (0.8**2 - 0.3**2))
    assert sharpness(closure, 0.5, adaptive="element") == pytest.approx(
        2 * ((0.3 + 0.5 * 0.3) ** 2 - 0.3**2)
    )
    # From beside it, further steps climb to the largest rise, which a fine search finds.
    beside = of(lambda x: (scale * x.square()).sum() / 2, 0.1, 1.0)
    angle = np.linspace(0, 2 * np.pi, 100001)
    there = 2 * (0.1 + 0.5 * np.cos(angle)) ** 2 + 0.5 * (1 + 0.5 * np.sin(angle)) ** 2
    best = float(there.max() - 2 * 0.01 - 0.5)
    assert sharpness(beside, 0.5) < best - 0.01
    assert sharpness(beside, 0.5, steps=200) == pytest.approx(best, rel=1e-4)


def test_the_adaptive_ball_is_that_of_the_paper():
    """One step by its formula, written out."""
    closure = network(1.0)
    loss, gradient = closure.value_and_grad()
    for kind in ("element", "filter"):
        scale = [p.detach().abs() for p in closure.params]
        if kind == "filter":
            for i in (0, 2):
                scale[i] = closure.params[i].detach().norm(dim=1, keepdim=True).expand_as(scale[i])
        scale = [t + 0.01 for t in scale]
        norm = math.sqrt(
            sum(float((t * g).square().sum()) for t, g in zip(scale, gradient, strict=True))
        )
        moved = [
            p.detach() + 0.7 * t**2 * g / norm
            for p, t, g in zip(closure.params, scale, gradient, strict=True)
        ]
        expected = float(closure.value(torch.cat([m.reshape(-1) for m in moved])) - loss)
        assert sharpness(closure, 0.7, adaptive=kind, eta=0.01) == pytest.approx(expected)


def test_keskars_box():
    scale = torch.tensor([4.0, 1.0], dtype=torch.float64)
    closure = of(lambda x: (scale * x.square()).sum() / 2 + 0.5, 1.0, -2.0)
    value = 0.5 + 2 + 2
    half = 0.1 * np.array([2.0, 3.0])
    worst = 0.5 + 2 * (1 + half[0]) ** 2 + 0.5 * (2 + half[1]) ** 2
    expected = 100 * (worst - value) / (1 + value)
    assert keskar(closure, 0.1) == pytest.approx(expected, rel=1e-9)
    # In a subspace it is no more than in a box around it, and positive.
    inside = keskar(closure, 0.1, subspace=1)
    assert inside > 0


def test_at_an_exact_minimum_there_is_still_a_way_up():
    closure = of(lambda x: x.square().sum(), 0.0, 0.0, 0.0)
    assert keskar(closure, 0.1) == pytest.approx(100 * 3 * 0.01, rel=1e-6)
    assert sharpness(closure, 0.1) == 0.0


def test_radii_of_a_quadratic():
    scale = torch.tensor([100.0, 1.0], dtype=torch.float64)
    closure = of(lambda x: (scale * x.square()).sum() / 2, 0.0, 0.0)
    found = flatness(closure, 0.5, directions=100)
    assert found.radii.min() == pytest.approx(0.1, rel=0.05)
    assert found.radii.max() <= 1.01
    # The volume of the ellipse is pi a b: mean of r^2 over directions is a b = 0.1.
    assert (found.radii**2).mean() == pytest.approx(0.1, rel=0.2)
    assert math.isinf(flatness(of(lambda x: 0 * x.sum(), 1.0), 0.5, directions=1).median)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: sharpness(c, 0.0), r"rho must be a number in \(0, inf\)"),
        (lambda c: sharpness(c, adaptive="layer"), "one of 'element', 'filter'"),
        (lambda c: sharpness(c, steps=0), "an integer >= 1"),
        (lambda c: keskar(c, -1.0), "epsilon must be"),
        (lambda c: keskar(c, subspace=0), "an integer >= 1"),
        (lambda c: flatness(c, 0.0), "epsilon must be"),
        (lambda c: flatness(c, normalisation="filtre"), "one of 'filter'"),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(of(lambda x: x.square().sum(), 1.0, 2.0))


def test_what_is_not_finite_is_refused():
    closure = of(lambda x: x.log().sum(), -1.0)
    for measure in (sharpness, keskar):
        with pytest.raises(NonFiniteError):
            measure(closure)


def test_measuring_leaves_the_model_alone():
    closure = network(1.0)
    before = copy.deepcopy([p.detach() for p in closure.params])
    state = torch.get_rng_state()
    sharpness(closure, 0.5, adaptive="filter", steps=3)
    keskar(closure, iterations=2)
    flatness(closure, directions=2)
    for p, value in zip(closure.params, before, strict=True):
        assert torch.equal(p, value)
        assert p.grad is None
    assert torch.equal(state, torch.get_rng_state())


def test_convolutions_are_rescaled_and_what_is_not_homogeneous_is_found():
    x = torch.randn(3, 1, 6, 6)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.LeakyReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2)
    )
    other = rescaled(model, "0", "4", 7.0, inputs=x)
    torch.testing.assert_close(other[0].weight, 7 * model[0].weight)
    torch.testing.assert_close(other[0].bias, 7 * model[0].bias)
    torch.testing.assert_close(other[4].weight, model[4].weight / 7)
    torch.testing.assert_close(other[4].bias, model[4].bias)
    smooth = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    with pytest.raises(ValueError, match="the function is not the same"):
        rescaled(smooth, "0", "2", 7.0, inputs=torch.randn(3, 4))
    with pytest.raises(ValueError, match=r"unknown layer with a weight '1'.*Known: 0, 2"):
        rescaled(smooth, "0", "1", 7.0)
    with pytest.raises(ValueError, match="another layer"):
        rescaled(smooth, "0", "0", 7.0)
