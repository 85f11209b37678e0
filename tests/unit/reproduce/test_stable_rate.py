"""The stable rate of a network against dense eigenvalues; wrong laws and methods are found out."""

import dataclasses
from functools import partial

import pytest
import torch

from thalweg.optim import SGD
from thalweg.reproduce import stable_rate as experiment


@pytest.fixture(scope="module")
def site():
    return experiment.Site(samples=200, width=4)


def test_the_network_stands_at_a_minimum(site):
    assert site.gradient_norm < 1e-8
    assert site.values[0] > 0
    assert site.top == pytest.approx(float(site.values[-1]), rel=1e-4)


@pytest.mark.parametrize(
    "method",
    [
        experiment.METHODS[0],
        *(pytest.param(method, marks=pytest.mark.slow) for method in experiment.METHODS[1:]),
    ],
    ids=lambda method: method.look,
)
def test_errors_grow_from_the_limit_on(site, method):
    quadratic = experiment.threshold(site, method, experiment.on_quadratic, 1.0)
    assert quadratic == pytest.approx(method.limit, rel=2e-3)


def test_the_network_itself_has_the_same_limit(site):
    method = experiment.METHODS[0]
    found = experiment.threshold(site, method, experiment.on_network, 1e-6)
    assert found == pytest.approx(2.0, rel=2e-3)


def test_a_wrong_method_and_a_wrong_curvature_are_found_out(site):
    heavy = experiment.METHODS[1]
    wrong = dataclasses.replace(heavy, make=partial(SGD, momentum=0.5))
    found = experiment.threshold(site, wrong, experiment.on_quadratic, 1.0)
    assert found == pytest.approx(3.0, rel=2e-3)  # 2 (1 + 0.5), not heavy ball's 3.8
    path, _ = experiment.departure(site, 1.1, 5)
    assert path[1:] / path[:-1] == pytest.approx([-1.2] * 5, rel=5e-3)
    path, _ = experiment.departure(site, 1.0, 5)
    assert path[1:] / path[:-1] != pytest.approx([-1.2] * 5, rel=5e-3)


def test_the_factor_is_the_spectral_radius_of_the_recursion():
    beta = experiment.BETA
    heavy, look_ahead = experiment.METHODS[1:]
    for method, product in ((heavy, 1.7), (heavy, 4.0), (look_ahead, 0.8), (look_ahead, 1.5)):
        if method is heavy:
            matrix = [[1 + beta - product, -beta], [1.0, 0.0]]
        else:
            keep = 1 - product
            matrix = [[(1 + beta) * keep, -beta * keep], [1.0, 0.0]]
        radius = torch.linalg.eigvals(torch.tensor(matrix, dtype=torch.float64)).abs().max()
        assert method.factor(product) == pytest.approx(float(radius))
    assert heavy.factor(heavy.limit) == pytest.approx(1.0)
    assert look_ahead.factor(look_ahead.limit) == pytest.approx(1.0)
