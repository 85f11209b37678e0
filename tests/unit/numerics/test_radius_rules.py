"""Ratios near rounding, radii, and the modified Cholesky factorisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from thalweg.errors import NonFiniteError
from thalweg.numerics.modified_cholesky import modified_cholesky
from thalweg.numerics.trust_region import RadiusRule, gain_ratio, noise, shortened


EPS = 2.0**-52


def test_the_ratio_is_one_where_differences_are_rounding():
    f = 1e6
    assert gain_ratio(f, f - 3.0, 3.0, EPS) == pytest.approx(1.0)
    assert gain_ratio(f, f * (1 + EPS), 1e-30, EPS) == pytest.approx(0.9, abs=0.01)
    assert gain_ratio(f, f, 1e-30, EPS) == pytest.approx(1.0)
    assert gain_ratio(f, f + 1.0, 1e-30, EPS) < -1e6
    assert gain_ratio(1e-25, 0.5e-25, 1e-25, EPS) == pytest.approx(0.5)  # no absolute guard
    assert gain_ratio(1.0, math.inf, 1.0, EPS) == -math.inf
    assert noise(1.0, math.nan, EPS) == 0.0


def test_a_rejected_step_is_shortened_to_the_parabolas_minimum():
    def f(t):
        return 3.0 - 2.0 * t + 5.0 * t**2

    assert shortened(f(0), f(1), -2.0, 0.01, 0.9) == pytest.approx(0.2)
    assert shortened(f(0), f(1), -2.0, 0.3, 0.9) == 0.3
    assert shortened(0.0, -0.9, -1.0, 0.1, 0.5) == 0.5
    assert shortened(0.0, math.nan, -1.0, 0.1, 0.5) == 0.1
    assert shortened(0.0, 1.0, 0.0, 0.1, 0.5) == 0.1


def test_the_radius_shrinks_from_the_step_and_grows_with_it():
    rule = RadiusRule()
    assert rule.next(10.0, 1.0, -1.0, 0.2) == 0.2  # an interior step: not from the radius
    assert rule.next(1.0, 1.0, 0.5) == 1.0
    assert rule.next(1.0, 1.0, 0.9) == 2.0
    assert rule.next(10.0, 1.0, 0.9) == 10.0
    with pytest.raises(ValueError, match=r"RadiusRule\(poor=1e-05\): poor must be between"):
        RadiusRule(poor=1e-5)


def symmetric(values, seed=0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((len(values), len(values))))
    return torch.from_numpy((q * values) @ q.T)


def rebuilt(factor):
    return factor.scale[:, None] * (factor.lower @ factor.lower.T) * factor.scale


def test_a_positive_matrix_is_factorised_as_it_is():
    H = symmetric(np.geomspace(1e-3, 1e3, 12))
    factor = modified_cholesky(H)
    assert (factor.shift, factor.tries) == (0.0, 1)
    torch.testing.assert_close(rebuilt(factor), H, rtol=0, atol=1e-12)
    b = torch.ones(12).double()
    torch.testing.assert_close(factor.solve(b), torch.linalg.solve(H, b), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("values", [[-5.0, 1.0, 2.0], [-1e-9, 1.0, 2.0], [0.0, 0.0, 3.0], [-1.0]])
def test_any_other_is_shifted_until_it_is_positive(values):
    H = symmetric(np.array(values))
    factor = modified_cholesky(H)
    assert factor.shift > 0
    shifted = H + factor.shift * torch.diag(factor.scale**2)
    torch.testing.assert_close(rebuilt(factor), shifted, rtol=1e-10, atol=1e-10)
    g = torch.ones(len(values)).double()
    assert g @ factor.solve(g) > 0
    assert factor.tries <= 6


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_neither_units_of_the_function_nor_of_parameters_matter(factor):
    H = symmetric(np.array([-2.0, 1.0, 3.0, 7.0]))
    g = torch.tensor([1.0, -2.0, 0.5, 3.0]).double()
    plain = modified_cholesky(H).solve(g)
    torch.testing.assert_close(modified_cholesky(factor * H).solve(factor * g), plain)
    d = torch.logspace(-3, 3, 4).double()
    turned = modified_cholesky(H * d * d[:, None]).solve(g * d) * d
    torch.testing.assert_close(turned, plain, rtol=1e-9, atol=1e-12)


def test_what_cannot_be_factorised_is_refused():
    with pytest.raises(NonFiniteError, match="the Hessian has a NaN"):
        modified_cholesky(torch.full((2, 2), math.nan))
    with pytest.raises(ValueError, match=r"start=0.0"):
        modified_cholesky(torch.eye(2), start=0.0)
    assert modified_cholesky(torch.zeros(2, 2)).shift > 0
