"""Projections against a solver, and against what defines the nearest point of a convex set."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize

from thalweg.optim.projections import Affine, Ball, Box, L1Ball, NonNegative, Simplex


MATRIX = torch.tensor([[1.0, 2.0, 0.0, -1.0], [0.0, 1.0, 1.0, 1.0], [1.0, 3.0, 1.0, 0.0]])  # rank 2
TARGET = MATRIX @ torch.tensor([1.0, -1.0, 0.5, 2.0])
CENTRE = torch.tensor([1.0, -1.0, 0.0, 2.0], dtype=torch.float64)
LOW = torch.tensor([-1.0, 0.0, -0.5, 0.25], dtype=torch.float64)
AXES = torch.eye(4, dtype=torch.float64)

SETS = {
    "box": Box(-0.5, 1.0),
    "box-of-tensors": Box(LOW, LOW + 1),
    "non-negative": NonNegative(),
    "ball": Ball(1.5),
    "ball-elsewhere": Ball(0.5, centre=CENTRE),
    "l1-ball": L1Ball(1.25),
    "simplex": Simplex(),
    "simplex-of-two": Simplex(2.0),
    "affine": Affine(MATRIX, TARGET),
}
# As the solver is told: what must be >= 0, or = 0.
INEQUALITIES = {
    "box": [lambda y: np.concatenate([y + 0.5, 1.0 - y])],
    "box-of-tensors": [lambda y: np.concatenate([y - LOW.numpy(), LOW.numpy() + 1 - y])],
    "non-negative": [lambda y: y],
    "ball": [lambda y: 1.5**2 - y @ y],
    "ball-elsewhere": [lambda y: 0.25 - ((y - CENTRE.numpy()) ** 2).sum()],
    "simplex": [lambda y: y],
    "simplex-of-two": [lambda y: y],
}
EQUALITIES = {
    "simplex": [lambda y: y.sum() - 1],
    "simplex-of-two": [lambda y: y.sum() - 2],
    "affine": [lambda y: MATRIX[:2].double().numpy() @ y - TARGET[:2].double().numpy()],
}
# Points whose convex hull is the set: an angle need not be measured to any other.
CORNERS = {
    "simplex": AXES,
    "simplex-of-two": 2 * AXES,
    "l1-ball": torch.cat([1.25 * AXES, -1.25 * AXES]),
}
numbers = st.lists(
    st.floats(-4, 4, width=32).filter(lambda v: v == 0 or abs(v) > 1e-3), min_size=4, max_size=4
)
vectors = numbers.map(partial(torch.tensor, dtype=torch.float64))
fast = settings(max_examples=60, deadline=None)


def by_solver(name, x):
    """The nearest point, from scipy's SLSQP; the l1 ball in twice as many variables."""
    target = x.numpy()
    if name == "l1-ball":
        result = minimize(
            lambda z: ((z[:4] - z[4:] - target) ** 2).sum(),
            np.full(8, 0.1),
            bounds=[(0, None)] * 8,
            constraints={"type": "ineq", "fun": lambda z: 1.25 - z.sum()},
            tol=1e-12,
        )
        return torch.from_numpy(result.x[:4] - result.x[4:])
    constraints = [{"type": "ineq", "fun": f} for f in INEQUALITIES.get(name, [])]
    constraints += [{"type": "eq", "fun": f} for f in EQUALITIES.get(name, [])]
    start = SETS[name](x).numpy() * 0.9
    result = minimize(
        lambda y: ((y - target) ** 2).sum(), start, constraints=constraints, tol=1e-12
    )
    return torch.from_numpy(result.x)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SETS)
