"""What the slow weights are, and what becomes of the inner momentum."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from thalweg import Objective, optim
from thalweg.optim import Lookahead


def walk(optimizer, p, steps, slow=None):
    """Steps on a noisy slope; the fast weights as the inner method left them, and the slow."""
    fast, held = [], []
    generator = torch.Generator().manual_seed(3)
    for _ in range(steps):
        p.grad = p.detach() + torch.randn(p.shape, generator=generator, dtype=p.dtype)
        optimizer.step()
        fast.append(p.detach().clone())
        with optimizer.evaluation():
            held.append(p.detach().clone())
    return fast, held


def param():
    return nn.Parameter(torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64))


def test_the_slow_weights_are_an_exponential_average_of_where_the_fast_ones_got():
    p, alpha, k = param(), 0.3, 4
    start, ends = p.detach().clone(), []
    inner = torch.optim.SGD([p], lr=0.1)
    optimizer = Lookahead(inner, k=k, slow_lr=alpha)
    inner.register_step_post_hook(lambda *_: ends.append(p.detach().clone()))
    _, held = walk(optimizer, p, 6 * k)
    rounds = ends[k - 1 :: k]
    expected = (1 - alpha) ** 6 * start
    for age, end in enumerate(reversed(rounds)):
        expected = expected + alpha * (1 - alpha) ** age * end
    torch.testing.assert_close(held[-1], expected, rtol=1e-13, atol=1e-13)
    assert torch.equal(held[0], start)


@pytest.mark.parametrize("inner", ["sgd", "rmsprop", "adam", "torch.optim.NAdam"])
def test_all_the_way_is_the_inner_method(inner):
    p, q = param(), param()
    wrapped = optim.create("lookahead", [p], inner=inner, lr=0.05, k=3, slow_lr=1.0)
    fast, _ = walk(wrapped, p, 10)
    plain = optim.WeightAveraging(optim.create(inner, [q], lr=0.05))
    expected, _ = walk(plain, q, 10)
    assert all(torch.equal(a, b) for a, b in zip(fast, expected, strict=True))


@pytest.mark.parametrize("name", ["momentum_buffer", "exp_avg"])
@pytest.mark.parametrize("how", ["keep", "reset", "interpolate"])
def test_what_becomes_of_the_momentum(how, name):
    p = param()
    inner = {
        "momentum_buffer": lambda: optim.SGD([p], lr=0.1, momentum=0.9),
        "exp_avg": lambda: torch.optim.Adam([p], lr=0.1),
    }[name]()
    optimizer = Lookahead(inner, k=2, slow_lr=0.25, inner_momentum=how)
    seen = []
    inner.register_step_post_hook(lambda *_: seen.append(inner.state[p][name].clone()))
    walk(optimizer, p, 4)
    zero = torch.zeros_like(p)
    cached = 0.25 * seen[1]
    after = {"keep": seen[3], "reset": zero, "interpolate": 0.75 * cached + 0.25 * seen[3]}
    torch.testing.assert_close(inner.state[p][name], after[how], rtol=1e-14, atol=1e-15)
    if name == "exp_avg":
        assert inner.state[p]["exp_avg_sq"].min() > 0
        assert inner.state[p]["step"] == 4


def test_inner_steps_are_counted_for_each_parameter():
    early, late = param(), param()
    optimizer = Lookahead(optim.SGD([early, late], lr=1.0), k=3, slow_lr=0.5)
    for t in range(5):
        early.grad = torch.ones_like(early)
        late.grad = torch.ones_like(late) if t >= 2 else None
        optimizer.step()
    torch.testing.assert_close(late.detach(), param().detach() - 1.5)
    torch.testing.assert_close(early.detach(), param().detach() - 3.5)


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_resumes_bit_for_bit_at_every_place_of_the_inner_loop(stop):
    def build(p):
        return Lookahead(
            torch.optim.Adam([p], lr=0.1), 4, inner_momentum="interpolate", slow_lr=0.3
        )

    p = param()
    optimizer = build(p)
    closure = Objective.of(lambda x: (x**4).sum()).closure(p)
    for _ in range(stop):
        optimizer.step(closure)
    q = nn.Parameter(p.detach().clone())
    second = build(q)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    other = Objective.of(lambda x: (x**4).sum()).closure(q)
    for _ in range(9):
        optimizer.step(closure)
        second.step(other)
        assert torch.equal(p, q)
    with optimizer.evaluation(), second.evaluation():
        assert torch.equal(p, q)
