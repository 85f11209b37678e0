"""The three seams: a method made of one of them has all the rest."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import ClassVar, final

import pytest
import torch
from torch import nn

from thalweg import Objective, Vector, optim
from thalweg.errors import FRACTION, POSITIVE, Domain
from thalweg.optim import AbstractOptimizer, Needs, Path, Piece, Point, Ray, StepInfo


@final
class Backtracking(AbstractOptimizer):
    """Gradient descent that halves its step until the loss falls: two seams, no learning rate."""

    needs: ClassVar[Needs] = Needs.LOSS
    hyperparameters: ClassVar[dict[str, Domain]] = {"start": POSITIVE, "shrink": FRACTION}

    def __init__(self, params, start=1.0, shrink=0.5):
        super().__init__(params, {"start": start, "shrink": shrink})

    def descend(self, point):
        grads = point.grads.clone()
        return lambda t: grads * -t

    def advance(self, point, path):
        t, here = self.defaults["start"], point.params.clone()
        for tried in range(30):
            if point.closure.value(here + path(t)) < point.loss:
                point.params.detach().copy_(here + path(t))
                return StepInfo(t, details={"tried": tried})
            t *= self.defaults["shrink"]
        return StepInfo(0.0, rejected=True)


def test_a_line_search_in_two_seams():
    x = torch.tensor([2.0, -3.0], requires_grad=True)
    closure = Objective.of(lambda x: 10 * x[0] ** 2 + x[1] ** 2).closure(x)
    optimizer = Backtracking([x])
    losses = [optimizer.step(closure).item() for _ in range(40)]
    assert all(a > b for a, b in pairwise(losses) if a > 1e-10)
    assert losses[-1] < 1e-6 * losses[0]
    assert 0 < optimizer.info.step_length <= 1
    assert "tried" in optimizer.info.details
    with torch.no_grad():
        x.zero_()
    optimizer.step(closure)
    assert optimizer.info.rejected
    twin = copy.deepcopy(optimizer)
    assert twin.info == optimizer.info


def test_its_arguments_are_checked_like_all_others():
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match=r"^Backtracking\(start=0\.0\): start must be a number in"):
        Backtracking([x], start=0.0)
    with pytest.raises(
        TypeError, match=r"^Backtracking\(shrnk=\.\.\.\): .* Did you mean 'shrink'\?"
    ):
        Backtracking([x], shrnk=0.5)
    with pytest.raises(TypeError, match=r"^Backtracking\.step\(\): this method needs a closure"):
        Backtracking([x]).step()
    assert "backtracking" not in optim.catalogue()  # which lists the package's own


def test_an_abstract_method_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        AbstractOptimizer([nn.Parameter(torch.ones(1))], {})


def test_a_point_sees_what_has_a_gradient():
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    b.grad = torch.full((3,), 2.0)
    point = Point(None, None, [{"params": [a]}, {"params": [b]}])
    assert [p is b for p in point.params] == [True]
    assert point.grads[0] is b.grad


def pieces():
    one, two, three = torch.ones(2), torch.full((3,), 2.0), torch.full((1,), 3.0)
    yield Piece({"lr": 0.1}, torch.zeros(2), one)
    yield Piece({"lr": 0.2}, Vector([two, three]).zeros_like(), Vector([two, three]))


def test_a_ray_is_walked_lazily_or_kept():
    lazy = iter(pieces())
    ray = Ray(lazy)
    first = next(iter(ray))
    assert first.group["lr"] == 0.1
    kept: Path = Ray(pieces())
    assert [p.tolist() for p in kept(0.5)] == [[-0.5, -0.5], [-1.0] * 3, [-1.5]]
    assert kept(0.0).norm() == 0
    assert kept(2.0).norm() == 2 * kept(1.0).norm()
    assert len(list(kept)) == 2


def test_a_ray_without_pieces():
    assert len(Ray(iter(()))(1.0)) == 0


@pytest.mark.parametrize("foreach", [False, True])
def test_the_ray_of_a_first_order_method_is_its_step(foreach):
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters(), lr=0.1, foreach=foreach)
    model(torch.ones(1, 3)).sum().backward()
    twin = copy.deepcopy((model, optimizer))
    for p, q in zip(model.parameters(), twin[0].parameters(), strict=True):
        q.grad = p.grad.clone()
    with torch.no_grad():
        step = optimizer.descend(optimizer.evaluate(None))(0.1)
    before = Vector(twin[0].parameters()).clone()
    twin[1].step()
    after = Vector(twin[0].parameters()).detach()
    for moved, s in zip(after - before, step, strict=True):
        torch.testing.assert_close(moved, s)


@pytest.mark.parametrize("count", [3, torch.tensor(3), torch.tensor(3.0, dtype=torch.float64)])
def test_a_count_of_another_kind_goes_on(count):
    """Old checkpoints hold numbers, and other libraries' integers."""
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = optim.Adam([p], lr=0.1)
    p.grad = torch.ones(2)
    optimizer.step()
    optimizer.state[p]["step"] = count
    optimizer.step()
    assert float(optimizer.state[p]["step"]) == 4.0
