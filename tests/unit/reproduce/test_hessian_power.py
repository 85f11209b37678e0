"""The power of the curvature: the factors by hand, and a wrong power found out."""

import numpy as np
import pytest

from thalweg.reproduce import hessian_power as experiment


@pytest.mark.parametrize("power", experiment.POWERS)
def test_each_error_is_multiplied_by_one_less_rate_times_curvature(power):
    found = experiment.errors(power, 5)
    curvatures = np.logspace(-4, 0, experiment.AXES)
    each = 1 - experiment.best_rate(power) * curvatures ** (1 - power)
    np.testing.assert_allclose(found, [np.abs(each**t).max() for t in range(6)], atol=1e-12)


@pytest.mark.slow
def test_the_claims_on_the_quadratic_hold_and_another_power_does_not(monkeypatch):
    assert all(claim.holds for claim in experiment.quadratic_claims())
    right = experiment.errors
    monkeypatch.setattr(experiment, "errors", lambda power, steps=400: right(0.9 * power, steps))
    assert sum(not claim.holds for claim in experiment.quadratic_claims()) == 4


@pytest.mark.slow
def test_every_verdict_is_the_one_on_record():
    assert all(claim.as_recorded for claim in experiment.digits_claims())
