"""Gradient descent keeps (1 - alpha lambda)^k of an error, and anything else is found out."""

from functools import partial

import pytest
import torch

from thalweg.optim import SGD, Adam
from thalweg.reproduce import contraction


@pytest.fixture(scope="module")
def outcome():
    return contraction.EXPERIMENT.run()


def test_every_claim_holds(outcome):
    assert [claim.claim for claim in outcome.claims if not claim.holds] == []
    assert set(outcome.figures) == {"rate", "kept", "regimes"}


def test_the_shares_are_the_published_ones(outcome):
    steep, flat = (claim.measured for claim in outcome.claims[:2])
    assert round(100 * steep) == 3
    assert int(100 * flat) == 60


def test_a_plain_torch_loop_finds_the_same():
    p = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = torch.optim.SGD([p], lr=1 / 3)
    for _ in range(10):
        optimizer.zero_grad()
        (0.5 * p[0] ** 2 + 2.5 * p[1] ** 2).backward()
        optimizer.step()
    ours = contraction.errors(SGD, 1 / 3, (1.0, 5.0), 10)[-1]
    assert torch.equal(ours, p.detach())
    assert torch.allclose(p.abs(), torch.full_like(p, (2 / 3) ** 10))


@pytest.mark.parametrize(
    "broken", [partial(SGD, momentum=0.05), partial(SGD, weight_decay=0.1), Adam]
)
def test_another_rule_is_found_out(broken):
    assert not all(claim.holds for claim in contraction.regimes(broken))
    assert not all(claim.holds for claim in contraction.balance(broken))
