"""The plane of a path, against the dense decomposition, and what a random walk shows in it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.landscape import Trajectory, pca_axes, plane, project, random_walk_variance
from thalweg.objective import Objective
from unit.landscape.networks import classifier, perceptron


def function(n):
    x = torch.zeros(n, dtype=torch.float64, requires_grad=True)
    return Objective.of(lambda x: x.square().sum()).closure(x)


def walk(steps, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, n, generator=generator, dtype=torch.float64).cumsum(0)


@pytest.mark.parametrize("centre", ["final", "mean"])
def test_directions_are_the_right_singular_vectors(centre):
    points = walk(12, 40)
    axes = pca_axes(function(40), list(points), centre=centre)
    middle = points[-1] if centre == "final" else points.mean(0)
    _, singular, vectors = np.linalg.svd((points - middle).numpy(), full_matrices=False)
    for direction, vector in zip(axes.directions, vectors, strict=False):
        assert abs(float(direction[0].numpy() @ vector)) == pytest.approx(1.0, abs=1e-9)
    torch.testing.assert_close(axes.centre[0], middle)
    share = singular**2 / (singular**2).sum()
    np.testing.assert_allclose(axes.meta["explained_variance"], share[:5], rtol=1e-9)
    xy, residual = axes.project(points)
    inside = (points - middle).numpy() @ vectors[:2].T
    np.testing.assert_allclose(np.abs(xy), np.abs(inside), atol=1e-9)
    length = (points - middle).norm(dim=1).numpy()
    out = np.sqrt(np.clip(length**2 - (inside**2).sum(1), 0, None))
    expected = np.divide(out, length, out=np.zeros_like(out), where=length > 1e-9)
    np.testing.assert_allclose(residual, expected, atol=1e-6)
    assert (xy[0] > 0).all()  # a path starts on the positive side


def test_many_parameters_are_taken_in_blocks(monkeypatch):
    points = list(walk(6, 50))
    whole = pca_axes(function(50), points)
    monkeypatch.setattr("thalweg.landscape.directions_pca._COLUMNS", 7)
    blocks = pca_axes(function(50), points)
    torch.testing.assert_close(blocks.directions[1][0], whole.directions[1][0])


@pytest.mark.parametrize("centre", ["mean", "final"])
def test_a_random_walk_explains_what_theory_says(centre):
    steps, n = 300, 4000
    points = list(walk(steps, n).float())
    found = np.array(pca_axes(function(n), points, centre=centre).meta["explained_variance"])
    reference = random_walk_variance(steps - 1, centre)[:5]
    np.testing.assert_allclose(found[:3], reference[:3], rtol=0.1)
    k = np.arange(1, 4)
    law = 6 / (math.pi * k) ** 2 if centre == "mean" else 8 / (math.pi * (2 * k - 1)) ** 2
    np.testing.assert_allclose(reference[:3], law, rtol=0.02)


def test_the_reference_follows_the_recorded_steps():
    sparse = random_walk_variance([0, 1, 2, 3, 100, 200, 300])
    assert sparse[0] > random_walk_variance(6)[0]
    assert sparse.sum() == pytest.approx(1.0)
    with pytest.raises(ValueError, match="two growing steps"):
        random_walk_variance([3, 2, 1])


def test_a_straight_path_gets_a_second_axis_that_says_so():
    points = [t * torch.ones(5, dtype=torch.float64) for t in (3.0, 2.0, 0.5)]
    axes = pca_axes(function(5), points)
    assert "the path is straight" in axes.labels[1]
    assert abs(axes.cosine) < 1e-9
    assert axes.meta["explained_variance"][0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([torch.zeros(3)] * 2, "three points at least"),
        ([torch.zeros(3)] * 4, "a path that moves"),
        ([torch.zeros(3), torch.full((3,), torch.nan), torch.ones(3)], "finite"),
        ([torch.zeros(4)] * 3, "flat tensor of 3 entries"),
    ],
)
def test_what_is_no_path_is_refused(points, message):
    with pytest.raises(ValueError, match=message):
        pca_axes(function(3), points)


def test_a_training_run_is_drawn_with_its_true_losses():
    model = perceptron(6, 8, 3)
    closure = classifier(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = [float(closure.value())]
    with Trajectory(optimizer, every=2, params=model) as trajectory:
        for _ in range(8):
            optimizer.step(closure)
            losses.append(float(closure.value()))
    axes = pca_axes(closure, trajectory)
    surface = plane(closure, axes, resolution=5, paths={"sgd": trajectory}, progress=False)
    (path,) = surface.paths
    assert path.steps.tolist() == [0, 2, 4, 6, 8]
    np.testing.assert_allclose(path.loss, losses[::2], rtol=1e-5)
    assert path.residual[-1] == 0.0  # the centre
    assert 0 < path.residual[1] < 1
    again = project(closure, axes, trajectory, name="sgd")
    np.testing.assert_array_equal(again.xy, path.xy)
    np.testing.assert_array_equal(again.loss, path.loss)
    # What the plane shows under the path is another number than the loss on the path.
    under = [float(closure.value(axes.at(*xy))) for xy in path.xy]
    assert abs(under[1] - path.loss[1]) > 1e-4


def test_steps_of_a_trajectory_go_into_the_reference():
    model = nn.Linear(2, 1)
    x, y = torch.ones(3, 2), torch.zeros(3, 1)
    closure = Objective(model, F.mse_loss).closure(x, y)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Trajectory(optimizer, every=3, params=model) as trajectory:
        for _ in range(7):
            optimizer.step(closure)
    meta = pca_axes(closure, trajectory).meta
    expected = random_walk_variance([0, 3, 6, 7], "final")
    np.testing.assert_allclose(meta["random_walk_variance"], expected[:5])
