"""An operator is of one point and one function, and leaves no trace."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import Objective
from thalweg.curvature import (
    GGN,
    CurvatureWarning,
    EmpiricalFisher,
    Fisher,
    Hessian,
    How,
    Jacobian,
)
from unit.curvature.oracle import Case, close, hessian, untouched


DOUBLE = torch.float64
KINDS = {
    "Hessian": Hessian,
    "Hessian recomputed": lambda c: Hessian(c, how=How(memory=0)),
    "Hessian differences": lambda c: Hessian(c, how=How(scheme="finite-difference")),
    "GGN": lambda c: GGN(c, how=How(scheme="dual")),
    "GGN recomputed": lambda c: GGN(c, how=How(memory=0, scheme="dual")),
    "Fisher": lambda c: Fisher(c, samples=2, how=How(scheme="reverse")),
    "EmpiricalFisher": EmpiricalFisher,
}


def objective(*extra):
    torch.manual_seed(12)
    model = nn.Sequential(nn.Linear(3, 4), *extra, nn.Tanh(), nn.Linear(4, 2)).to(DOUBLE)
    return Objective(model, F.cross_entropy)


def batch(n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, dtype=DOUBLE, generator=generator)
    return x, torch.randint(0, 2, (n,), generator=generator)


def train(objective, steps=2):
    optimizer = torch.optim.SGD(objective.model.parameters(), lr=0.5)
    for seed in range(steps):
        optimizer.step(objective.closure(*batch(seed=seed + 5)))


@pytest.mark.parametrize("first", [True, False], ids=["after a product", "before any product"])
@pytest.mark.parametrize("name", KINDS)
def test_training_goes_on_and_the_operator_stays(name, first):
    made = objective(nn.BatchNorm1d(4))
    made.model.eval()
    expected = KINDS[name](made.closure(*batch())).to_dense()
    operator = KINDS[name](made.closure(*batch()))
    if first:
        operator @ torch.ones(operator.shape[1], dtype=DOUBLE)
    made.model.train()
    train(made)
    with torch.no_grad():
        made.model[1].running_var.mul_(4.0)
    close(operator.to_dense(), expected, 1e-12)
    assert (KINDS[name](made.closure(*batch())).to_dense() - expected).abs().max() > 1e-4


def test_train_and_eval_are_those_of_the_making():
    made = objective(nn.BatchNorm1d(4))
    in_train = Hessian(made.closure(*batch()))
    made.model.eval()
    in_eval = Hessian(made.closure(*batch()))
    made.model.train()
    model = made.model
    for operator, mode in ((in_train, True), (in_eval, False)):
        model.train(mode)
        value, _, params = Case(model, F.cross_entropy, *batch()).seen()
        expected = hessian(value, params)
        model.train(not mode)
        close(operator.to_dense(), expected)


@pytest.mark.parametrize("extra", [nn.BatchNorm1d(4), nn.Dropout(0.5), nn.LayerNorm(4)])
@pytest.mark.parametrize("name", KINDS)
def test_products_leave_no_trace(name, extra):
    made = objective(extra)
    train(made, 1)
    closure = made.closure(*batch())
    before = [p.grad.clone() for p in made.params]
    with untouched(made.model):
        operator = KINDS[name](closure)
        operator @ torch.ones(operator.shape[1], 9, dtype=DOUBLE)
        assert operator.loss > 0
        assert operator.gradient.any()
    assert all(torch.equal(p.grad, g) for p, g in zip(made.params, before, strict=True))
    assert all(p.grad_fn is None and p.is_leaf for p in made.params)


def test_an_error_in_the_model_leaves_no_trace_either():
    class Fails(nn.Module):
        def forward(self, x):
            raise RuntimeError("no such thing")

    made = objective(nn.BatchNorm1d(4), Fails())
    operator = Hessian(made.closure(*batch()))
    with untouched(made.model), pytest.raises(RuntimeError, match="no such thing"):
        operator @ torch.ones(operator.shape[1])


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("kind", [Hessian, GGN])
def test_one_mask_of_dropout_serves_all_products(kind, memory):
    made = objective(nn.Dropout(0.5))
    operator = kind(made.closure(*batch()), how=How(memory=memory))
    dense = operator.to_dense()
    close(operator.to_dense(), dense, 1e-13)
    close(dense, dense.T, 1e-12)
    assert operator.check.passed
    dropless = made.model.eval()
    assert (
        kind(Objective(dropless, F.cross_entropy).closure(*batch())).to_dense() - dense
    ).abs().max() > 1e-3


def test_the_mask_is_that_of_the_closure():
    made = objective(nn.Dropout(0.5))
    closure = made.closure(*batch())
    value = closure()
    operator = Hessian(closure)
    assert operator.loss == pytest.approx(float(value), rel=1e-13)
    gradient = torch.cat([p.grad.reshape(-1) for p in made.params])
    close(operator.gradient, gradient, 1e-13)


def test_the_mask_is_kept_when_the_operator_looked_first():
    made = objective(nn.Dropout(0.5))
    closure = made.closure(*batch())
    loss = Hessian(closure).loss
    assert float(closure()) == pytest.approx(loss, rel=1e-13)


def test_batches_have_masks_of_their_own():
    made = objective(nn.Dropout(0.5))
    risk = made.over([batch(), batch()])
    H = Hessian(risk)
    single = Hessian(made.closure(*batch()))
    assert abs(H.loss - single.loss) > 1e-9 or (H.gradient - single.gradient).abs().max() > 1e-9
    one, two = (c.value() for c in risk.still().batches)
    assert one != two


def test_buffers_that_move_in_training_start_from_the_same_place():
    """A power iteration moves its vectors with each call; one operator is one function."""
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))
    model = nn.Sequential(layer, nn.Tanh(), nn.Linear(3, 2)).to(DOUBLE)
    closure = Objective(model, F.cross_entropy).closure(*batch())
    H = Hessian(closure, how=How(memory=0, check=False))
    with untouched(model):
        first = H.to_dense()
        close(H.to_dense(), first, 1e-12)
    with pytest.warns(CurvatureWarning, match="no_grad"):  # the iteration is not differentiated
        Hessian(closure) @ torch.ones(len(first), dtype=DOUBLE)


def test_a_counter_in_the_model_does_not_change_the_operator():
    class Annealed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    made = objective(Annealed())
    risk = made.over([batch(4), batch(3, 1)])
    H = Hessian(risk, how=How(memory=0))
    dense = H.to_dense()
    close(H.to_dense(), dense, 1e-13)
    assert H.check.passed
    assert made.model[1].calls == 0


def test_borrowed_parameters_are_not_copied_and_give_the_same():
    made = objective(nn.LayerNorm(4))
    closure = made.closure(*batch())
    borrowed = Hessian(closure, how=How(borrow=True))
    close(borrowed.to_dense(), Hessian(closure).to_dense(), 1e-14)
    live, copied = list(made.params), Hessian(closure)
    assert [a.data_ptr() for a in borrowed.leaves] == [p.data_ptr() for p in live]
    assert not {a.data_ptr() for a in copied.leaves} & {p.data_ptr() for p in live}
    assert all(p.grad is None for p in live)
    train(made, 1)
    with pytest.raises(RuntimeError, match="inplace operation"):
        borrowed @ torch.ones(borrowed.shape[1], dtype=DOUBLE)


def test_products_work_where_gradients_are_off():
    made = objective()
    expected = Hessian(made.closure(*batch())).to_dense()
    with torch.no_grad():
        close(Hessian(made.closure(*batch())).to_dense(), expected)
        close(GGN(made.closure(*batch())).to_dense(), GGN(made.closure(*batch())).to_dense())
        assert Jacobian(made.closure(*batch())).to_dense().any()


def test_products_carry_no_graph():
    made = objective()
    v = torch.ones(26, dtype=DOUBLE, requires_grad=True)
    assert not (Hessian(made.closure(*batch())) @ v).requires_grad
    assert not Hessian(made.closure(*batch())).gradient.requires_grad


def test_fused_attention_is_off_inside_and_on_outside():
    model = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0, batch_first=True)
    whole = nn.Sequential(model, nn.Flatten(), nn.Linear(12, 2))
    closure = Objective(whole, F.cross_entropy).closure(torch.randn(2, 3, 4), torch.tensor([0, 1]))
    with untouched(whole):
        before = torch.backends.mha.get_fastpath_enabled()
        H = Hessian(closure)
        H @ torch.ones(H.shape[1])
        assert torch.backends.mha.get_fastpath_enabled() == before
