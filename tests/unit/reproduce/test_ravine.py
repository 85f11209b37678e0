"""The zig-zag against plain loops and hand-made walks; other rules are found out."""

import itertools

import pytest
import torch

from thalweg.optim import SGD
from thalweg.problems import quadratic
from thalweg.reproduce import ravine


@pytest.fixture(scope="module")
def outcome():
    return ravine.EXPERIMENT.run()


@pytest.mark.slow
def test_every_claim_holds(outcome):
    assert [claim.claim for claim in outcome.claims if not claim.holds] == []
    assert set(outcome.figures) == {"bowl", "cosine", "winding"}


def test_a_plain_torch_loop_zigzags_as_much():
    p = torch.nn.Parameter(torch.tensor([-4.0, 1.0], dtype=torch.float64))
    optimizer, moves = torch.optim.SGD([p], lr=2 / 101), []
    for _ in range(50):
        before = p.detach().clone()
        optimizer.zero_grad()
        (0.5 * (p[0] ** 2 + 100 * p[1] ** 2)).backward()
        optimizer.step()
        moves.append(p.detach() - before)
    for one, two in itertools.pairwise(moves):
        assert (one @ two / one.norm() / two.norm()).item() == pytest.approx(-0.99681, abs=1e-5)


def test_a_descent_is_measured_until_it_stays_low():
    """A walk by hand: low at the second point, high again, low for good from the fourth."""
    bowl = quadratic((1.0, 1.0))
    points = torch.tensor([[2.0, 0.0], [0.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    found = ravine.descent(bowl, points[:, None].double(), 1e-3)
    assert found.steps.tolist() == [3.0]
    assert found.length.tolist() == [6.0]
    assert found.cosine.tolist() == [-1.0]


@pytest.mark.slow
def test_rates_are_inside_their_grid(outcome):
    rates = outcome.settings["rates"]
    for name in ("momentum 0", "momentum 0.9"):
        assert rates["grid"][0] < rates[name] < rates["grid"][-1]


def test_other_rules_are_found_out():
    def sluggish(p, lr, momentum=0.0):
        return SGD(p, lr=lr, momentum=0.7 * momentum)

    assert [claim.holds for claim in ravine.swing_claims(sluggish)] == [True, True] + 4 * [False]
    still = ravine.bowl_claims(lambda p, lr, **_: SGD(p, lr=lr))
    assert not any(claim.holds for claim in still)
