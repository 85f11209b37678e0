"""The rippled bowl: the package's walk is a plain recursion's; the verdicts follow from it."""

import numpy as np
import pytest
import torch

from thalweg.reproduce import hessian_momentum as experiment


def recursion(rate, beta2, steps):
    """AdaHessian in one coordinate, with both derivatives by hand."""
    x = experiment.STARTS.numpy().copy()
    m = v = np.zeros_like(x)
    path, w = [x], 20 * np.pi
    for t in range(1, steps + 1):
        slope = 2 * x + 0.1 * np.sin(w * x) + 0.1 * w * x * np.cos(w * x)
        bend = 2 + 0.2 * w * np.cos(w * x) - 0.1 * w**2 * x * np.sin(w * x)
        m, v = 0.9 * m + 0.1 * slope, beta2 * v + (1 - beta2) * bend**2
        x = x - rate * m / (1 - 0.9**t) / np.sqrt(v / (1 - beta2**t))
        path.append(x)
    return np.array(path)


@pytest.mark.parametrize("beta2", [experiment.AVERAGED, experiment.ALONE])
def test_the_first_steps_are_those_of_a_recursion_by_hand(beta2, monkeypatch):
    monkeypatch.setattr(experiment, "STEPS", 4)
    found = experiment.path.__wrapped__(4.0, beta2)
    np.testing.assert_allclose(found, recursion(4.0, beta2, 4), rtol=1e-6)


def test_the_lowest_points_lie_in_the_valley():
    x = torch.linspace(-1.5, 1.5, 300_001, dtype=torch.float64)
    lowest = float(x[experiment.ripples(x).argmin()])
    assert abs(abs(lowest) - 0.0734) < 1e-4
    assert abs(lowest) < experiment.VALLEY


def test_reached_and_settled():
    points = np.array([[1.0, 0.0, 1.0, 1.0], [0.05, 0.5, 1.0, 0.0], [0.0, 0.0, 1.0, 2.0]])
    assert experiment.reached(points).tolist() == [1, 0, np.inf, 1]
    assert experiment.settled(points).tolist() == [1, 2, np.inf, np.inf]
    assert experiment.settled(np.zeros((3, 1))).tolist() == [0]


@pytest.mark.slow
def test_every_verdict_is_the_one_on_record():
    assert all(claim.as_recorded for claim in experiment.claims())
