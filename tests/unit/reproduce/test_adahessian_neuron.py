"""One neuron: what stabilises means, and the walks against plain ones."""

import math

import pytest
import torch

from thalweg.optim import AdaHessian
from thalweg.reproduce import adahessian_neuron as experiment


def test_the_minimum_is_the_teacher():
    minimum = torch.tensor([experiment.WEIGHT, experiment.BIAS], dtype=torch.float64)
    assert experiment.loss(minimum) == 0
    assert (experiment.loss(experiment.starts()) > 1e-3).all()


def test_stabilises_is_the_first_epoch_from_which_on_all_are_below(monkeypatch):
    monkeypatch.setattr(experiment, "EPOCHS", 5)
    monkeypatch.setattr(experiment, "loss", lambda points: points)

    def epoch(*losses):
        return experiment.stabilises(torch.tensor(losses))

    assert epoch(1.0, 0.5, 0.01, 0.009, 0.0, 0.001) == 2
    assert epoch(1.0, 0.001, 0.5, 0.009, 0.0, 0.001) == 3
    assert epoch(1.0, 0.5, 0.4, 0.3, 0.2, 0.01) == 5
    assert epoch(1.0, 0.0, 0.0, 0.0, 0.0, 0.011) == math.inf
    assert epoch(1.0, 0.0, 0.0, 0.0, 0.0, float("nan")) == math.inf


def test_adam_is_torchs(monkeypatch):
    monkeypatch.setattr(experiment, "EPOCHS", 20)
    start = experiment.starts()[0]
    p = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([p], lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        experiment.loss(p).backward()
        optimizer.step()
    torch.testing.assert_close(experiment.adam_path(start, 0.1)[-1], p.detach())


def test_a_start_settles_sooner_with_curvature_and_not_without_learning():
    start = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    ours = experiment.stabilises(experiment.adahessian_path(start, 0.15))
    still = experiment.adahessian_path(start, 0.15, lambda p, lr: AdaHessian(p, lr=0 * lr))
    assert ours < 60
    assert experiment.stabilises(still) == math.inf


@pytest.mark.slow
def test_every_verdict_is_the_one_on_record():
    assert all(claim.as_recorded for claim in experiment.claims())
