"""What methods with matrices share: batches by shape, running sums, lots."""

from __future__ import annotations

import pytest
import torch

from thalweg.numerics.matrix_roots import eigen, refined_basis
from thalweg.optim.structured import Lot, Member, add_gram_, batched, products


def drawn(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


SQUARES = (3, 3), (2, 2), (3, 3), (4, 4), (2, 2)


@pytest.mark.parametrize("function", [torch.matmul, refined_basis])
def test_what_is_stacked_is_what_is_taken_one_by_one(function):
    left = [m @ m.T for m in drawn(*SQUARES)]
    right = [torch.linalg.qr(m)[0] for m in drawn(*SQUARES)]
    one, many = (batched(function, left, right, stacked=flag) for flag in (False, True))
    assert [tuple(m.shape) for m in (o if function is torch.matmul else o[0] for o in one)] == [
        *SQUARES
    ]
    torch.testing.assert_close(one, many)


def test_results_of_many_parts_come_back_in_order():
    mats = [m @ m.T for m in drawn(*SQUARES)]
    for m, (values, vectors, good) in zip(mats, batched(eigen, mats, stacked=True), strict=True):
        torch.testing.assert_close(vectors @ torch.diag(values) @ vectors.T, m)
        assert bool(good)


def test_products_are_pair_by_pair():
    left, right = drawn((2, 3), (4, 1)), drawn((3, 5), (1, 2))
    expected = [a @ b for a, b in zip(left, right, strict=True)]
    torch.testing.assert_close(products(left, right), expected)
    assert products([], []) == []


@pytest.mark.parametrize("shape", [(5, 3), (300, 7), (257, 300), (2, 5, 3), (1, 300, 4)])
def test_running_sums_of_squares(shape):
    (m,) = drawn(shape)
    total = torch.eye(shape[-2], dtype=torch.float64).expand(*shape[:-2], -1, -1).clone()
    expected = 0.5 * total + 2.0 * m @ m.mT
    add_gram_(total, m, 0.5, 2.0)
    torch.testing.assert_close(total, expected)


def test_state_of_another_type_is_brought_to_the_gradients():
    store = {"mean": torch.ones(2, 2, dtype=torch.bfloat16)}
    lot = Lot([Member(torch.zeros(2, 2), torch.ones(2, 2), store, 1.0)])
    assert lot.slot("mean")[0].dtype is torch.float32
    assert store["mean"].dtype is torch.float32
