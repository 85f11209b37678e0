"""Operators hold what they need, no more, and let it go."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import Objective
from thalweg.curvature import GGN, BlockHessian, EmpiricalFisher, Fisher, Hessian, How, Jacobian
from thalweg.curvature.graphs import graph_bytes
from unit.curvature.oracle import close


DOUBLE = torch.float64


def jacobian(closure, how=None):
    del how  # a Jacobian keeps its graphs
    return Jacobian(closure)


KINDS = {
    "Hessian": Hessian,
    "BlockHessian": BlockHessian,
    "GGN": GGN,
    "GGN reverse": lambda c, how=None: GGN(c, how=how or How(scheme="reverse")),
    "Fisher": Fisher,
    "EmpiricalFisher": EmpiricalFisher,
    "Jacobian": jacobian,
}


def risk(batches=2, width=4):
    torch.manual_seed(13)
    model = nn.Sequential(nn.Linear(3, width), nn.LayerNorm(width), nn.Tanh(), nn.Linear(width, 2))
    objective = Objective(model.to(DOUBLE), F.cross_entropy)
    x, y = torch.randn(4, 3, dtype=DOUBLE), torch.tensor([0, 1, 1, 0])
    return objective.over([(x + i, y) for i in range(batches)])


@pytest.fixture(scope="module", autouse=True)
def only_what_is_made_here():
    """Whatever was there before is neither searched nor counted."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def tensors():
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("name", ["Hessian", "GGN", "GGN reverse", "Jacobian"])
def test_no_growth_over_many_products(name, memory):
    operator = KINDS[name](risk(), how=None if memory is None else How(memory=0))
    v = torch.ones(operator.shape[1], dtype=DOUBLE)
    for _ in range(10):
        operator @ v
    before = tensors()
    for _ in range(30):
        operator @ v
    assert tensors() <= before + 3


def test_no_growth_over_a_thousand_products():
    """The graph itself neither: what it saves is counted node by node."""
    operator = Hessian(risk(1))
    v = torch.ones(operator.shape[1], dtype=DOUBLE)
    operator @ v
    (kept,) = operator._kept.values()
    before = tensors(), graph_bytes(kept.held)
    for _ in range(1000):
        operator @ v
    assert tensors() <= before[0] + 3
    assert graph_bytes(kept.held) == before[1]


@pytest.mark.parametrize("name", KINDS)
def test_an_operator_is_gone_when_it_is_dropped(name):
    """Without waiting for the collector of cycles."""
    bound = risk()
    KINDS[name](bound) @ torch.ones(34, dtype=DOUBLE)  # what is loaded once is loaded
    gc.collect()
    gc.disable()
    try:
        operator = KINDS[name](bound)
        operator @ torch.ones(operator.shape[1], dtype=DOUBLE)
        leaves = operator._leaves if name == "Jacobian" else operator.leaves
        watched = [weakref.ref(operator), *(weakref.ref(leaf) for leaf in leaves)]
        del operator, leaves
        assert [ref() for ref in watched] == [None] * len(watched)
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["Hessian", "BlockHessian", "GGN", "GGN reverse", "Fisher"])
def test_without_memory_everything_is_computed_again_and_equal(name):
    kept = KINDS[name](risk(3))
    again = KINDS[name](risk(3), how=How(memory=0, scheme="reverse" if "reverse" in name else None))
    close(again.to_dense(), kept.to_dense(), 1e-13)
    assert len(kept._kept) == 3
    assert not again._kept
    assert again.loss == pytest.approx(kept.loss, rel=1e-14)
    close(again.gradient, kept.gradient, 1e-13)


def test_batches_are_kept_while_the_budget_lasts():
    one = Hessian(risk(1))
    one @ torch.ones(one.shape[1], dtype=DOUBLE)
    (kept,) = one._kept.values()
    size = graph_bytes(kept.held)
    assert size > 500
    some = Hessian(risk(5), how=How(memory=int(2.5 * size)))
    close(some.to_dense(), Hessian(risk(5)).to_dense(), 1e-13)
    assert sorted(some._kept) == [0, 1]


def test_recomputing_costs_a_gradient_more_a_product():
    bound = risk(3)
    H = Hessian(bound, how=How(memory=0, check=False))
    before = bound.ledger.forward
    H @ torch.ones(H.shape[1], 4, dtype=DOUBLE)
    assert bound.ledger.forward - before == 3  # once for all columns
    H @ torch.ones(H.shape[1], dtype=DOUBLE)
    assert bound.ledger.forward - before == 6


def test_a_graph_is_measured_by_what_it_saves():
    x = torch.ones(1000, requires_grad=True)
    assert graph_bytes([x.exp()]) == 4000  # the result
    assert graph_bytes([x.clone()]) == 0
    assert graph_bytes([x.exp().sin()]) == 4000  # saved twice, stored once
    assert graph_bytes([x]) == 0
