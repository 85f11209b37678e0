"""The error of Hutchinson's diagonal: the formula against every choice of signs."""

import itertools

import pytest
import torch

from thalweg.reproduce import diagonal_quality as experiment


@pytest.fixture(scope="module")
def found():
    """A small Hessian with one kernel of nine and two entries beside it, and all signs."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(11, 11, generator=generator, dtype=torch.float64)
    hessian = half + half.T
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=11)), dtype=torch.float64)
    samples = signs * (signs @ hessian)
    kernels = torch.arange(11) < 9

    def averaged(rows):
        mean = rows.clone()
        mean[..., :9] = rows[..., :9].mean(-1, keepdim=True)
        return mean

    exact = averaged(hessian.diagonal())
    return experiment.Estimates(hessian, samples, averaged(samples), exact, kernels)


@pytest.mark.parametrize("spatial", [False, True])
def test_the_formula_is_the_mean_over_every_choice_of_signs(found, spatial):
    exact = experiment.measured(found, 1, spatial=spatial)
    assert experiment.predicted(found, 1, spatial=spatial) == pytest.approx(exact, rel=1e-10)


def test_more_probes_less_noise_and_the_same_bias(found):
    one, many = (experiment.predicted(found, m, spatial=True) for m in (1, 10**12))
    target = found.diagonal[:9]
    bias = float((target.mean() - target).norm() / target.norm())
    assert many == pytest.approx(bias, rel=1e-5)
    assert one > many


@pytest.mark.slow
def test_every_verdict_is_the_one_on_record():
    outcome = experiment.claims(experiment.estimates())
    assert all(claim.as_recorded for claim in outcome)
