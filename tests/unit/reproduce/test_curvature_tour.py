"""The tour's dense matrices against a closed form; wrong estimates and training are found out."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.objective import Objective
from thalweg.reproduce import curvature_tour as experiment, edge_of_stability as edge
from thalweg.reproduce.dense_truth import dense_curvature
from thalweg.reproduce.tour_stops import look


@pytest.fixture(scope="module")
def stop():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)).double()
    x, y = torch.randn(60, 6, dtype=torch.float64), torch.randint(0, 5, (60,))
    closure = Objective(model, F.cross_entropy).closure(x, y)
    return look(closure), dense_curvature(model, x, y)


def test_the_dense_matrices_of_softmax_regression_are_the_closed_form():
    torch.manual_seed(0)
    model = nn.Linear(4, 3, bias=False).double()
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randint(0, 3, (30,))
    found = dense_curvature(model, x, y)
    p = model(x).detach().softmax(1)
    bend = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    hessian = torch.einsum("nab,ni,nj->aibj", bend, x, x).reshape(12, 12) / 30
    slopes = torch.einsum("na,ni->nai", p - F.one_hot(y, 3), x).reshape(30, 12)
    torch.testing.assert_close(found.hessian, hessian)
    torch.testing.assert_close(found.ggn, hessian)
    torch.testing.assert_close(found.covariance, torch.cov(slopes.T, correction=0))
    torch.testing.assert_close(found.gradient, slopes.mean(0))


def test_the_estimates_of_a_small_network_hold(stop):
    made = experiment.claims([stop[0]], [stop[1]])
    # The limits on standard errors and the 0.1% are for the larger network, where gaps are wide.
    loose = ("λ_max (", "spectral density", "stable rate", "sharpness")
    exact = [claim for claim in made if not claim.claim.startswith(loose)]
    exact = [claim for claim in exact if "standard error" not in claim.source]
    assert [claim.claim for claim in exact if not claim.holds] == []
    found = [claim for claim in made if claim.claim.startswith(loose[2:])]
    assert len(found) == 3  # the rate, and two layers
    for claim in found:
        assert claim.measured == pytest.approx(claim.expected, rel=5e-2)
    assert experiment.distance(stop[0].density, stop[1].values) < 0.05
    for name, expected in (
        ("trace", stop[1].values.sum()),
        ("Frobenius norm", stop[1].values.norm()),
    ):
        estimate = stop[0].estimates[name]
        assert abs(estimate.value - float(expected)) <= 4 * estimate.stderr + 1e-9


def test_estimates_of_another_matrix_are_found_out(stop):
    found, truth = stop
    other = dataclasses.replace(
        truth,
        loss=1.01 * truth.loss,
        gradient=1.01 * truth.gradient,
        hessian=1.5 * truth.hessian,
        values=1.5 * truth.values + 0.1,
        ggn=3.0 * truth.ggn,
        covariance=truth.ggn,
    )
    made = experiment.claims([found], [other])
    held = [claim.claim for claim in made if claim.holds]
    assert not [words for words in held if "condition" not in words and "kind" not in words]


def test_the_index_must_fall_each_time():
    assert experiment.falling([(2.3, 9), (1.0, 5), (0.1, 2)]).holds
    assert not experiment.falling([(2.3, 9), (1.0, 10), (0.1, 2)]).holds


def test_training_that_stays_off_the_edge_is_found_out():
    steps = np.arange(40.0)
    low = edge.Ascent(steps, np.linspace(0.1, 0.9, 40), steps)
    swings = edge.Ascent(steps, np.tile([0.97, 1.0, 1.01], 14)[:40], steps)
    hovers = edge.Ascent(steps, np.full(40, 1.02), steps)
    assert not any(claim.holds for claim in edge.claims([low] * 3))
    assert all(claim.holds for claim in edge.claims([hovers, swings, swings]))
    high = edge.Ascent(steps, 1.1 * swings.ratios, steps)
    assert not any(claim.holds for claim in edge.claims([high] * 3))


def test_the_sharpness_of_the_edge_is_the_dense_one(monkeypatch):
    monkeypatch.setattr(edge, "EVERY", 2)
    x, y = (part[:40] for part in edge.data())
    monkeypatch.setattr(edge, "data", lambda: (x, y))
    monkeypatch.setattr(edge, "perceptron", lambda *_: nn.Linear(64, 10, bias=False))
    run = edge.ascent(edge.METHODS[0], steps=4)
    top = torch.linalg.eigvalsh(x.T @ x / 40)[-1]  # a linear model: the same at each step
    assert run.ratios == pytest.approx([0.3 / 2 * float(top)] * 2, rel=1e-2)
