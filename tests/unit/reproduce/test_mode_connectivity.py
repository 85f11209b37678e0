"""Ways between two small networks: what is found, and what would be said if nothing were."""

import copy

import pytest
import torch

from thalweg.landscape import AutoNEB, Curve
from thalweg.reproduce import mode_connectivity, mode_pairs


METHODS = {
    "AutoNEB": AutoNEB(images=2, cycles=((8, 0.1), (16, 0.1)), weight_decay=5e-4),
    "Bezier curve": Curve("bezier", steps=120, lr=0.2, weight_decay=5e-4),
    "polygon": Curve("polygon", steps=1, lr=1e-9),  # stays straight
}


@pytest.fixture(scope="module")
def ends():
    return mode_pairs.networks(32, 2, 100)


@pytest.fixture(scope="module")
def pair(ends):
    return mode_pairs.between(*ends, METHODS)


def renumbered(model):
    """The same function with the first hidden units in the opposite order."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.copy_(model[0].weight.flip(0))
        other[0].bias.copy_(model[0].bias.flip(0))
        other[2].weight.copy_(model[2].weight.flip(1))
    return other


def test_ways_around_the_hump_are_lower_and_a_straight_one_is_not(pair):
    assert pair.straight.barrier() > 0.2
    assert pair.remainder("AutoNEB") < 0.2
    assert pair.remainder("Bezier curve") < 0.2
    assert pair.remainder("polygon") == pytest.approx(1.0, rel=0.05)
    worst = 100 * max(pair.straight.metrics["test_error"])
    ends = 100 * max(pair.straight.metrics["test_error"][[0, -1]])
    assert pair.extra_error("polygon") == pytest.approx(worst - ends, abs=0.3)


def test_renumbering_undoes_a_renumbering(ends):
    found = mode_pairs.across(32, [ends[0], renumbered(ends[0])])
    assert found.before[0] > 0.01
    assert abs(found.after[0]) < 1e-6


def test_a_method_that_finds_nothing_is_found_out(ends, pair):
    widths = [mode_pairs.PairsOfWidth(8, [1.0], [0.5]), mode_pairs.PairsOfWidth(16, [1.0], [0.6])]
    verdicts = {c.claim.split(",")[0]: c.holds for c in mode_connectivity.claims([pair], widths)}
    assert verdicts["AutoNEB: rise of the test error over the worse end"]
    assert not verdicts["polygon: barrier left of the straight line's"]
    assert verdicts["renumbered: barrier on the straight line over that before"]
    assert not verdicts["renumbered: the wider"]
    assert not verdicts["renumbered: barrier over that before at width 16"]


def test_the_curve_lies_in_the_plane_that_shows_it(pair):
    surface = mode_pairs.through(pair, "Bezier curve", 5)
    line, curve = surface.paths
    assert max(curve.residual) < 1e-4
    assert curve.loss == pytest.approx(pair.paths["Bezier curve"].loss, rel=1e-4)
    assert line.xy[:, 1] == pytest.approx(0.0, abs=1e-4)
