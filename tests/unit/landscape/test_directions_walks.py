"""One plane for several paths: against numpy's singular vectors, and simulated random walks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thalweg.landscape import Recording, Trajectory, random_walk_variance, thinned, walks_axes
from thalweg.landscape.recording import MemoryRows
from thalweg.objective import Objective


def closure(n):
    x = torch.zeros(n, dtype=torch.float64, requires_grad=True)
    return Objective.of(lambda x: x.square().sum()).closure(x)


def walked(points, steps=None):
    rows = MemoryRows(torch.float64)
    for k, point in enumerate(points):
        step = k if steps is None else steps[k]
        rows.append(int(step), 0.0, torch.as_tensor(point, dtype=torch.float64))
    return Recording(rows, [(len(points[0]),)])


def random_walk(rng, steps, n):
    return np.vstack([np.zeros(n), np.cumsum(rng.standard_normal((steps, n)), axis=0)])


def test_axes_are_the_singular_vectors_about_the_end_of_the_first():
    rng = np.random.default_rng(0)
    a, b = (random_walk(rng, 12, 40) for _ in range(2))
    axes = walks_axes(closure(40), {"a": walked(a), "b": walked(b)})
    np.testing.assert_allclose(axes.centre[0], a[-1])
    matrix = np.vstack([b, a]) - a[-1]
    _, sizes, right = np.linalg.svd(matrix)
    for k, direction in enumerate(axes.directions):
        assert abs(direction[0].numpy() @ right[k]) == pytest.approx(1)
    shares = sizes**2 / (sizes**2).sum()
    np.testing.assert_allclose(axes.meta["explained_variance"][:3], shares[:3])
    assert axes.meta["paths"] == ["a", "b"]


def test_the_reference_is_what_random_walks_have():
    """Simulated in many dimensions, with steps that are not recorded evenly."""
    rng = np.random.default_rng(1)
    kept = np.array([0, 1, 2, 5, 10, 20, 40, 60])
    walks = {name: walked(random_walk(rng, 60, 6000)[kept], kept) for name in ("a", "b", "c")}
    axes = walks_axes(closure(6000), walks)
    found, expected = axes.meta["explained_variance"], axes.meta["random_walk_variance"]
    np.testing.assert_allclose(found[:3], expected[:3], atol=0.02)
    alone = walks_axes(closure(6000), {"a": walks["a"]})
    reference = random_walk_variance(kept.tolist(), "final")[:5]
    np.testing.assert_allclose(alone.meta["random_walk_variance"], reference)


def test_two_walks_from_one_start_are_one_walk_from_end_to_end():
    rng = np.random.default_rng(2)
    a, b = (random_walk(rng, 30, 50) for _ in range(2))
    axes = walks_axes(closure(50), {"a": walked(a), "b": walked(b)})
    whole = random_walk_variance(60, "final")
    np.testing.assert_allclose(axes.meta["random_walk_variance"][:2], whole[:2], rtol=0.1)
    apart = walks_axes(closure(50), {"a": walked(a), "b": walked(b + 1.0)})
    assert apart.meta["random_walk_variance"] == []


def test_thinning_keeps_both_ends():
    x = torch.nn.Parameter(torch.zeros(3))
    with Trajectory([x]) as trajectory:
        for k in range(57):
            x.data += k
            trajectory.step()
    kept = thinned(trajectory, 10)
    assert len(kept) == 10
    assert kept.steps[[0, -1]].tolist() == [0, 57]
    np.testing.assert_array_equal(kept.matrix()[-1], trajectory.matrix()[-1])
    assert len(thinned(trajectory, 1000)) == 58
    with pytest.raises(ValueError, match="integer >= 2"):
        thinned(trajectory, 1)
    with pytest.raises(ValueError, match="one path or more"):
        walks_axes(closure(3), {})
