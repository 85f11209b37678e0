"""Feasible from the start, and at the constrained minimum in the end."""

from __future__ import annotations

import io

import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from thalweg import Objective, optim
from thalweg.optim import ProjectedGradient
from thalweg.optim.projections import Ball, Box, NonNegative, Simplex


def param(*values):
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def test_ends_at_the_constrained_minimum():
    matrix = torch.tensor([[3.0, 1.0, 0.5], [1.0, 2.0, -0.5], [0.5, -0.5, 1.0]]).double()
    linear = torch.tensor([1.0, -3.0, 2.0]).double()

    def loss(x):
        return 0.5 * x @ matrix @ x + linear @ x

    p = param(5.0, -4.0, 2.0)
    optimizer = ProjectedGradient(optim.SGD([p], lr=0.2), Simplex())
    closure = Objective.of(loss).closure(p)
    for _ in range(300):
        optimizer.step(closure)
    found = minimize(
        lambda y: float(loss(torch.from_numpy(y))),
        [0.3, 0.3, 0.4],
        bounds=[(0, None)] * 3,
        constraints={"type": "eq", "fun": lambda y: y.sum() - 1},
        tol=1e-12,
    )
    torch.testing.assert_close(p.detach(), torch.from_numpy(found.x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("inner", ["sgd", "adam", "torch.optim.LBFGS"])
def test_every_gradient_that_is_stepped_from_is_taken_at_a_feasible_point(inner):
    p = param(5.0, -4.0)
    box = Box(-1.0, 1.0)
    optimizer = optim.create("projected-gradient", [p], inner=inner, lr=0.1, projection=box)
    assert p.tolist() == [1.0, -1.0]
    seen = []

    def closure():
        seen.append(p.detach().clone())
        p.grad = 2 * (p.detach() - torch.tensor([3.0, 0.0]))
        return ((p.detach() - torch.tensor([3.0, 0.0])) ** 2).sum()

    first = len(seen)
    for _ in range(5):
        optimizer.step(closure)
        torch.testing.assert_close(seen[first].clamp(-1, 1), seen[first])
        first = len(seen)
        assert p.detach().abs().max() <= 1


def test_a_group_added_later_starts_feasible_and_frozen_parameters_are_left():
    p, late, frozen = param(5.0), param(-3.0), param(9.0)
    frozen.requires_grad_(False)
    optimizer = ProjectedGradient(optim.SGD([p, frozen], lr=0.1), NonNegative())
    optimizer.add_param_group({"params": [late]})
    seen = []

    def closure():
        seen.append(late.item())
        p.grad, late.grad = torch.zeros_like(p), torch.zeros_like(late)

    optimizer.step(closure)
    assert seen == [0.0]
    assert frozen.item() == 9.0


def test_each_group_has_a_set_of_its_own():
    p, q, free = param(5.0, 5.0), param(-2.0, 4.0), param(7.0)
    groups = [{"params": [p]}, {"params": [q]}, {"params": [free]}]
    optimizer = ProjectedGradient(optim.SGD(groups, lr=1.0), [Ball(1.0), Simplex(), None])
    assert p.detach().norm().item() == pytest.approx(1.0)
    assert q.tolist() == [0.0, 1.0]
    assert free.item() == 7.0
    optimizer.add_param_group({"params": [param(1.0)]})
    with pytest.raises(ValueError, match=r"projection must be as long as there are groups, 4\."):
        optimizer.step(lambda: None)


def test_a_function_of_the_users_own_and_a_checkpoint_without_it():
    p = param(5.0)
    optimizer = ProjectedGradient(optim.Adam([p], lr=0.1), lambda x: x.round())
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert p.item() == 5.0
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    assert "projection" not in state["param_groups"][0]
    plain = optim.Adam([param(5.0)])
    plain.load_state_dict(state)


def test_functions_that_are_no_projections():
    with pytest.raises(
        ValueError, match=r"^ProjectedGradient\(projection='box'\): projection must"
    ):
        ProjectedGradient(optim.SGD([param(1.0)]), "box")
    with pytest.raises(ValueError, match=r"keeps shapes; it made \(\)\."):
        ProjectedGradient(optim.SGD([param(1.0, 2.0)]), torch.sum)


def test_no_set_is_the_inner_method():
    p, q = param(3.0, -2.0), param(3.0, -2.0)
    wrapped, plain = ProjectedGradient(optim.Adam([p], lr=0.1)), optim.Adam([q], lr=0.1)
    for _ in range(5):
        p.grad, q.grad = p.detach().cos(), q.detach().cos()
        wrapped.step()
        plain.step()
    assert torch.equal(p, q)
