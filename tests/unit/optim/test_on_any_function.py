"""Methods that search on drawn functions: nothing crashes, nothing gets worse, nothing is lost."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings, strategies as st

import thalweg as tw
from thalweg.optim import (
    BFGS,
    LBFGS,
    HessianFree,
    Newton,
    NewtonCG,
    NewtonLanczos,
    NonlinearCG,
    SaddleFreeNewton,
    SpectralProjectedGradient,
    TrustRegionNewton,
    TrustRegionNewtonCG,
)


METHODS = {
    "newton": Newton,
    "newton, cholesky": lambda p: Newton(p, modification="cholesky"),
    "saddle-free": SaddleFreeNewton,
    "saddle-free, Lanczos": lambda p: SaddleFreeNewton(p, dense=0),
    "trust region": TrustRegionNewton,
    "trust region, scaled": lambda p: TrustRegionNewton(p, scale="diagonal"),
    "trust region, CG": TrustRegionNewtonCG,
    "newton-lanczos": NewtonLanczos,
    "newton-cg": NewtonCG,
    "hessian-free": HessianFree,
    "bfgs": BFGS,
    "lbfgs": LBFGS,
    "nonlinear-cg": NonlinearCG,
    "projected-gradient": SpectralProjectedGradient,
}
ENTRIES = st.floats(-4, 4).map(lambda v: round(v, 2))
WALLS = {
    "none": lambda x: 0.0 * x.sum(),
    "NaN": lambda x: (5 - x).log().sum(),
    "infinite": lambda x: torch.where(x > 4.5, math.inf, 0.0).sum(),
    "root": lambda x: (6 - x).sqrt().sum(),
}
PARTS = {
    "constant": lambda x, a: a + 0.0 * x.sum(),
    "linear": lambda x, a: a * x.sum(),
    "sine": lambda x, a: (a * x).sin().sum(),
    "quartic": lambda x, a: a * a * (x**4).sum(),
    "duplicates": lambda x, a: a * (x[0] - x[-1]) ** 2,
    "kink": lambda x, a: a * x.abs().sum(),
    "exponential": lambda x, a: (a * x).exp().sum(),
    "overshot": lambda x, a: (1 + a * a * x**2).sqrt().sum(),
    "saturating": lambda x, a: (1 + a * a * x**2).log().sum(),
    "unused": lambda x, a: a * (x[0] ** 2 - x[0]),
}


def overshot(x):
    """Whose whole Newton steps lead uphill."""
    return (1 + x**2).sqrt().sum()


@st.composite
def problems(draw):
    n = draw(st.integers(1, 4))
    entries = st.lists(ENTRIES, min_size=n, max_size=n)
    start = draw(entries)
    quadratic = torch.tensor(draw(st.lists(entries, min_size=n, max_size=n)), dtype=torch.float64)
    parts = draw(st.lists(st.tuples(st.sampled_from(sorted(PARTS)), ENTRIES), max_size=3))
    wall = draw(st.sampled_from(sorted(WALLS)))
    factor = draw(st.sampled_from([1.0, 1e-6, 1e6]))
    bent = draw(st.booleans())

    def fn(x):
        total = WALLS[wall](x) + sum(PARTS[name](x, a) for name, a in parts) + 0.0 * x.sum()
        if bent:
            total = total + x @ quadratic.to(x) @ x
        return factor * total

    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    return fn, torch.tensor(start, dtype=dtype)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=12)
@example(problem=(overshot, torch.tensor([2.0, 3.0], dtype=torch.float64)))
@given(problem=problems())
def test_nothing_crashes_and_nothing_gets_worse(method, problem):
    fn, start = problem
    x = start.clone().requires_grad_()
    optimizer, closure = METHODS[method]([x]), tw.Objective.of(fn).closure(x)
    value = float(closure.value())
    for _ in range(6):
        optimizer.step(closure)
        after = float(closure.value())
        assert x.isfinite().all()
        assert math.isfinite(after)
        slack = 50 * torch.finfo(x.dtype).eps * max(abs(after), abs(value))
        assert after <= value + slack
        value = after
    assert optimizer.info.outcome in {"moved", "stationary", "no progress", "failed"}
