"""The classical sets against NIST's certificates, MINPACK's norms and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares, lsq_linear, minimize
from torch.autograd.functional import hessian

from thalweg import problems


NIST = problems.least_squares_set("nist")
MGH = problems.least_squares_set("mgh")
QUADRATICS = problems.quadratic_set()
BOUNDED = problems.bounded_set()


def named(problem):
    return problem.name


def jacobian(problem, x):
    return torch.func.jacrev(problem.residuals)(torch.as_tensor(x))


# ---- NIST ---------------------------------------------------------------------------------------

# Observations and parameters as each file's header says in words.
SIZES = {
    "Misra1a": (14, 2), "Chwirut2": (54, 3), "Lanczos3": (24, 6), "Gauss1": (250, 8),
    "DanWood": (6, 2), "Kirby2": (151, 5), "Nelson": (128, 3), "MGH17": (33, 5),
    "Thurber": (37, 7), "Eckerle4": (35, 3),
}  # fmt: skip


@pytest.mark.parametrize("problem", NIST, ids=named)
def test_nist_files_are_read_whole(problem):
    assert (problem.m, problem.n) == SIZES[problem.name]
    assert len(problem.starts) == 2
    assert len(problem.certified.parameters) == len(problem.certified.deviations) == problem.n
    assert problem.certified.difficulty in {"lower", "average", "higher"}
    assert "exp" in problem.title or "b1" in problem.title


@pytest.mark.parametrize("problem", NIST, ids=named)
def test_certified_sums_and_deviations_are_reproduced_at_the_certified_parameters(problem):
    b = torch.tensor(problem.certified.parameters, dtype=torch.float64)
    (certified,) = problem.minima
    assert problem(b).item() == pytest.approx(certified, rel=1e-10)
    degrees = problem.m - problem.n
    assert math.sqrt(certified / degrees) == pytest.approx(
        problem.certified.residual_deviation, rel=1e-9
    )
    scale = problem.certified.residual_deviation**2
    r = torch.linalg.qr(jacobian(problem, b)).R
    inverse = torch.linalg.solve_triangular(r, torch.eye(problem.n).double(), upper=True)
    deviations = (scale * inverse.square().sum(1)).sqrt()
    torch.testing.assert_close(
        deviations, torch.tensor(problem.certified.deviations).double(), rtol=2e-6, atol=0
    )
    assert problem.digits(b) == 11.0
    assert problem.digits(b * (1 + 2e-5)) == pytest.approx(-math.log10(2e-5), abs=1e-6)
    assert problem.digits(b * math.nan) == 0.0


def test_numbers_of_the_files_by_eye():
    nelson = problems.least_squares_set("nist")[6]
    assert nelson.starts == ((2.0, 0.0001, -0.01), (2.5, 5e-9, -0.05))
    assert nelson.title == "log[y] = b1 - b2*x1 * exp[-b3*x2] + e"
    # At b = 0 the residuals are the responses: the logarithms of the first column.
    first = nelson.residuals(torch.zeros(3, dtype=torch.float64))[:2]
    assert first.tolist() == [math.log(15), math.log(17)]


# ---- More, Garbow, Hillstrom --------------------------------------------------------------------

# Norms of the residuals at the standard start that MINPACK's own test programs print.
NORMS_AT_START = {
    "rosenbrock": math.sqrt(24.2), "freudenstein-roth": 20.0124960961895, "helical-valley": 50.0,
    "powell-singular": 14.6628782986152, "bard": 6.45613629515967,
    "kowalik-osborne": 0.0728915102882945, "meyer": 41153.4665543031, "box": 32.1115837449572,
    "jennrich-sampson": 64.5856498144943, "brown-dennis": 2815.43839161816,
    "watson-6": 5.47722557505166, "watson-9": 5.47722557505166, "watson-12": 5.47722557505166,
    "chebyquad-8": 0.196513862833975, "chebyquad-9": 0.16994993465202,
    "chebyquad-10": 0.183747831178711, "brown-almost-linear": 16.5302162063499,
    "osborne-1": 0.937564021037838, "osborne-2": 1.44686540984712,
}  # fmt: skip

# Worked out by hand from the formulas.
SUMS_AT_START = {
    "beale": 14.203125, "brown-badly-scaled": 999998000003.0, "wood": 19192.0,
    "powell-badly-scaled": 1 + (math.exp(-1) - 0.0001) ** 2, "extended-rosenbrock": 121.0,
    "extended-powell-singular": 645.0, "penalty-1-4": 9e-5 + 5e-5 + 29.75**2,
    "broyden-tridiagonal": 21.0, "broyden-banded": 360.0, "linear-full-rank": 50.0,
}  # fmt: skip


def test_the_sets_are_complete():
    assert len(MGH) == 41
    assert len({p.name for p in MGH}) == 41
    assert len(NIST) == 10
    assert len(QUADRATICS) == 14
    assert len(BOUNDED) == 12
    with pytest.raises(ValueError, match="Did you mean 'nist'"):
        problems.least_squares_set("nists")


@pytest.mark.parametrize("problem", MGH, ids=named)
def test_sums_at_the_start_are_the_published_ones(problem):
    value = problem(problem.start()).item()
    if problem.name in NORMS_AT_START:
        assert math.sqrt(value) == pytest.approx(NORMS_AT_START[problem.name], rel=1e-12)
    if problem.name in SUMS_AT_START:
        assert value == pytest.approx(SUMS_AT_START[problem.name], rel=1e-9)


@pytest.mark.parametrize("problem", MGH, ids=named)
def test_an_independent_method_ends_at_a_listed_minimum(problem):
    def residuals(x):
        return problem.residuals(torch.from_numpy(x)).numpy()

    def slopes(x):
        return jacobian(problem, torch.from_numpy(x)).numpy()

    tight = {"xtol": 2.3e-16, "ftol": 2.3e-16, "gtol": 2.3e-16, "max_nfev": 3000}
    method = "trf" if problem.name in {"brown-dennis", "penalty-2-10"} else "lm"
    answer = least_squares(residuals, problem.start().numpy(), slopes, method=method, **tight)
    assert problem.solved(2 * answer.cost)


# The minima as the paper prints them.
PRINTED = {
    "freudenstein-roth": 48.9842, "jennrich-sampson": 124.362, "bard": 8.21487e-3,
    "gaussian": 1.12793e-8, "meyer": 87.9458, "kowalik-osborne": 3.07505e-4,
    "brown-dennis": 85822.2, "osborne-1": 5.46489e-5, "biggs": 5.65565e-3, "osborne-2": 4.01377e-2,
    "watson-6": 2.28767e-3, "watson-9": 1.39976e-6, "watson-12": 4.72238e-10,
    "penalty-1-4": 2.24997e-5, "penalty-1-10": 7.08765e-5, "penalty-2-4": 9.37629e-6,
    "chebyquad-10": 6.50395e-3,
    "penalty-2-10": 2.93660e-4, "trigonometric": 2.79506e-5, "chebyquad-8": 3.51687e-3,
    "brown-almost-linear": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("problem", MGH, ids=named)
def test_minima_are_the_printed_ones(problem):
    if problem.name in PRINTED:
        nearest = min(problem.minima, key=lambda low: abs(low - PRINTED[problem.name]))
        assert nearest == pytest.approx(PRINTED[problem.name], rel=1e-5)
    else:
        assert problem.minima[0] == 0.0 or problem.name.startswith("linear")
        assert len(problem.minima) == 1 or problem.name == "broyden-banded"


def test_the_local_minimum_of_the_banded_function_is_one():
    problem = {p.name: p for p in MGH}["broyden-banded"]

    def slope(x):
        leaf = torch.as_tensor(x).requires_grad_()
        value = problem(leaf)
        return value.item(), torch.autograd.grad(value, leaf)[0].numpy()

    x = torch.as_tensor(minimize(slope, problem.start().numpy(), jac=True, method="TNC").x)
    for _ in range(4):
        x = x - torch.linalg.solve(hessian(problem, x), torch.as_tensor(slope(x)[1]))
    assert problem.minima[1] == pytest.approx(problem(x).item(), rel=1e-12)
    assert np.abs(slope(x)[1]).max() < 1e-12
    assert torch.linalg.eigvalsh(hessian(problem, x)).min() > 0.1


@pytest.mark.parametrize("problem", [*NIST, *MGH], ids=named)
def test_second_derivatives_follow_the_gradient(problem):
    """Double backward, which the second-order methods use, against differences of the gradient."""
    x = problem.start(len(problem.starts) - 1).requires_grad_()
    (gradient,) = torch.autograd.grad(problem(x), x, create_graph=True)
    direction = torch.linspace(1, 2, problem.n, dtype=torch.float64) * x.detach().abs().clamp(1e-3)
    (product,) = torch.autograd.grad(gradient, x, direction)
    ends = []
    for sign in (1, -1):
        leaf = (x.detach() + sign * 1e-5 * direction).requires_grad_()
        ends.append(torch.autograd.grad(problem(leaf), leaf)[0])
    difference = (ends[0] - ends[1]) / 2e-5
    scale = product.abs().max() + 1e-3 * gradient.detach().abs().max()
    assert ((product - difference).abs() / scale).max() < 1e-4


def test_float32_stays_float32():
    for problem in [*NIST, *MGH]:
        assert problem.residuals(problem.start(dtype=torch.float32)).dtype == torch.float32


# ---- quadratics ---------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", QUADRATICS, ids=named)
def test_quadratics_are_symmetric_positive_definite_and_solved_by_ones(problem):
    assert torch.equal(problem.matrix, problem.matrix.T)
    assert torch.linalg.cholesky_ex(problem.matrix).info == 0
    ones = torch.ones(problem.n, dtype=torch.float64)
    assert problem.residual(ones) < 1e-15
    leaf = ones.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(problem(leaf), leaf)
    assert gradient.abs().max() <= 1e-14 * problem.right.abs().max()


def test_condition_numbers_in_closed_form():
    known = {p.name: p.condition for p in QUADRATICS}
    assert known["hilbert-5"] == pytest.approx(476607.25, rel=1e-6)
    assert known["laplacian-1d-50"] == pytest.approx(1 / math.tan(math.pi / 102) ** 2, rel=1e-9)
    assert known["laplacian-2d-100"] == pytest.approx(1 / math.tan(math.pi / 22) ** 2, rel=1e-9)
    assert known["geometric-100"] == pytest.approx(1e8, rel=1e-6)


# ---- bounds -------------------------------------------------------------------------------------


def value_and_slope(problem, x):
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    value = problem(leaf)
    value.backward()
    return value.item(), leaf.grad.numpy()


@pytest.mark.parametrize("problem", BOUNDED, ids=named)
def test_an_independent_method_ends_at_a_listed_bounded_minimum(problem):
    if problem.name in {"obstacle", "torsion"}:  # quadratics: an active-set method is exact
        x = torch.zeros(len(problem.start), dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(problem(x), x, create_graph=True)
        rows = [torch.autograd.grad(s, x, retain_graph=True)[0] for s in slope]
        lower = np.linalg.cholesky(torch.stack(rows).numpy())
        right = -np.linalg.solve(lower, slope.detach().numpy())
        end = lsq_linear(lower.T, right, (problem.lower, problem.upper), "bvls", tol=1e-16).x
    elif problem.name == "powell-in-a-box":  # to be solved along its active bound
        end = np.array([1.1111111112629459e-5, 9.0])
    else:
        start = problem.project(problem.point()).numpy()
        box = list(zip(problem.lower, problem.upper, strict=True))
        options = {"ftol": 0, "gtol": 1e-13, "maxls": 100}
        end = minimize(
            lambda x: value_and_slope(problem, x),
            start,
            jac=True,
            bounds=box,
            method="L-BFGS-B",
            options=options,
        ).x
    found = torch.from_numpy(end)
    assert torch.equal(found, problem.project(found))
    assert problem.solved(problem(found).item())
    assert problem.optimality(found) < 1e-6 * (1 + abs(problem.minima[0]))
