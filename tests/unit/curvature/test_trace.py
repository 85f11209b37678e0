"""Traces against the matrix itself, and how often the stated intervals hold them."""

from __future__ import annotations

import math

import pytest
import torch

from thalweg.curvature.dense import Dense
from thalweg.curvature.estimate import Estimate
from thalweg.curvature.operator import Expression
from thalweg.curvature.trace import trace
from thalweg.errors import NonFiniteError


N = 120
REPETITIONS = 200
SPECTRA = {
    "falling": 1.0 / torch.arange(1, N + 1, dtype=torch.float64),
    "steep": 0.8 ** torch.arange(N, dtype=torch.float64),
    "flat": torch.linspace(1.0, 2.0, N, dtype=torch.float64),
    "indefinite": torch.linspace(-1.0, 1.5, N, dtype=torch.float64),
}


def matrix(spectrum, dtype=torch.float64, n=N):
    generator = torch.Generator().manual_seed(5)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return ((q * spectrum) @ q.T).to(dtype)


def coverage(estimates, truth):
    inside = [e.interval()[0] <= truth <= e.interval()[1] for e in estimates]
    return sum(inside) / len(inside)


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("hutchinson", {"probes": 24}),
        ("hutchinson", {"probes": 24, "distribution": "gaussian"}),
        ("hutch++", {"max_products": 36}),
        ("xtrace", {"probes": 12}),
        ("xtrace", {"probes": 12, "distribution": "rademacher"}),
        ("auto", {"max_products": 40}),
    ],
    ids=str,
)
def test_the_interval_covers_and_the_estimate_is_unbiased(spectrum, method, options):
    A = Dense(matrix(SPECTRA[spectrum]), symmetric=True)
    truth = float(SPECTRA[spectrum].sum())
    estimates = [trace(A, method, seed=s, **options) for s in range(REPETITIONS)]
    errors = torch.tensor([float(e.value) - truth for e in estimates])
    assert abs(errors.mean()) < 4 * errors.std() / math.sqrt(REPETITIONS)
    assert 0.9 <= coverage(estimates, truth) <= 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["xtrace", "hutch++", "auto"])
def test_a_matrix_of_low_rank_is_measured_exactly(method, dtype):
    spectrum = torch.zeros(N, dtype=torch.float64)
    spectrum[:5] = torch.tensor([9.0, 5.0, 3.0, -2.0, 1.0])
    found = trace(Dense(matrix(spectrum, dtype), symmetric=True), method, max_products=45)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    assert found.value == pytest.approx(16.0, rel=tolerance)
    assert found.stderr < 16.0 * tolerance


def test_zero_has_trace_zero():
    for method in ("hutchinson", "xtrace", "hutch++", "auto"):
        found = trace(Dense(torch.zeros(90, 90)), method)
        assert (found.value, found.stderr) == (0.0, 0.0)


def test_an_operator_that_is_not_symmetric():
    generator = torch.Generator().manual_seed(1)
    A = torch.randn(N, N, generator=generator, dtype=torch.float64) / N
    A += matrix(SPECTRA["steep"])
    estimates = [trace(Dense(A), "xtrace", probes=15, seed=s) for s in range(REPETITIONS)]
    errors = torch.tensor([e.value - float(A.trace()) for e in estimates])
    assert abs(errors.mean()) < 4 * errors.std() / math.sqrt(REPETITIONS)
    assert 0.9 <= coverage(estimates, float(A.trace())) <= 0.99


def test_rademacher_is_exact_on_diagonals_and_the_sphere_on_the_identity():
    A = Dense(torch.diag(torch.arange(90.0)))
    assert trace(A, "hutchinson", probes=3).value == pytest.approx(4005.0)
    identity = Dense(torch.eye(90, dtype=torch.float64))
    found = trace(identity, "hutchinson", probes=3, distribution="sphere")
    assert found.value == pytest.approx(90.0)


