"""Spectral projected gradients: feasible everywhere, as low as scipy's method for bounds."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy import optimize
from torch import nn

import thalweg as tw
from thalweg import problems
from thalweg.optim import SpectralProjectedGradient
from thalweg.optim.projections import Ball, Box, NonNegative, Simplex
from unit.optim.test_quasi_newton import CLASSICAL, bowl, leaf, walk


PATHS = pytest.mark.parametrize("path", ["arc", "line"])
BOXES = [(-0.5, 0.4), (0.0, 10.0), (-3.0, 0.7)]


def scipys(function, start, bounds):
    def both(z):
        x = torch.tensor(z, dtype=torch.float64, requires_grad=True)
        value = function(x)
        (grad,) = torch.autograd.grad(value, x)
        return float(value.detach()), grad.numpy()

    options = {"ftol": 0.0, "gtol": 1e-10}
    pairs = [bounds] * len(start)
    return optimize.minimize(both, start, jac=True, bounds=pairs, options=options).fun


@PATHS
@pytest.mark.parametrize("box", BOXES, ids=str)
def test_as_low_as_scipy_and_never_outside(path, box):
    for function in CLASSICAL:
        seen = []

        def watched(x, function=function, seen=seen):
            seen.append(x.detach().clone())
            return function.fn(x)

        x = leaf(list(function.start))
        optimizer = SpectralProjectedGradient([x], Box(*box), path=path)
        closure = tw.Objective.of(watched).closure(x)
        walk(optimizer, closure, x, 800)
        points = torch.stack(seen)
        assert points.min() >= box[0]
        assert points.max() <= box[1]
        low = scipys(function.fn, [min(max(s, box[0]), box[1]) for s in function.start], box)
        at_a_corner = torch.equal(x.detach(), torch.full_like(x, box[1]))
        if function.name == "himmelblau" and at_a_corner:
            continue  # where the gradient points out of the box: another minimum than scipy's
        assert closure.value().item() <= low + 1e-9, (function.name, box)


@PATHS
def test_the_projected_gradient_vanishes_and_the_gradient_need_not(path):
    x = leaf([2.0, 2.0])
    closure = tw.Objective.of(lambda x: (x[0] - 1) ** 2 + (x[1] + 3) ** 2).closure(x)
    optimizer = SpectralProjectedGradient([x], Box(0.0, 5.0), path=path)
    walk(optimizer, closure, x, 50)
    assert x.tolist() == pytest.approx([1.0, 0.0])
    assert optimizer.info.outcome == "stationary"
    assert float(x.grad.abs().max()) == pytest.approx(6.0)
    ground = optimizer.evaluate(closure)
    assert float(optimizer.projected_gradient(ground).abs().max()) < 1e-10


def test_without_a_set_the_projected_gradient_is_minus_the_gradient():
    x = leaf([-1.2, 1.0])
    optimizer = SpectralProjectedGradient([x])
    ground = optimizer.evaluate(tw.Objective.of(problems.ROSENBROCK.fn).closure(x))
    torch.testing.assert_close(
        optimizer.projected_gradient(ground), -ground.grad, rtol=1e-9, atol=0
    )


@PATHS
def test_the_nearest_point_of_a_simplex(path):
    target = torch.tensor([0.9, 0.5, -0.3, 0.1], dtype=torch.float64)
    x = leaf([0.0, 0.0, 0.0, 7.0])
    optimizer = SpectralProjectedGradient([x], Simplex(), path=path)
    assert x.detach().sum() == pytest.approx(1.0)  # it starts inside
    walk(optimizer, tw.Objective.of(lambda x: ((x - target) ** 2).sum()).closure(x), x, 60)
    torch.testing.assert_close(x.detach(), Simplex()(target), rtol=0, atol=1e-8)


def test_a_set_for_each_group_and_one_that_comes_later():
    first, second, third = (nn.Parameter(torch.full((2,), 3.0).double()) for _ in range(3))
    groups = [{"params": [first]}, {"params": [second]}]
    optimizer = SpectralProjectedGradient(groups, [Ball(1.0), None])
    assert first.norm().item() == pytest.approx(1.0)
    assert second.tolist() == [3.0, 3.0]

    def closure():
        for p in (first, second, third):
            p.grad = None
        loss = sum(((p + 2) ** 2).sum() for p in (first, second, third))
        loss.backward()
        return loss

    for _ in range(30):
        optimizer.step(closure)
    assert first.norm().item() == pytest.approx(1.0)
    assert second.tolist() == pytest.approx([-2.0, -2.0])
    optimizer.projection = [*optimizer.projection, NonNegative()]
    optimizer.add_param_group({"params": [third]})
    for _ in range(30):
        optimizer.step(closure)
    assert third.tolist() == pytest.approx([0.0, 0.0])


def test_spectral_steps_beat_those_of_a_constant_length():
    matrix, fn = bowl(20, 1e3)
    x = leaf([0.0] * 20)
    optimizer = SpectralProjectedGradient([x])
    walk(optimizer, tw.Objective.of(fn).closure(x), x, 2000, gtol=1e-6)
    assert float(x.grad.abs().max()) <= 1e-6
    # Gradient descent at its best rate shrinks by (k - 1) / (k + 1): some 8000 steps.
    assert optimizer.counts.ngev < 800
    del matrix


def test_it_rises_between_two_steps_but_not_from_step_to_step():
    _, fn = bowl(10, 1e4)
    x, seen = leaf([0.0] * 10), []

    def watched(x):
        value = fn(x)
        seen.append(value.item())
        return value

    closure, optimizer = tw.Objective.of(watched).closure(x), SpectralProjectedGradient([x])
    values = [float(optimizer.step(closure)) for _ in range(60)]
    assert all(b <= a for a, b in itertools.pairwise(values))
    assert any(b > a for a, b in itertools.pairwise(seen))


def test_what_it_refuses():
    for bad in (3.0, [Box(0.0, 1.0), "box"]):
        with pytest.raises(ValueError, match=r"projection must be a function of a tensor"):
            SpectralProjectedGradient([leaf([1.0])], bad)
    with pytest.raises(ValueError, match=r"as long as there are groups, 1"):
        SpectralProjectedGradient([leaf([1.0])], [None, None])
    with pytest.raises(ValueError, match=r"keeps shapes"):
        SpectralProjectedGradient([leaf([1.0, 2.0])], lambda x: x[:1])
