"""The compact form against the dense matrix of the same updates, and against the two loops."""

from __future__ import annotations

import pytest
import torch

from thalweg.numerics.pairs import Pairs, curved


def random_pairs(n, count, seed=0, dtype=torch.float64):
    """Steps, and changes that a positive matrix makes of them."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(n, n, generator=generator, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(n, dtype=torch.float64)
    steps = torch.randn(count, n, generator=generator, dtype=torch.float64)
    return [(s.to(dtype), (matrix @ s).to(dtype)) for s in steps]


def dense(pairs, gamma, n):
    """BFGS's inverse Hessian, update by update."""
    eye = torch.eye(n, dtype=torch.float64)
    inverse = gamma * eye
    for s, y in pairs:
        rho = 1 / s.dot(y)
        left = eye - rho * torch.outer(s, y)
        inverse = left @ inverse @ left.T + rho * torch.outer(s, s)
    return inverse


def two_loops(pairs, gamma, g):
    """Nocedal's recursion."""
    q, weights = g.clone(), []
    for s, y in reversed(pairs):
        weights.append(s.dot(q) / s.dot(y))
        q = q - weights[-1] * y
    r = gamma * q
    for (s, y), weight in zip(pairs, reversed(weights), strict=True):
        r = r + (weight - y.dot(r) / s.dot(y)) * s
    return r


@pytest.mark.parametrize(("size", "count"), [(1, 1), (1, 4), (3, 2), (3, 3), (3, 7), (5, 12)])
def test_the_product_is_that_of_the_dense_matrix_of_the_last_pairs(size, count):
    n, gamma = 8, 0.3
    given = random_pairs(n, count)
    pairs = Pairs(size)
    for seen, (s, y) in enumerate(given, start=1):
        pairs.add(s, y)
        kept = given[max(0, seen - size) : seen]
        inverse = dense(kept, gamma, n)
        for g in torch.eye(n, dtype=torch.float64):
            torch.testing.assert_close(pairs.product(g, gamma), inverse @ g, rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(
                pairs.product(g, gamma), two_loops(kept, gamma, g), rtol=1e-9, atol=1e-10
            )


def test_the_secant_equation_holds_for_the_newest_pair():
    pairs = Pairs(4)
    for s, y in random_pairs(6, 9):
        pairs.add(s, y)
        torch.testing.assert_close(pairs.product(y, 0.7), s, rtol=1e-9, atol=1e-10)


def test_float32_follows_double():
    single, double = Pairs(4), Pairs(4)
    for s, y in random_pairs(2000, 6, dtype=torch.float64):
        single.add(s.float(), y.float())
        double.add(s.float().double(), y.float().double())
    g = torch.randn(2000, generator=torch.Generator().manual_seed(1))
    exact = double.product(g.double(), 1e-3)
    assert (single.product(g, 1e-3).double() - exact).norm() < 1e-5 * exact.norm()


def test_no_pairs_is_a_multiple_of_the_vector():
    assert Pairs(3).product(torch.ones(2), 0.5).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e100])
def test_curvature_is_relative_to_its_own_terms(scale):
    s = torch.tensor([1.0, 1.0], dtype=torch.float64)
    bend = torch.tensor([1.0, -1.0 + 1e-10], dtype=torch.float64) * scale
    assert curved(s, bend, 0.0, 1e-16) > 0.0
    assert curved(s, bend, 0.0, 1e-9) == 0.0
    assert curved(s, bend, 1e8 * scale, 1e-16) == 0.0
    assert curved(s, -s * scale, 0.0, 1e-16) == 0.0
