"""What a step does to predictions: the matrix for small steps, the divergence for any."""

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

from thalweg import Objective
from thalweg.curvature import GGN
from thalweg.optim.output_metric import divergence, gauss_newton


LOSSES = {
    "categories": (nn.CrossEntropyLoss, lambda z: Categorical(logits=z), 1.0),
    "coins": (nn.BCEWithLogitsLoss, lambda z: Bernoulli(logits=z), 1.0),
    # Half the squared error is -log of a normal density of unit variance.
    "numbers": (nn.MSELoss, lambda z: Normal(z, 1.0), 2.0),
}


def made(kind, reduction="mean", rows=12):
    torch.manual_seed(0)
    loss, law, scale = LOSSES[kind]
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x = torch.randn(rows, 3, dtype=torch.float64)
    y = torch.randint(0, 3, (rows,)) if kind == "categories" else torch.rand_like(x)
    return model, Objective(model, loss(reduction=reduction)), x, y, law, scale


def moved(model, closure, size=0.7):
    """The matrix along a step, and the divergence once it is taken."""
    step = {id(p): size * torch.randn_like(p) for p in closure.params}
    seen = []
    with torch.no_grad():
        length = float(gauss_newton(closure, [step], seen=seen))
        for p in closure.params:
            p.add_(step[id(p)])
        return step, length, divergence(closure, seen)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", LOSSES)
def test_the_divergence_is_kullback_and_leiblers(kind, reduction):
    model, objective, x, y, law, scale = made(kind, reduction)
    old, closure = copy.deepcopy(model), objective.closure(x, y)
    _, _, (loss, apart) = moved(model, closure)
    with torch.no_grad():
        each = kl_divergence(law(old(x)), law(model(x)))
    expected = float(each.mean() if reduction == "mean" else each.sum())
    assert apart == pytest.approx(scale * expected, rel=1e-9)
    assert loss == pytest.approx(float(closure.value()))


@pytest.mark.parametrize("kind", LOSSES)
def test_the_matrix_is_its_second_order(kind):
    model, objective, x, y, _, _ = made(kind)
    closure = objective.closure(x, y)
    dense = GGN(closure).to_dense()
    step, length, (_, apart) = moved(model, closure, 1e-4)
    flat = torch.cat([step[id(p)].reshape(-1) for p in closure.params])
    assert length == pytest.approx(float(flat @ dense @ flat), rel=1e-9)
    assert apart == pytest.approx(0.5 * length, rel=1e-2)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_batches_weigh_what_they_hold(reduction):
    found = []
    for parts in (1, 2):
        model, objective, x, y, _, _ = made("categories", reduction)
        cut = [(x, y)] if parts == 1 else [(x[:9], y[:9]), (x[9:], y[9:])]
        torch.manual_seed(1)
        found.append(moved(model, objective.over(cut))[1:])
    assert found[0][0] == pytest.approx(found[1][0])
    assert found[0][1] == pytest.approx(found[1][1])
