"""Steps out of a saddle against plain loops; other rules are found out."""

from functools import partial

import pytest
import torch

from thalweg.optim import SGD
from thalweg.reproduce import saddle


@pytest.fixture(scope="module")
def outcome():
    return saddle.EXPERIMENT.run()


def test_every_claim_holds(outcome):
    assert [claim.claim for claim in outcome.claims if not claim.holds] == []
    assert set(outcome.figures) == {"leave", "stall", "paths"}


def test_statistical_claims_state_runs_and_interval(outcome):
    sampled = [claim for claim in outcome.claims if "noise 1e-4" in claim.claim]
    assert len(sampled) == 3
    for claim in sampled:
        low, high = claim.interval
        assert claim.n == saddle.RUNS
        assert low < claim.expected < high or abs(claim.measured / claim.expected - 1) < 0.03


@pytest.mark.parametrize(("momentum", "step"), [(0.0, 97), (0.9, 36)])
def test_a_plain_torch_loop_leaves_at_the_same_step(momentum, step):
    p = torch.nn.Parameter(torch.tensor([1.5, 1e-4], dtype=torch.float64))
    optimizer, steps = torch.optim.SGD([p], lr=0.05, momentum=momentum), 0
    while p[1].abs() < 1:
        optimizer.zero_grad()
        (p[0] ** 2 - p[1] ** 2).backward()
        optimizer.step()
        steps += 1
    assert steps == step


def test_the_derived_mean_is_that_of_the_recursion_itself():
    """A simulation of the recursion alone, with other noise, for momentum 0.9 at 1e-3."""
    generator = torch.Generator().manual_seed(7)
    y, velocity = torch.zeros(20_000), torch.zeros(20_000)
    left = torch.zeros(20_000)
    for step in range(1, 200):
        noise = 1e-3 * torch.randn(20_000, generator=generator)
        velocity = 0.9 * velocity + (noise - 2 * y)
        y = y - 0.05 * velocity
        left[(y.abs() >= 1) & (left == 0)] = step
    assert left.min() > 0
    assert left.mean().item() == pytest.approx(saddle.theory(1e-3, 0.9), abs=0.1)


def test_other_rules_are_found_out():
    other = partial(SGD, dampening=0.3)
    assert not all(claim.holds for claim in saddle.quiet_claims(other))
    times = {0.9: saddle.noisy(0.9, other)}
    assert not any(claim.holds for claim in saddle.noise_claims(times))
