"""Lookahead's variance and radius, against moments and maps iterated by hand."""

import numpy as np
import pytest
import torch

from thalweg.optim import SGD
from thalweg.reproduce import lookahead as experiment


@pytest.mark.parametrize(("rate", "k", "alpha"), experiment.NOISY)
def test_the_ratio_is_the_fixed_point_of_the_second_moment(rate, k, alpha):
    def inner(moment, steps):
        for _ in range(steps):
            moment = (1 - rate) ** 2 * moment + rate**2
        return moment

    slow, mean = 0.0, (1 - rate) ** k
    for _ in range(300):  # E of ((1 - a) s + a f)^2, with f = mean * s + noise
        slow = (1 - alpha + alpha * mean) ** 2 * slow + alpha**2 * inner(0.0, k)
    assert experiment.ratio(rate, k, alpha) == pytest.approx(slow / inner(0.0, 2000))


def test_the_slow_weights_are_the_average():
    torch.manual_seed(1)
    optimizer, model = experiment._network(lambda p: SGD(p, lr=0.05, momentum=0.9))
    assert experiment.averages(optimizer, model, rounds=8) < 1e-13


def test_another_average_is_found_out(monkeypatch):
    torch.manual_seed(1)
    optimizer, model = experiment._network(lambda p: SGD(p, lr=0.05))
    real = experiment.Lookahead
    monkeypatch.setattr(
        experiment, "Lookahead", lambda inner, k, slow_lr: real(inner, k=k, slow_lr=slow_lr + 0.01)
    )
    assert experiment.averages(optimizer, model, rounds=4) > 1e-6


@pytest.mark.parametrize("kind", [None, "keep", "reset"])
def test_the_radius_is_that_of_the_steps_written_out(kind):
    h, beta, factors = 0.05, experiment.MOMENTUM, []
    x, v, slow = 1.0, 0.0, 1.0
    for step in range(1, 6001):
        v = beta * v + h * x
        x -= v
        if kind and step % experiment.K == 0:
            slow = x = slow + experiment.ALPHA * (x - slow)
            v = v if kind == "keep" else 0.0
        factors.append(np.hypot(x, v))
    crests = np.log(np.array(factors).reshape(-1, 200).max(1))
    law = (crests[-1] - crests[9]) / (200 * (len(crests) - 10))
    found = experiment.radius(np.array([h]), kind)[0]
    assert 1 - np.exp(law) == pytest.approx(1 - found, rel=0.03)


def test_the_variance_is_measured(monkeypatch):
    monkeypatch.setattr(experiment, "COPIES", 2048)
    ratios = experiment._ratios((0.5, 5, 0.5))
    assert np.mean(ratios) == pytest.approx(experiment.ratio(0.5, 5, 0.5), rel=0.02)