def test_falling_spectra_are_known_to_one_percent_in_sixty_products():
    spectrum = 1.0 / torch.arange(1, 401, dtype=torch.float64) ** 1.5
    A = Dense(matrix(spectrum, torch.float32, n=400), symmetric=True)
    truth = float(spectrum.sum())

    def error(method):
        found = [trace(A, method, max_products=60, seed=s) for s in range(30)]
        assert max(e.products for e in found) <= 60
        return math.sqrt(sum((e.value / truth - 1) ** 2 for e in found) / 30)

    assert error("auto") < 0.01
    assert error("xtrace") < 0.01
    assert error("hutchinson") > 0.03


def test_auto_takes_hutchinson_on_a_flat_indefinite_spectrum():
    A = Dense(matrix(torch.linspace(-1.0, 1.1, 400, dtype=torch.float64), n=400), symmetric=True)
    methods = [trace(A, seed=s).method for s in range(20)]
    assert methods.count("hutchinson") >= 18
    B = Dense(matrix(0.7 ** torch.arange(400, dtype=torch.float64), n=400), symmetric=True)
    assert {trace(B, seed=s).method for s in range(20)} == {"xtrace"}


@pytest.mark.parametrize("method", ["hutchinson", "hutch++", "xtrace", "auto"])
def test_a_target_is_met_or_the_budget_is_spent(method):
    spectrum = 1.0 / torch.arange(1, 401, dtype=torch.float64)
    A = Dense(matrix(spectrum, n=400), symmetric=True)
    found = trace(A, method, target=0.05)
    assert found.stderr <= 0.05 * found.value
    assert found.products < 400
    assert abs(found.value - float(spectrum.sum())) < 4 * found.stderr
    assert trace(A, method, target=1e-9, max_products=45).products <= 45


def test_the_products_are_those_of_the_operator():
    for method in ("hutchinson", "hutch++", "xtrace", "auto"):
        for target in (None, 0.02):
            A = Dense(matrix(SPECTRA["falling"]), symmetric=True)
            found = trace(A, method, target=target, max_products=50)
            assert found.products == A.products <= 50


def test_small_operators_are_summed_up_exactly():
    A = Dense(matrix(SPECTRA["indefinite"][:50], n=50), symmetric=True)
    found = trace(A)
    assert found.method == "exact"
    assert found.stderr == 0.0
    assert found.interval() == (found.value, found.value)
    assert found.value == pytest.approx(float(SPECTRA["indefinite"][:50].sum()))


def test_the_seed_decides():
    A = Dense(matrix(SPECTRA["falling"]), symmetric=True)
    assert trace(A, seed=3) == trace(A, seed=3)
    assert trace(A, seed=3).value != trace(A, seed=4).value
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    trace(A)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "hutch"}, "method must be one of"),
        ({"probes": 1}, "probes must be an integer >= 2"),
        ({"target": 0.0}, "target must be a number"),
        ({"distribution": "uniform"}, "distribution must be one of"),
        ({"probes": 5, "target": 0.1}, "probes must be None"),
        ({"max_products": 2}, "max_products must be"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        trace(Dense(torch.eye(90)), **options)


def test_what_is_no_square_operator_is_refused():
    with pytest.raises(ValueError, match="a square operator"):
        trace(Dense(torch.ones(3, 4)))
    with pytest.raises(TypeError, match="curvature operator"):
        trace(torch.eye(3))


def test_nan_is_refused():
    broken = Expression((90, 90), lambda v: v * math.nan, symmetric=True)
    for method in ("hutchinson", "xtrace", "hutch++"):
        with pytest.raises(NonFiniteError):
            trace(broken, method)


def test_progress_is_shown(capsys):
    trace(Dense(matrix(SPECTRA["falling"]), symmetric=True), progress=True)
    capsys.readouterr()


def test_an_interval_is_students():
    e = Estimate(10.0, 2.0, 5, "hutchinson", 5)
    low, high = e.interval(0.9)
    assert (low, high) == pytest.approx((10 - 2 * 2.13185, 10 + 2 * 2.13185), abs=1e-4)
    assert Estimate(1.0, math.inf, 1, "hutchinson", 1).interval() == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="confidence must be"):
        e.interval(95)
