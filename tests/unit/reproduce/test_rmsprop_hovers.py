"""Where RMSprop hovers, against torch's RMSprop."""

import numpy as np
import pytest
import torch

from thalweg.optim import RMSprop
from thalweg.reproduce import rmsprop_hovers as experiment


def test_the_values_are_those_of_torchs_rmsprop(monkeypatch):
    monkeypatch.setattr(experiment, "STEPS", 400)
    ours = experiment.descend(0.01)
    p = torch.nn.Parameter(torch.tensor([-1.0, 1.0], dtype=torch.float64))
    optimizer, values = torch.optim.RMSprop([p], lr=0.01), []
    for _ in range(400):
        optimizer.zero_grad()
        f = 0.5 * (p[0] ** 2 + 100 * p[1] ** 2)
        f.backward()
        optimizer.step()
        values.append(f.item())
    assert ours[:400] == pytest.approx(values, rel=1e-9, abs=1e-300)
    assert int(np.argmax(ours < 1e-6 * ours[0])) == 143


def test_it_ends_in_the_cycle_at_half_a_rate():
    point = torch.tensor([0.3, -2.0], dtype=torch.float64)
    optimizer = RMSprop([point], lr=0.01, alpha=0.9)
    for _ in range(2000):
        point.grad = torch.tensor([1.0, 7.0], dtype=torch.float64) * point
        optimizer.step()
    assert point.abs().tolist() == pytest.approx([0.005, 0.005], rel=1e-3)


def test_the_wrong_level_is_found_out():
    right = {rate: rate**2 * 101 / 8 for rate in experiment.RATES}
    assert all(claim.holds for claim in experiment._cycle(right))
    assert not any(c.holds for c in experiment._cycle({r: 1.1 * f for r, f in right.items()})[:2])
    rooted = {rate: rate * 0.1 for rate in experiment.RATES}
    assert not experiment._cycle(rooted)[-1].holds


def test_noise_makes_it_sgd(monkeypatch):
    monkeypatch.setattr(experiment, "COPIES", 64)
    monkeypatch.setattr(experiment, "NOISY_RATES", (0.03,))
    level = np.mean(experiment.hover(0.03))
    assert level == pytest.approx(0.03 / 4, rel=0.05)
