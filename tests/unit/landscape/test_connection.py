"""Paths over known passes; networks as they were; a kill costs nothing."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn
from torch.nn import functional as F

from thalweg.errors import NonFiniteError
from thalweg.landscape import AutoNEB, Curve, NudgedElasticBand, connect
from thalweg.landscape.band_relaxation import Band
from thalweg.landscape.batch_norm import recalibrated
from thalweg.objective import Objective
from unit.landscape.potentials import (
    MINIMA,
    RING,
    SADDLES,
    minimum,
    mueller_brown,
    ring,
)


A, B = minimum("A"), minimum("B")


def near(found, point):
    """How near the path comes to a point."""
    target = torch.tensor(point, dtype=torch.float64)
    path = torch.stack([found.at(float(t)) for t in np.linspace(0, 1, 400)])
    return float((path - target).norm(dim=1).min())


def test_the_potential_is_the_published_one():
    for point, value in (*MINIMA.values(), *SADDLES.values()):
        x = torch.tensor(point, dtype=torch.float64, requires_grad=True)
        loss = mueller_brown(x)
        (slope,) = torch.autograd.grad(loss, x)
        assert loss.item() == pytest.approx(value, abs=1e-5)
        assert slope.norm() < 5e-3


@pytest.mark.parametrize("spring", [math.inf, 100.0])
def test_the_band_finds_the_published_saddle(spring):
    method = NudgedElasticBand(images=4, spring=spring, tolerance=1e-6, steps=3000)
    found = connect(mueller_brown, A, B, method, points=31)
    point, value = SADDLES["high"]
    assert found.converged
    assert found.saddle.point.tolist() == pytest.approx(point, abs=2e-6)
    assert found.saddle.loss == pytest.approx(value, abs=1e-6)
    assert found.saddle.gradient_norm < 0.01
    assert found.loss.max() == found.saddle.loss
    assert found.barrier("max-endpoint") == pytest.approx(value + 108.166724, abs=1e-5)
    assert found.straight.barrier() > found.barrier()
    assert found.loss[0] == pytest.approx(MINIMA["A"][1], abs=1e-5)


def test_with_enough_images_the_path_goes_over_every_pass():
    method = NudgedElasticBand(images=15, climb=False)
    found = connect(mueller_brown, A, B, method, points=9)
    for point, _ in (MINIMA["between"], *SADDLES.values()):
        assert near(found, point) < 0.02
    # Between two images the polyline cuts the corner; the images are on the path.
    assert found.saddle.loss == pytest.approx(SADDLES["high"][1], abs=1.0)


def test_bands_are_as_right_from_the_other_side():
    one = connect(mueller_brown, A, B, NudgedElasticBand(images=3, tolerance=1e-5), points=5)
    two = connect(mueller_brown, B, A, NudgedElasticBand(images=3, tolerance=1e-5), points=5)
    assert one.saddle.loss == pytest.approx(two.saddle.loss, abs=1e-5)
    assert one.length == pytest.approx(two.length, rel=1e-4)
    np.testing.assert_allclose(one.route.anchors, two.route.anchors.flip(0), atol=1e-3)


def test_autoneb_puts_images_where_they_are_missing():
    method = AutoNEB(
        images=1, cycles=((80, 0.1), (80, 0.1), (300, 0.1)), threshold=0.05, tolerance=1e-5
    )
    found = connect(mueller_brown, A, B, method, points=31)
    point, value = SADDLES["high"]
    assert found.saddle.point.tolist() == pytest.approx(point, abs=2e-5)
    assert found.saddle.loss == pytest.approx(value, abs=1e-6)
    assert found.loss.max() >= found.saddle.loss  # straight pieces cut corners
    assert len(found.route.anchors) > 5
    for other, _ in (MINIMA["between"], SADDLES["low"]):
        assert near(found, other) < 0.08
    few = connect(
        mueller_brown, A, B, AutoNEB(images=3, cycles=((9, 0.1),) * 2, threshold=0.9), points=5
    )
    assert len(few.route.anchors) == 5


@pytest.mark.parametrize("method", ["neb", "autoneb"])
def test_a_pass_in_closed_form(method):
    nudge = torch.tensor([0.0, 0.05], dtype=torch.float64)  # off the hill's own line
    found = connect(ring, RING[0] + nudge, RING[1] + nudge, method, points=21)
    assert found.saddle.loss == pytest.approx(1 / 11, abs=1e-6)
    assert found.saddle.point.tolist() == pytest.approx([0.0, 10 / 11], abs=1e-3)
    assert found.straight.loss.max() == pytest.approx(0.95**2 + 0.1 * 0.05**2)


@pytest.mark.parametrize(("kind", "bends"), [("bezier", 3), ("polygon", 3)])
def test_curves_come_to_the_least_mean_loss(kind, bends):
    nudge = torch.tensor([0.0, 0.2], dtype=torch.float64)
    ends = RING[0] + nudge, RING[1] + nudge
    nodes, weights = np.polynomial.legendre.leggauss(40)
    t = (nodes + 1) / 2
    if kind == "bezier":
        comb = [math.comb(bends - 1, j) for j in range(bends)]
        basis = [c * t**j * (1 - t) ** (bends - 1 - j) for j, c in enumerate(comb)]
    else:
        basis = [np.maximum(0, 1 - np.abs(2 * t - j)) for j in range(3)]

    def mean(free):
        inner = free.reshape(-1, 2)
        anchors = [ends[0].numpy(), *inner, ends[1].numpy()]
        x, y = sum(c[:, None] * w for c, w in zip(basis, anchors, strict=True)).T
        return float(weights @ ((np.hypot(x, y) - 1) ** 2 + 0.1 * y**2)) / 2

    found = connect(ring, *ends, Curve(kind, bends, steps=500, lr=0.1), points=31)
    fitted = found.route.anchors[1:-1].numpy().ravel()
    best = minimize(mean, fitted).fun
    assert mean(fitted) == pytest.approx(best, rel=0.02)
    straight = Band.straight(*ends, bends - 2).points[1:-1].numpy()
    assert best < 0.3 * mean(straight.ravel())


def test_means_and_lengths_are_those_of_the_path():
    a, b = torch.zeros(2, dtype=torch.float64), torch.tensor([3.0, 4.0], dtype=torch.float64)
    method = NudgedElasticBand(images=2, steps=1, climb=False)
    found = connect(lambda x: x @ b / 5, a, b, method)  # nothing acts across the line
    assert found.length == pytest.approx(5.0)
    assert found.mean_loss == pytest.approx(2.5)
    assert found.line.meta["spring"] == "inf"
    assert found.line.meta["images"] == 2


# ---- networks -------------------------------------------------------------------------------
def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3)
    ).double()


def pair():
    torch.manual_seed(9)
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randint(0, 3, (30,))
    return network(1).eval(), network(2).eval(), [(x[:20], y[:20]), (x[20:], y[20:])]


METHODS = {
    "neb": NudgedElasticBand(images=3, steps=6),
    "all-data": NudgedElasticBand(images=3, steps=6, minibatch=False),
    "autoneb": AutoNEB(images=1, cycles=((3, 0.1), (3, 0.05)), threshold=0.01),
    "bezier": Curve(steps=6),
    "polygon": Curve("polygon", bends=4, steps=6, weight_decay=1e-3),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_nothing_of_the_model_changes(method):
    a, b, loader = pair()
    F.cross_entropy(a(loader[0][0]), loader[0][1]).backward()
    grads = [p.grad.clone() for p in a.parameters()]
    before, random = copy.deepcopy(a.state_dict()), torch.get_rng_state()
    found = connect(Objective(a, F.cross_entropy), a, b, method, loader=loader, points=5)
    assert torch.equal(random, torch.get_rng_state())
    after = a.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(m.training for m in a.modules())
    assert all(map(torch.equal, grads, (p.grad for p in a.parameters())))
    middle = copy.deepcopy(a)
    nn.utils.vector_to_parameters(found.at(0.5), middle.parameters())
    k = int(np.argmin(np.abs(found.t - 0.5)))
    risk = Objective(middle, F.cross_entropy).over(loader)
    if found.t[k] == 0.5:
        with recalibrated(risk):
            assert found.loss[k] == pytest.approx(float(risk.value()), rel=1e-12)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_killed_connection_goes_on_as_if_nothing_had_happened(method, tmp_path):
    a, b, loader = pair()
    stop = looks = 0

    def loss(outputs, targets):
        nonlocal looks
        looks += 1
        if looks == stop:
            raise KeyboardInterrupt
        return F.cross_entropy(outputs, targets)

    whole = connect(Objective(a, loss), a, b, method, loader=loader, points=5)
    all_looks = looks
    for stop in (9, 16):  # noqa: B007 - the loss reads it
        looks = 0
        with pytest.raises(KeyboardInterrupt):
            connect(Objective(a, loss), a, b, method, loader=loader, points=5, folder=tmp_path)
    stop, looks = -1, 0
    again = connect(Objective(a, loss), a, b, method, loader=loader, points=5, folder=tmp_path)
    assert torch.equal(again.route.anchors, whole.route.anchors)
    np.testing.assert_array_equal(again.loss, whole.loss)
    looks = 0
    done = connect(Objective(a, loss), a, b, method, loader=loader, points=5, folder=tmp_path)
    assert looks < all_looks  # the path is there; only the looks at it are made
    np.testing.assert_array_equal(done.loss, whole.loss)
    with pytest.raises(ValueError, match="another connection"):
        connect(Objective(a, loss), b, a, method, loader=loader, points=5, folder=tmp_path)


def test_the_seed_orders_the_batches():
    a, b, loader = pair()
    risk = Objective(a, F.cross_entropy).over(loader)
    runs = [connect(risk, a, b, Curve(steps=9), points=3, seed=s) for s in (0, 0, 1)]
    assert torch.equal(runs[0].route.anchors, runs[1].route.anchors)
    assert not torch.equal(runs[0].route.anchors, runs[2].route.anchors)


def test_a_curve_goes_round_the_hump_of_two_networks():
    a, b, loader = pair()
    loader = [(x, x[:, :3].argmax(1)) for x, _ in loader]
    x, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
    for model in (a, b):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(40):
            optimizer.zero_grad()
            F.cross_entropy(model.train()(x), y).backward()
            optimizer.step()
        model.eval()
    found = connect(
        Objective(a, F.cross_entropy), a, b, Curve(steps=80, lr=0.08), loader=loader, points=9
    )
    assert found.barrier() < 0.7 * found.straight.barrier()
    assert found.line.meta["recalibrated"]


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="Did you mean 'autoneb'"):
        connect(ring, *RING, "autonebs")
    with pytest.raises(TypeError, match="a name or a method"):
        connect(ring, *RING, 3)
    with pytest.raises(ValueError, match=r"NudgedElasticBand\(images=0\)"):
        NudgedElasticBand(images=0)
    with pytest.raises(ValueError, match=r"AutoNEB\(cycles"):
        AutoNEB(cycles=((0, 0.1),))
    with pytest.raises(ValueError, match=r"Curve\(kind='circle'\)"):
        Curve("circle")
    with pytest.raises(NonFiniteError, match="image 3 of the band is nan"):
        connect(lambda x: x.log().sum(), torch.tensor([1.0]), torch.tensor([-3.0]), "neb")