def test_is_the_solvers_point(name, seed):
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(SETS[name](x), by_solver(name, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CORNERS)
@fast
@given(x=vectors)
def test_no_corner_is_on_the_side_of_the_point(name, x):
    y = SETS[name](x)
    assert ((CORNERS[name] - y) @ (x - y)).max() <= 1e-9
    assert y.abs().sum() <= (2 if "two" in name else 1.25 if "l1" in name else 1) + 1e-12


@fast
@given(x=vectors)
def test_the_balls_point_is_on_the_ray_to_the_centre(x):
    y = SETS["ball-elsewhere"](x)
    away, reach = x - CENTRE, (x - CENTRE).norm()
    expected = CENTRE + away * min(1.0, 0.5 / reach) if reach > 0 else x
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


@fast
@given(x=vectors)
def test_the_affine_point_solves_and_is_reached_along_the_rows(x):
    y = SETS["affine"](x)
    rows = MATRIX.double()
    torch.testing.assert_close(rows @ y, TARGET.double(), rtol=0, atol=1e-10)
    along = torch.linalg.lstsq(rows.T, x - y, driver="gelsd").solution
    torch.testing.assert_close(rows.T @ along, x - y, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", SETS)
@fast
@given(x=vectors, z=vectors)
def test_projecting_twice_is_once_and_brings_no_two_points_apart(name, x, z):
    project = SETS[name]
    one, other = project(x), project(z)
    torch.testing.assert_close(project(one), one, rtol=1e-12, atol=1e-12)
    assert (one - other).norm() <= (x - z).norm() + 1e-12


@pytest.mark.parametrize("name", ["box", "non-negative", "ball", "l1-ball"])
def test_a_point_inside_stays_bit_for_bit(name):
    x = torch.tensor([0.1, 0.3, 0.25, 0.7], dtype=torch.float64) / 3
    assert torch.equal(SETS[name](x), x)


def test_a_point_inside_a_ball_elsewhere_stays_bit_for_bit():
    x = torch.tensor([1e-17, 0.3], dtype=torch.float64)
    assert torch.equal(Ball(2.0, centre=1.0)(x), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", SETS)
def test_keeps_type_and_shape(name, dtype):
    x = torch.tensor([[0.5, -2.0], [1.5, 3.0]], dtype=dtype)
    project = SETS[name]
    if name in {"box-of-tensors", "ball-elsewhere"}:
        project = {"box-of-tensors": Box(LOW.view(2, 2), LOW.view(2, 2) + 1)}.get(
            name, Ball(0.5, CENTRE.view(2, 2))
        )
    y = project(x)
    assert (y.dtype, y.shape) == (dtype, x.shape)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2e-2}[dtype]
    exact = project(x.double())
    torch.testing.assert_close(y.double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("make", [Ball, L1Ball, Simplex])
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_each_slice_is_projected_by_itself(make, dim):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 2, 4, generator=generator, dtype=torch.float64)
    y = make(0.75, dim=dim)(x)
    slices = zip(
        x.movedim(dim, -1).reshape(-1, x.shape[dim]),
        y.movedim(dim, -1).reshape(-1, x.shape[dim]),
        strict=True,
    )
    for given_slice, projected in slices:
        torch.testing.assert_close(projected, make(0.75)(given_slice), rtol=1e-14, atol=1e-14)


def test_a_long_vector_in_float32_has_the_sum_asked_for():
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    assert Simplex()(x).double().sum().item() == pytest.approx(1.0, abs=1e-6)
    assert L1Ball(3.0)(x).double().abs().sum().item() == pytest.approx(3.0, abs=1e-6)


def test_a_single_number():
    assert Simplex(2.0)(torch.tensor(-5.0)).item() == 2.0
    assert Ball(2.0)(torch.tensor(-5.0)).item() == -2.0
    assert L1Ball(2.0)(torch.tensor(-5.0)).item() == -2.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Box(1.0, 0.0), r"^Box\(low=1\.0\): low must be at most high\."),
        (lambda: Box(LOW, LOW - 1), r"^Box\(low=.*\): low must be at most high\."),
        (lambda: Ball(0.0), r"^Ball\(radius=0\.0\): radius must be a number in \(0, inf\)\."),
        (lambda: L1Ball(-1.0), r"^L1Ball\(radius=-1\.0\): radius must be"),
        (lambda: Simplex(float("nan")), r"^Simplex\(total=nan\): total must be"),
        (lambda: Affine(MATRIX, TARGET[:2]), r"must be of shapes \(m, n\) and \(m,\)\."),
        (lambda: Affine(MATRIX, TARGET + torch.tensor([0, 0, 1.0])), r"in the range of matrix\."),
    ],
)
def test_sets_that_are_none(make, message):
    with pytest.raises(ValueError, match=message):
        make()
