"""The band's geometry against the papers' formulas, written down again."""

import numpy as np
import pytest
import torch

from thalweg.landscape.band_movers import Fire, HeavyBall
from thalweg.landscape.band_relaxation import batch_at
from thalweg.landscape.bands import (
    arc_fractions,
    band_forces,
    new_places,
    on_polyline,
    respaced,
    tangents,
)
from thalweg.landscape.shapes import Route


def paper_tangent(before, here, after, v_before, v_here, v_after):
    """Henkelman and Jonsson 2000, equations 8 to 11, for one image."""
    plus, minus = after - here, here - before
    if v_after > v_here > v_before:
        tangent = plus
    elif v_after < v_here < v_before:
        tangent = minus
    else:
        dv_max = max(abs(v_after - v_here), abs(v_before - v_here))
        dv_min = min(abs(v_after - v_here), abs(v_before - v_here))
        if v_after > v_before:
            tangent = plus * dv_max + minus * dv_min
        else:
            tangent = plus * dv_min + minus * dv_max
    return tangent / np.linalg.norm(tangent)


def test_tangents_are_the_papers():
    draws = np.random.default_rng(0)
    for _ in range(50):
        points, losses = draws.normal(size=(9, 4)), draws.normal(size=9)
        found = tangents(torch.tensor(points), torch.tensor(losses)).numpy()
        expected = [
            paper_tangent(*points[i - 1 : i + 2], *losses[i - 1 : i + 2]) for i in range(1, 8)
        ]
        np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("flip", [False, True])
def test_at_an_extremum_the_tangent_leans_to_the_higher_neighbour(sign, flip):
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    # A maximum and a minimum; the neighbour after is the higher one, or the one before is.
    losses = torch.tensor([0.0, 1.0, 0.9]) if sign > 0 else torch.tensor([0.1, 0.0, 1.0])
    losses = losses.flip(0) if flip else losses
    along_before, along_after = tangents(points, losses)[0].tolist()
    assert (along_before > along_after) is flip


def test_between_equal_neighbours_the_tangent_is_the_chord():
    points = torch.tensor([[0.0, 0.0], [1.0, 2.0], [4.0, 1.0]])
    found = tangents(points, torch.tensor([1.0, 2.0, 1.0]))[0]
    torch.testing.assert_close(found, torch.tensor([4.0, 1.0]) / 17**0.5)


def test_forces_act_across_and_springs_along():
    draws = torch.Generator().manual_seed(0)
    points = torch.randn(7, 5, generator=draws, dtype=torch.float64)
    losses = torch.randn(7, generator=draws, dtype=torch.float64)
    slopes = torch.randn(5, 5, generator=draws, dtype=torch.float64)
    unit = tangents(points, losses)
    across = band_forces(points, losses, slopes)
    torch.testing.assert_close((across * unit).sum(1), torch.zeros(5, dtype=torch.float64))
    gaps = (points[1:] - points[:-1]).norm(dim=1)
    pulled = band_forces(points, losses, slopes, spring=3.0) - across
    torch.testing.assert_close(pulled, 3.0 * (gaps[1:] - gaps[:-1])[:, None] * unit)
    climbing = band_forces(points, losses, slopes, spring=3.0, climbing=2)[1]
    # Householder's reflection of the downhill direction in the plane across the band.
    mirror = torch.eye(5, dtype=torch.float64) - 2 * torch.outer(unit[1], unit[1])
    torch.testing.assert_close(climbing, -mirror @ slopes[1])


def test_images_are_spaced_along_the_polyline():
    points = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 1.0]], dtype=torch.float64)
    even = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert respaced(points, even)[1].tolist() == [2.0, 0.0]
    torch.testing.assert_close(arc_fractions(points), torch.tensor([0, 0.75, 1.0]).double())
    corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [3.0, 1.0]], dtype=torch.float64)
    kept = respaced(corner, torch.tensor([0.0, 0.3, 0.6, 1.0]).double(), fixed=2)
    assert kept[2].tolist() == [3.0, 0.0]
    assert kept[1].tolist() == pytest.approx([1.5, 0.0])
    still = respaced(points, arc_fractions(points))
    torch.testing.assert_close(still, points)


def test_a_route_is_coefficients_times_anchors():
    anchors = torch.randn(4, 3, dtype=torch.float64)
    knots = torch.tensor([0.0, 0.2, 0.7, 1.0], dtype=torch.float64)
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    line, curve = Route(anchors, knots), Route(anchors)
    expected = on_polyline(anchors, knots, t)
    for s, point in zip(t.tolist(), expected, strict=True):
        torch.testing.assert_close(line.at(s), point)
        # De Casteljau's construction.
        level = anchors
        while len(level) > 1:
            level = torch.lerp(level[:-1], level[1:], s)
        torch.testing.assert_close(curve.at(s), level[0])
        assert float(curve.coefficients(s).sum()) == pytest.approx(1.0)
    assert torch.equal(line.at(0.2), anchors[1])


def test_images_are_missing_where_the_loss_is_above_its_neighbours_line():
    knots = torch.tensor([0.0, 0.4, 0.8, 1.0], dtype=torch.float64)
    inner = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    losses = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    on_line = torch.lerp(losses[:-1, None], losses[1:, None], inner)
    between = on_line.clone()
    assert len(new_places(knots, inner, losses, between, 0.1, 5)) == 0
    between[0, 2] += 0.3
    between[1, 0] += 1.0  # the top of the band is now at 2, and scores count in halves
    between[2, 1] += 0.15
    assert new_places(knots, inner, losses, between, 0.1, 5).tolist() == pytest.approx([0.3, 0.5])
    assert new_places(knots, inner, losses, between, 0.1, 1).tolist() == pytest.approx([0.5])
    assert len(new_places(knots, inner, losses, between, 0.6, 5)) == 0


@pytest.mark.parametrize("make", [lambda: Fire(0.5), lambda: HeavyBall(0.01, 0.9)])
def test_movers_go_down_and_can_be_stopped(make):
    scale = torch.tensor([1.0, 30.0], dtype=torch.float64)
    x = y = torch.tensor([[2.0, 1.0], [-1.0, 0.5]], dtype=torch.float64)
    mover, other = make(), make()
    for step in range(400):
        x = mover.move(x, -x * scale)
        y = other.move(y, -y * scale)
        if step == 150:
            state, other = other.state_dict(), make()
            other.load_state_dict(state)
    assert torch.equal(x, y)
    assert x.norm() < 1e-2


def test_fire_never_moves_further_than_its_reach():
    mover, x = Fire(0.1), torch.tensor([[5.0, 5.0]], dtype=torch.float64)
    for _ in range(100):
        moved = mover.move(x, -1000 * x)
        assert (moved - x).norm() <= 0.1 * 1.51  # and half a step back where it turns
        x = moved


def test_every_batch_is_taken_once_an_epoch():
    for epoch in range(3):
        order = [batch_at(step, 5, seed=1) for step in range(5 * epoch, 5 * epoch + 5)]
        assert sorted(order) == list(range(5))
    assert [batch_at(k, 7, 0) for k in range(7)] != [batch_at(k, 7, 1) for k in range(7)]
