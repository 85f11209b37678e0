"""Counts on turned bowls, against plain torch loops; other rules and starts are found out."""

import math

import pytest
import torch

from thalweg.optim import SGD, Adam
from thalweg.reproduce import rotation


@pytest.fixture(scope="module")
def outcome():
    return rotation.EXPERIMENT.run()


@pytest.mark.slow
def test_every_claim_holds(outcome):
    assert [claim.claim for claim in outcome.claims if not claim.holds] == []
    assert [claim.measured for claim in outcome.claims[:6]] == [346, 346, 269, 2818, 82, 406]
    assert set(outcome.figures) == {"angles", "paths"}


def first(make, degrees, start=None):
    """The first step with f < 1e-6 of its first value: torch alone, the matrix written out."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    matrix = turn @ torch.diag(torch.tensor([1.0, 100.0], dtype=torch.float64)) @ turn.T
    origin = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    p = torch.nn.Parameter(turn @ origin if start is None else start.clone())
    optimizer, values = make([p]), []
    while not values or values[-1] >= 1e-6 * values[0]:
        optimizer.zero_grad()
        f = 0.5 * p @ matrix @ p
        f.backward()
        optimizer.step()
        values.append(f.item())
    return len(values) - 1


@pytest.mark.parametrize(
    ("make", "degrees", "expected"),
    [
        (lambda p: torch.optim.SGD(p, lr=2 / 101), 0, 346),
        (lambda p: torch.optim.SGD(p, lr=2 / 101), 45, 346),
        (lambda p: torch.optim.Adam(p, lr=0.01), 0, 269),
        (lambda p: torch.optim.Adam(p, lr=0.1), 0, 82),
        (lambda p: torch.optim.Adam(p, lr=0.1), 45, 406),
    ],
)
def test_plain_torch_loops_count_the_same(make, degrees, expected):
    assert first(make, degrees) == expected


def test_a_start_that_does_not_turn_along_is_another_problem():
    start = torch.tensor([-1.0, 1.0], dtype=torch.float64)  # on the steep axis of the turned bowl

    def make(p):
        return torch.optim.SGD(p, lr=0.01)

    assert first(make, 0) == first(make, 45) == 458
    assert first(make, 45, start) == 1


def test_both_counts_of_a_walk_made_by_hand():
    """Along the flat axis f is p^2/2; a rule that jumps in, out and in again."""

    class Jumps(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {})
            self.places = iter([1e-4, 1.0, 1e-4, 1e-4])

        def step(self, closure):
            place = next(self.places)
            for p in self.param_groups[0]["params"]:
                p.data.fill_(place)

    found = rotation.counts(Jumps, 4, torch.tensor([0.0], dtype=torch.float64))
    assert found == ([1], [3])


@pytest.mark.parametrize(
    "make",
    [
        lambda p: SGD(p, lr=2 / 101, momentum=0.01),
        lambda p: SGD(p, lr=1.99 / 101),
        lambda p: Adam(p, lr=0.1, betas=(0.9, 0.99)),
        lambda p: Adam(p, lr=0.11),
    ],
)
def test_another_rule_is_found_out(make):
    (straight, _), _ = rotation.counts(make, 500, torch.tensor([0.0, 45.0], dtype=torch.float64))
    assert straight not in {346, 82}
