"""Penalties on a quadratic, against torch's methods and a search that knows no closed form."""

import pytest
import torch
from scipy.optimize import minimize_scalar

from thalweg.optim import SGD, Adam
from thalweg.reproduce import regularisation as experiment


def test_the_closed_forms_are_the_minima_that_a_search_finds():
    l2, l1 = experiment.shrunk(0.4), experiment.thresholded(0.4)
    for k in range(len(experiment.MINIMUM)):
        h, m = experiment.CURVATURE[k].item(), experiment.MINIMUM[k].item()
        for found, penalty in ((l2, lambda w: 0.2 * w * w), (l1, lambda w: 0.4 * abs(w))):
            best = minimize_scalar(
                lambda w, h=h, m=m, penalty=penalty: 0.5 * h * (w - m) ** 2 + penalty(w),
                bounds=(-2, 2),
                method="bounded",
                options={"xatol": 1e-10},
            )
            assert found[k].item() == pytest.approx(best.x, abs=1e-4)


def test_adam_with_l2_walks_as_torchs():
    def make(method):
        return lambda p: method(p, lr=0.01, weight_decay=0.5)

    ours = experiment.minimise(make(Adam), 200)
    assert torch.allclose(ours, experiment.minimise(make(torch.optim.Adam), 200), atol=1e-12)


def test_the_penalties_and_the_stops_hold(monkeypatch):
    monkeypatch.setattr(experiment, "STEPS", 1500)
    assert all(claim.holds for claim in experiment._penalties())
    assert all(claim.holds for claim in experiment._stopping())


def test_decay_of_the_wrong_strength_is_found_out(monkeypatch):
    monkeypatch.setattr(experiment, "STEPS", 600)
    monkeypatch.setattr(experiment, "SGD", lambda p, lr, **k: SGD(p, lr=lr, **{**k, "l1": 0.01}))
    claims = list(experiment._penalties())
    assert not claims[0].holds
    assert not claims[1].holds


def test_a_box_is_not_a_scale():
    claims = list(experiment._decoupled())
    assert all(claim.holds for claim in claims)
    assert claims[1].expected != claims[2].expected
