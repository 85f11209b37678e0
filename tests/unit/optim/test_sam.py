"""Where SAM takes its second gradient, and that it always comes back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from thalweg import Objective, optim
from thalweg.errors import NonFiniteError
from thalweg.optim import SAM


def two():
    first = nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float64))
    return first, nn.Parameter(torch.tensor([[0.5]], dtype=torch.float64))


def watched(params, seen, gradient=lambda p: p.detach() * 2):
    """A closure that notes where it is called."""

    def closure():
        seen.append([p.detach().clone() for p in params])
        for p in params:
            p.grad = gradient(p)
        return sum((p.detach() ** 2).sum() for p in params)

    return closure


@pytest.mark.parametrize("maximize", [False, True])
def test_the_second_gradient_is_taken_uphill_by_rho_over_all_groups(maximize):
    params, seen = two(), []
    groups = [{"params": [params[0]]}, {"params": [params[1]], "rho": 0.4}]
    optimizer = SAM(optim.SGD(groups, lr=0.1, maximize=maximize), rho=0.2)
    optimizer.step(watched(params, seen))
    here, uphill = seen
    grads = [2 * p for p in here]
    norm = torch.cat([g.flatten() for g in grads]).norm() * (-1 if maximize else 1)
    for p, start, there, g, rho in zip(params, here, uphill, grads, (0.2, 0.4), strict=True):
        torch.testing.assert_close(there, start + rho * g / norm, rtol=1e-14, atol=0)
        sign = 1 if maximize else -1
        torch.testing.assert_close(p.detach(), start + sign * 0.1 * 2 * there, rtol=1e-14, atol=0)


def test_asam_by_group_weights_scaled_and_biases_not():
    (weight, bias), seen = two(), []
    groups = [{"params": [weight]}, {"params": [bias], "adaptive": False}]
    optimizer = SAM(optim.SGD(groups, lr=0.1), rho=0.3, adaptive=True, eta=0.01)
    optimizer.step(watched((weight, bias), seen))
    (w, b), uphill = seen
    scale = w.abs() + 0.01
    norm = torch.cat([scale * 2 * w, (2 * b).flatten()]).norm()
    torch.testing.assert_close(uphill[0], w + 0.3 * scale**2 * 2 * w / norm, rtol=1e-14, atol=0)
    torch.testing.assert_close(uphill[1], b + 0.3 * 2 * b / norm, rtol=1e-14, atol=0)


@pytest.mark.parametrize("adaptive", [False, True])
def test_what_is_near_for_asam_does_not_depend_on_how_a_product_is_split(adaptive):
    """Kwon et al., theorem: T_{Aw}^{-1} A = T_w^{-1} for a rescaling A that keeps the function."""
    worst = []
    for split in (1.0, 8.0):
        a = nn.Parameter(torch.tensor([1.5 * split], dtype=torch.float64))
        b = nn.Parameter(torch.tensor([0.5 / split], dtype=torch.float64))
        seen = []

        def closure(a=a, b=b, seen=seen):
            a.grad = b.grad = None
            loss = (a * b - 2).square().sum()
            loss.backward()
            seen.append(loss.item())
            return loss

        SAM(optim.SGD([a, b], lr=0.0), rho=0.1, adaptive=adaptive, eta=0.0).step(closure)
        worst.append(seen[1])
    assert (abs(worst[0] - worst[1]) < 1e-12) == adaptive


@pytest.mark.parametrize("inner", [optim.SGD, torch.optim.Adam])
def test_comes_back_exactly(inner):
    params, seen = two(), []
    optimizer = SAM(inner(params, lr=0.0), rho=0.1)
    starts = [p.detach().clone() for p in params]
    optimizer.step(watched(params, seen))
    assert all(torch.equal(p, s) for p, s in zip(params, starts, strict=True))

    def fails():
        if len(seen) % 2:
            seen.append(None)
            raise KeyboardInterrupt
        return watched(params, seen)()

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(fails)
    assert all(torch.equal(p, s) for p, s in zip(params, starts, strict=True))

    def explodes():
        value = watched(params, seen)()
        return value * float("nan") if len(seen) % 2 == 0 else value

    with pytest.raises(NonFiniteError, match=r"^SAM\.step\(\): the loss is nan at call 3 of"):
        optimizer.step(explodes)
    assert all(torch.equal(p, s) for p, s in zip(params, starts, strict=True))


def test_without_a_radius_or_a_slope_it_is_the_inner_method():
    for rho, slope in ((0.0, 2.0), (0.5, 0.0)):
        params, others = two(), two()
        optimizer = SAM(optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1), rho=rho)
        plain = optim.SGD(others, lr=0.1, momentum=0.9, weight_decay=0.1)
        for _ in range(4):
            optimizer.step(watched(params, [], lambda p, s=slope: p.detach() * s))
            plain.step(watched(others, [], lambda p, s=slope: p.detach() * s))
        assert all(torch.equal(p, q) for p, q in zip(params, others, strict=True))


def test_running_statistics_move_once_and_dropout_repeats():
    def build():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))

    x, y = torch.randn(16, 3), torch.randn(16, 1)
    model, other = build(), build()
    objective = Objective(model, nn.functional.mse_loss)
    masks = []
    model[2].register_forward_hook(lambda _, given, out: masks.append((out == 0) & (given[0] != 0)))
    SAM(optim.SGD(model.parameters(), lr=0.1)).step(objective.closure(x, y))
    Objective(other, nn.functional.mse_loss).closure(x, y)()
    torch.testing.assert_close(model[1].running_mean, other[1].running_mean)
    assert model[1].num_batches_tracked == 1
    assert len(masks) == 2
    assert torch.equal(masks[0], masks[1])
    assert (objective.ledger.forward, objective.ledger.backward) == (2, 2)


def test_around_a_method_that_looks_ahead_itself():
    """Both move and come back: the gradients are taken at the look-ahead point and uphill of it."""
    p = nn.Parameter(torch.tensor([4.0], dtype=torch.float64))
    optimizer, seen = SAM(optim.Nesterov([p], lr=0.1, momentum=0.5), rho=0.01), []
    closure = watched([p], seen)
    optimizer.step(closure)
    velocity = 2 * 4.01
    assert p.item() == pytest.approx(4.0 - 0.1 * velocity)
    optimizer.step(closure)
    ahead = 4.0 - 0.1 * velocity - 0.1 * 0.5 * velocity
    places = [place.item() for (place,) in seen]
    assert places == pytest.approx([4.0, 4.01, ahead, ahead + 0.01])
    assert p.item() == pytest.approx(4.0 - 0.1 * velocity - 0.1 * (0.5 * velocity + 2 * places[3]))
