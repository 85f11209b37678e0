"""A saddle that attracts Newton's method; what does not leave it is found out."""

from functools import partial

import numpy as np
import pytest
import torch

from thalweg.optim import SGD, Newton, SaddleFreeNewton, TrustRegionNewtonCG
from thalweg.reproduce import newton_saddle


FEW = {"saddle-free": SaddleFreeNewton, "trust region": TrustRegionNewtonCG}


def failed(claims):
    return [claim.claim for claim in claims if not claim.holds]


def test_the_claims_hold_of_a_few_methods(monkeypatch):
    monkeypatch.setattr(newton_saddle, "STARTS", 5)
    few = newton_saddle.leaving(FEW) + newton_saddle.standing(FEW)
    assert failed(newton_saddle.attracted() + few + newton_saddle.speeds()) == []


@pytest.mark.slow
def test_every_claim_holds():
    outcome = newton_saddle.EXPERIMENT.run()
    assert failed(outcome.claims) == []
    assert set(outcome.figures) == {"paths", "leave"}


def test_the_plain_path_is_the_formulas():
    """With p = ab: g = (p - 1)(b, a), H = [[b^2, 2p - 1], [2p - 1, a^2]]."""
    w = np.array([0.3, -0.2])
    path = newton_saddle.plain(torch.from_numpy(w), 4)
    for point in path:
        assert point.tolist() == pytest.approx(w.tolist(), rel=1e-9, abs=1e-15)
        a, b = w
        slope = (a * b - 1) * np.array([b, a])
        hessian = np.array([[b**2, 2 * a * b - 1], [2 * a * b - 1, a**2]])
        w = w - np.linalg.solve(hessian, slope)


def test_what_follows_the_gradient_is_found_out(monkeypatch):
    monkeypatch.setattr(newton_saddle, "STARTS", 5)
    methods = {"descent": partial(SGD, lr=0.05)}
    assert len(failed(newton_saddle.leaving(methods))) == 1
    assert len(failed(newton_saddle.standing(methods))) == 1


def test_a_doubling_that_is_damped_is_found_out(monkeypatch):
    def damped(start):
        return newton_saddle.follow(newton_saddle.loss, start, lambda p: SGD(p, lr=0.5), 60)

    monkeypatch.setattr(newton_saddle, "flipped", damped)
    monkeypatch.setattr(newton_saddle, "RATE", 0.2)
    assert len(failed(newton_saddle.speeds()[:2])) == 1
    monkeypatch.setattr(newton_saddle, "TrustRegionNewton", partial(SGD, lr=0.2))
    monkeypatch.setattr(newton_saddle, "DISTANCES", [1e-2, 1e-6])
    assert failed(newton_saddle.speeds()[2:]) == [
        "trust region, exact: steps to leave from 1e-2, 1e-4 ... 1e-12 beside the line"
    ]
    assert (
        newton_saddle.exits(
            newton_saddle.follow(newton_saddle.loss, newton_saddle.at(0.0, 0.0), Newton, 1)
        )
        is not None
    )
