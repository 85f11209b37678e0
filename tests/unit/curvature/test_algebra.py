"""The laws of operators: linear, adjoint, symmetric; sums, products, restrictions; scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from scipy.sparse.linalg import cg, eigsh, lsmr
from torch import nn

from thalweg import Objective
from thalweg.curvature import (
    GGN,
    BlockHessian,
    Dense,
    EmpiricalFisher,
    Expression,
    Fisher,
    GaussNewton,
    GradientCovariance,
    Hessian,
    How,
    Jacobian,
)
from unit.curvature.oracle import close


DOUBLE = torch.float64


def closure():
    torch.manual_seed(11)
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Tanh(), nn.Linear(3, 2)).to(DOUBLE)
    x, y = torch.randn(6, 3, dtype=DOUBLE), torch.tensor([0, 1, 1, 0, 1, 0])
    return Objective(model, F.cross_entropy).closure(x, y)


BOUND = closure()
H, G, J = Hessian(BOUND), GGN(BOUND), Jacobian(BOUND)
OPERATORS = {
    "Hessian": H,
    "BlockHessian": BlockHessian(BOUND),
    "GGN": G,
    "Fisher": Fisher(BOUND),
    "Fisher drawn": Fisher(BOUND, samples=2),
    "EmpiricalFisher": EmpiricalFisher(BOUND),
    "GradientCovariance": GradientCovariance(BOUND),
    "Jacobian": J,
    "GaussNewton": GaussNewton(lambda x: x.sin() * x.sum(), torch.randn(5, dtype=DOUBLE)),
    "damped": G.damped(0.3),
    "submatrix": H.submatrix("0.*", "3.bias"),
    "product": G @ H,
    "sum": H + 2.0 * G - EmpiricalFisher(BOUND, how=How(scheme="reverse")),
    "Dense": Dense(torch.randn(4, 7, dtype=DOUBLE)),
    "adjoint": J.adjoint,
}
SEMIDEFINITE = [
    "GGN",
    "Fisher",
    "Fisher drawn",
    "EmpiricalFisher",
    "GradientCovariance",
    "GaussNewton",
]
names = st.sampled_from(sorted(OPERATORS))
seeds = st.integers(0, 2**31)


def drawn(n, seed, columns=None):
    generator = torch.Generator().manual_seed(seed)
    shape = (n,) if columns is None else (n, columns)
    return torch.randn(shape, dtype=DOUBLE, generator=generator)


@settings(max_examples=60)
@given(names, seeds)
def test_the_adjoint_law(name, seed):
    A = OPERATORS[name]
    u, v = drawn(A.shape[0], seed), drawn(A.shape[1], seed + 1)
    left, right = torch.dot(u, A @ v), torch.dot(A.adjoint @ u, v)
    assert abs(left - right) <= 1e-11 * (u.norm() * (A @ v).norm() + 1e-9)
    assert A.adjoint.shape == (A.shape[1], A.shape[0])
    close(A.adjoint.adjoint @ v, A @ v, 1e-13)
    if A.symmetric:
        close(A.adjoint @ v, A @ v, 1e-13)


@settings(max_examples=40)
@given(names, seeds, st.floats(-3, 3))
def test_linearity(name, seed, factor):
    A = OPERATORS[name]
    pair = drawn(A.shape[1], seed, 2)
    v, w = pair.T
    close(A @ (v + factor * w), A @ v + factor * (A @ w), 1e-11)
    close(A @ pair, torch.stack([A @ v, A @ w], 1), 1e-13)


@settings(max_examples=30)
@given(st.sampled_from(SEMIDEFINITE), seeds)
def test_semidefinite(name, seed):
    A = OPERATORS[name]
    v = drawn(A.shape[1], seed)
    assert torch.dot(v, A @ v) >= -1e-13 * v.square().sum()


@settings(max_examples=25)
@given(seeds, st.integers(1, 6), st.integers(1, 6), st.floats(-2, 2))
def test_algebra_is_that_of_matrices(seed, m, n, factor):
    a, b = drawn(m, seed, n), drawn(m, seed + 1, n)
    square = drawn(n, seed + 2, n)
    A, B, S = Dense(a), Dense(b), Dense(square)
    for found, expected in (
        (A + B, a + b),
        (A - B, a - b),
        (factor * A, factor * a),
        (A * factor, factor * a),
        (-A, -a),
        (A @ S, a @ square),
        (S.damped(factor), square + factor * torch.eye(n, dtype=DOUBLE)),
        (A.adjoint @ B, a.T @ b),
        ((A @ S).adjoint, (a @ square).T),
        ((A + B).adjoint, (a + b).T),
        (S.damped(factor).adjoint, square.T + factor * torch.eye(n, dtype=DOUBLE)),
    ):
        close(found.to_dense(), expected, 1e-13)
        close(found.adjoint.to_dense(), expected.T, 1e-13)


def test_symmetry_is_kept_where_it_holds_and_only_there():
    assert (H + G).symmetric
    assert (2 * H).symmetric
    assert H.damped(1.0).symmetric
    assert H.submatrix("0.*").symmetric
    assert not (H @ G).symmetric
    assert not (H + Dense(drawn(H.shape[0], 1, H.shape[0]))).symmetric
    assert Dense(torch.eye(2)).symmetric
    assert not Dense(torch.tensor([[0.0, 1.0], [2.0, 0.0]])).symmetric


def test_submatrices_are_of_the_named_parameters():
    dense = H.to_dense()
    part = H.submatrix("3.bias", "0.*")
    kept = [*range(12), *range(dense.shape[0] - 2, dense.shape[0])]
    close(part.to_dense(), dense[kept][:, kept])
    assert part.names == ["0.weight", "0.bias", "3.bias"]
    close(part.submatrix("3.*").to_dense(), dense[-2:, -2:])
    close(H.damped(0.5).submatrix("3.bias").to_dense(), dense[-2:, -2:] + 0.5 * torch.eye(2))


def test_scipy_finds_the_eigenvalues():
    top = eigsh(H.to_scipy(), k=3, which="LA", return_eigenvectors=False)
    expected = torch.linalg.eigvalsh(H.to_dense())[-3:]
    np.testing.assert_allclose(np.sort(top), expected.numpy(), rtol=1e-9)


def test_scipy_solves():
    A = OPERATORS["damped"]
    b = drawn(A.shape[0], 3)
    expected = torch.linalg.solve(A.to_dense(), b)
    x, failed = cg(A.to_scipy(), b.numpy(), rtol=1e-12)
    assert failed == 0
    close(torch.from_numpy(x), expected, 1e-8)


def test_scipy_least_squares_through_the_adjoint():
    b = drawn(J.shape[0], 4)
    x = torch.from_numpy(lsmr(J.to_scipy(), b.numpy(), atol=1e-14, btol=1e-14, maxiter=500)[0])
    close(x, torch.linalg.pinv(J.to_dense()) @ b, 1e-6)


def test_scipy_forms_keep_type_and_take_matrices():
    A = Dense(torch.randn(3, 5)).to_scipy()
    assert A.dtype == np.float32
    assert A.matmat(np.ones((5, 2), np.float32)).shape == (3, 2)
    assert A.rmatmat(np.ones((3, 2), np.float32)).shape == (5, 2)


def test_products_are_counted_by_columns():
    A = Dense(torch.eye(4))
    A @ torch.ones(4, 3)
    A @ torch.ones(4)
    assert A.products == 4


def test_the_matrix_of_many_columns_comes_in_chunks():
    matrix = torch.randn(70, 130)
    assert torch.equal(Dense(matrix).to_dense(), matrix)


REFUSED = {
    "sum of shapes": (lambda A: A + Dense(torch.eye(2)), ValueError, "shapes differ"),
    "product of shapes": (lambda A: A @ Dense(torch.eye(2)), ValueError, "do not multiply"),
    "times an operator": (lambda A: A * A, TypeError, "multiplied with @"),
    "damping": (lambda A: A.damped(float("inf")), ValueError, "finite"),
    "not square": (lambda _: Dense(torch.ones(2, 3)).damped(1.0), ValueError, "not square"),
    "no names": (lambda _: Dense(torch.eye(2)).submatrix("a"), ValueError, "no names"),
    "no such name": (lambda A: A.submatrix("zz*"), ValueError, "zz"),
    "rows": (lambda A: A @ torch.ones(3, 2), ValueError, "entries"),
    "no matrix": (lambda _: Dense(torch.ones(2)), ValueError, "matrix"),
    "no adjoint": (
        lambda _: Expression((2, 2), lambda v: v).adjoint @ torch.ones(2),
        TypeError,
        "adjoint was not given",
    ),
    "too large": (
        lambda _: Expression((10**6, 10**6), lambda v: v).to_dense(),
        ValueError,
        "4 GiB",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_in_words(name):
    make, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        make(OPERATORS["Hessian"])
