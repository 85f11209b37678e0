"""Momentum's limits against torch, eigenvalues and transcriptions; wrong rules are found out."""

from functools import partial

import numpy as np
import pytest
import torch

from thalweg.optim import SGD, Nesterov
from thalweg.reproduce import acceleration, momentum_limit


@pytest.fixture(scope="module")
def outcome():
    return momentum_limit.EXPERIMENT.run()


@pytest.mark.slow
def test_every_claim_holds(outcome):
    assert [claim.claim for claim in outcome.claims if not claim.holds] == []
    assert set(outcome.figures) == {"velocity", "condition", "limits", "acceleration"}


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.99])
def test_the_roots_leave_the_unit_circle_at_the_limits(beta):
    heavy = 2 * (1 + beta)
    look_ahead = heavy / (1 + 2 * beta)
    for limit, roots in (
        (heavy, lambda s: np.roots([1, s - 1 - beta, beta])),
        (look_ahead, lambda s: np.roots([1, (s - 1) * (1 + beta), (1 - s) * beta])),
    ):
        assert abs(roots(0.999 * limit)).max() < 1 < abs(roots(1.001 * limit)).max()


def test_torchs_form_of_nesterov_has_the_same_limit():
    found = momentum_limit.limit(partial(SGD, nesterov=True), 0.9)
    assert found == pytest.approx(3.8 / 2.8, rel=1e-3)


def test_a_plain_torch_loop_takes_the_same_steps():
    kappa, beta = 100.0, (9 / 11) ** 2
    p = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer, steps = torch.optim.SGD([p], lr=(2 / 11) ** 2, momentum=beta), 0
    while p.norm() > 1e-4 * 2**0.5:
        optimizer.zero_grad()
        (0.5 * (p[0] ** 2 + kappa * p[1] ** 2)).backward()
        optimizer.step()
        steps += 1
    assert momentum_limit.descent_steps(kappa, momentum=True) == steps
    assert momentum_limit.predicted_steps(kappa) == steps


def test_the_accelerated_path_is_nesterovs():
    start = torch.linspace(-1, 1, 5, dtype=torch.float64)
    curvatures = torch.logspace(-3, 0, 5, dtype=torch.float64)
    path = acceleration.accelerated(lambda x: 0.5 * curvatures * x**2, start, 30)
    before = now = start
    for k in range(1, 31):
        ahead = now + (k - 1) / (k + 2) * (now - before)
        before, now = now, ahead - curvatures * ahead
        torch.testing.assert_close(path[k], now)


def test_the_lowest_value_of_the_worst_function():
    n = 21
    x = 1 - torch.arange(1, n + 1, dtype=torch.float64) / (n + 1)
    x.requires_grad_()
    value = acceleration.worst(x)
    (slope,) = torch.autograd.grad(value, x)
    assert value.item() == pytest.approx(-(1 - 1 / (n + 1)) / 8)
    assert slope.abs().max() < 1e-15


def test_wrong_rules_are_found_out():
    damped = momentum_limit.velocity_claims(partial(SGD, dampening=0.5))
    assert not any(claim.holds for claim in damped)
    swapped = momentum_limit.limit_claims(Nesterov, SGD)
    assert [claim.holds for claim in swapped] == [True, False, False, False] * 2  # beta = 0: one
    slow = {claim.claim: claim.holds for claim in acceleration.claims(acceleration.plain)}
    assert sorted(slow.values()).count(False) == 3
