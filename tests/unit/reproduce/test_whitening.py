"""The round path of whitened gradient descent; what is not straight is found out."""

from functools import partial

import numpy as np
import pytest
import torch

from thalweg.optim import SGD, Adam
from thalweg.reproduce import whitening


def failed(claims):
    return [claim.claim for claim in claims if not claim.holds]


def test_every_claim_about_the_path_holds():
    assert failed(whitening.straight()) == []


@pytest.mark.slow
def test_every_claim_holds():
    outcome = whitening.EXPERIMENT.run()
    assert failed(outcome.claims) == []
    assert set(outcome.figures) == {"paths", "steps"}


def test_the_path_in_the_old_coordinates_is_the_formulas():
    matrix = whitening.hessian(1e3).numpy()
    back, damped = whitening.paths(1e3, steps=3)
    x = np.ones(whitening.N)
    for one, other in zip(back, damped, strict=True):
        np.testing.assert_allclose(one.numpy(), x, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(other.numpy(), x, rtol=1e-9, atol=1e-11)
        x = x - 0.5 * np.linalg.solve(matrix, matrix @ x)


def test_a_root_is_a_root():
    matrix = whitening.hessian(100.0)
    torch.testing.assert_close(whitening.root(matrix) @ whitening.root(matrix), matrix)
    same = torch.eye(whitening.N, dtype=torch.float64)
    torch.testing.assert_close(whitening.whitened(matrix, whitening.root(matrix)), same)


def test_another_method_or_another_whitening_is_found_out(monkeypatch):
    monkeypatch.setattr(whitening, "KAPPAS", (10.0,))
    assert len(failed(whitening.straight(partial(SGD, momentum=0.5)))) == 3
    assert len(failed(whitening.straight(Adam))) == 3
    monkeypatch.setattr(whitening, "root", lambda matrix: torch.diag(matrix.diagonal().sqrt()))
    assert len(failed(whitening.straight())) == 3
