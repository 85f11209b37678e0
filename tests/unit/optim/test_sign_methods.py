"""Delta-bar-delta and Rprop by hand and against scikit-learn's t-SNE; Adan's restart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.manifold._t_sne import _gradient_descent
from torch import nn

from thalweg import optim


def walk(optimizer, p, gradients):
    for g in gradients:
        p.grad = torch.tensor([g], dtype=p.dtype)
        optimizer.step()
        yield optimizer.state[p]


def zero():
    return nn.Parameter(torch.zeros(1, dtype=torch.float64))


def test_jacobss_rule_by_hand():
    p = zero()
    optimizer = optim.DeltaBarDelta([p], lr=0.1, changes=(0.5, 0.25), theta=0.5)
    # averages:  1, 1.5, -0.75, -0.375, -0.6875; compared with the gradient after it
    states = walk(optimizer, p, [2.0, 2.0, -3.0, 0.0, -1.0])
    gains = [state["gain"].item() for state in states]
    assert gains == pytest.approx([1.0, 1.5, 1.125, 1.125, 1.625])
    assert p.item() == pytest.approx(-0.1 * (2 + 3 - 3.375 + 0 - 1.625))
    assert optimizer.state[p]["delta_bar"].item() == pytest.approx(-0.6875)


def test_gains_stay_within_their_limits():
    p = zero()
    optimizer = optim.DeltaBarDelta([p], lr=0.1, changes=(0.4, 0.5), limits=(0.6, 1.5))
    rising = [s["gain"].item() for s in walk(optimizer, p, [1.0] * 4)]
    assert rising == pytest.approx([1.0, 1.4, 1.5, 1.5])
    falling = [s["gain"].item() for s in walk(optimizer, p, [-100.0, 1e4, -1e6, 1e8])]
    assert falling == pytest.approx([0.75, 0.6, 0.6, 0.6])


def test_gradients_whose_product_underflows_still_agree():
    p = nn.Parameter(torch.zeros(1))
    optimizer = optim.DeltaBarDelta([p], lr=0.1)
    assert [s["gain"].item() for s in walk(optimizer, p, [1e-30] * 3)][-1] == pytest.approx(1.1)


def test_the_velocitys_variant_is_the_descent_of_t_sne():
    """scikit-learn's loop, whose first gain is 0.8: there a zero velocity counts as opposed."""
    curvature = np.array([1.0, 30.0, 200.0, 0.01])

    def slope(x, compute_error=True, **_):
        return 0.0, curvature * np.sin(x)

    start = np.array([2.0, -1.0, 1.5, 3.0])
    lr = 5e-3
    p = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = optim.DeltaBarDelta(
        [p],
        lr=0.8 * lr,
        changes=(0.2, 0.2),
        compare="velocity",
        limits=(0.01, float("inf")),
        momentum=0.8,
    )
    for t in range(1, 60):
        p.grad = torch.from_numpy(slope(p.detach().numpy())[1])
        optimizer.step()
        if t == 1:
            optimizer.param_groups[0]["lr"] = lr
            for name in ("gain", "momentum_buffer"):
                optimizer.state[p][name].mul_(0.8)
        theirs, *_ = _gradient_descent(
            slope,
            start.copy(),
            0,
            t,
            n_iter_check=1000,
            n_iter_without_progress=1000,
            momentum=0.8,
            learning_rate=lr,
            min_gain=0.01,
            min_grad_norm=0.0,
        )
        np.testing.assert_allclose(p.detach().numpy(), theirs, rtol=1e-11, atol=1e-12)


def test_without_momentum_the_velocity_is_the_last_gradient():
    p = zero()
    optimizer = optim.DeltaBarDelta([p], lr=0.1, changes=(0.5, 0.5), compare="velocity", theta=0.9)
    states = walk(optimizer, p, [100.0, -1.0, -1.0, 1.0])
    assert [s["gain"].item() for s in states] == pytest.approx([1.0, 0.5, 1.0, 0.5])


def test_rprop_by_hand():
    p = zero()
    optimizer = optim.Rprop([p], lr=0.1, step_sizes=(1e-6, 0.13))
    path = [p.item() for _ in walk(optimizer, p, [5.0, 0.1, 0.1, -3.0, -3.0, -3.0])]
    #              first  grown   limited  turned: rests  halved  grown
    steps = np.array([-0.1, -0.12, -0.13, 0.0, 0.065, 0.078])
    assert path == pytest.approx(steps.cumsum().tolist())


def test_rprop_at_a_rate_of_zero_holds_still():
    p = zero()
    optimizer = optim.Rprop([p], lr=0.0)
    list(walk(optimizer, p, [1.0, 1.0]))
    assert p.item() == 0.0


def test_adan_restarts_by_forgetting_its_state():
    p, q = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = optim.Adan([p], lr=0.1, weight_decay=0.02)
    for _ in range(5):
        p.grad = p.detach().cos()
        optimizer.step()
    optimizer.state.clear()
    with torch.no_grad():
        q.copy_(p)
    fresh = optim.Adan([q], lr=0.1, weight_decay=0.02)
    for _ in range(3):
        p.grad, q.grad = p.detach().cos(), q.detach().cos()
        optimizer.step()
        fresh.step()
    assert torch.equal(p, q)
