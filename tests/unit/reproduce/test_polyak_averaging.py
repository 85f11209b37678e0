"""The average of SGD's iterates, against covariances computed step by step."""

import pytest
import torch

from thalweg.reproduce import polyak_averaging as experiment


def test_the_stationary_covariance_is_where_the_recursion_ends():
    for rate in experiment.RATES:
        step = torch.eye(3, dtype=torch.float64) - rate * experiment.HESSIAN
        covariance = torch.zeros(3, 3, dtype=torch.float64)
        for _ in range(5000):
            covariance = step @ covariance @ step + rate**2 * experiment.NOISE
        assert torch.allclose(experiment.stationary(rate), covariance)


def test_the_average_has_the_sandwich_over_n_to_the_first_order():
    """The exact covariance of the mean of n iterates from the minimum, by summing the noise."""
    rate, n = 0.4, 4000
    step = torch.eye(3, dtype=torch.float64) - rate * experiment.HESSIAN
    weight, total = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    for _ in range(n):  # the noise of n - j steps ago is in the iterates since, shrunk each step
        weight = step @ weight + torch.eye(3, dtype=torch.float64)
        total += rate**2 * weight @ experiment.NOISE @ weight.T
    assert torch.allclose(total / n, experiment.sandwich(), rtol=0.02, atol=0.05)


@pytest.fixture(scope="module")
def short():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "STEPS", 1500)
        patch.setattr(experiment, "LOOKS", (400, 700, 1000, 1250, 1500))
        yield experiment.quadratic(0.4), experiment.regression()


def test_averaging_beats_the_last_iterate(short):
    errors, (stream, solved) = short
    expected = float(experiment.sandwich().trace()) / 1500
    assert float(errors.squared("average")[-1].mean()) == pytest.approx(expected, rel=0.15)
    last = float(errors.squared("last").mean())
    assert last == pytest.approx(float(experiment.stationary(0.4).trace()), rel=0.05)
    best = float(solved.square().sum(-1).mean())
    assert 1 < float(stream.squared("average")[-1].mean()) / best < 1.5
    assert float(stream.squared("last")[-1].mean()) > 5 * best


def test_the_last_iterate_in_the_place_of_the_average_is_found_out(short, monkeypatch):
    monkeypatch.setattr(experiment, "STEPS", 1500)
    monkeypatch.setattr(experiment, "LOOKS", (400, 700, 1000, 1250, 1500))
    errors = short[0]
    swapped = experiment.Errors(errors.last, errors.last)
    claims = list(experiment._averages(dict.fromkeys(experiment.RATES, swapped)))
    assert not any(claim.holds for claim in claims)
