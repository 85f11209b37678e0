"""Hessians: closed forms, schemes, blocks, restrictions, refusals."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import Objective
from thalweg.curvature import GGN, BlockHessian, Hessian, How
from thalweg.errors import NonFiniteError
from thalweg.vectors import Vector
from unit.curvature.oracle import Case, close, difference, hessian


DOUBLE = torch.float64


def small(activation=nn.Tanh):
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 2)).to(DOUBLE)
    x, y = torch.randn(6, 3, dtype=DOUBLE), torch.tensor([0, 1, 1, 0, 1, 0])
    return Case(model, F.cross_entropy, x, y)


def test_linear_regression_in_closed_form():
    x, y = torch.randn(8, 3, dtype=DOUBLE), torch.randn(8, 2, dtype=DOUBLE)
    model = nn.Linear(3, 2, bias=False).to(DOUBLE)
    closure = Objective(model, lambda z, y: (z - y).square().sum(1).mean()).closure(x, y)
    expected = torch.kron(torch.eye(2, dtype=DOUBLE), 2 * x.T @ x / 8)
    close(Hessian(closure).to_dense(), expected, 1e-14)
    close(GGN(closure).to_dense(), expected, 1e-14)
    # torch's own mean is over entries, of which a sample has two.
    entries = Objective(model, F.mse_loss).closure(x, y)
    close(Hessian(entries).to_dense(), expected / 2, 1e-14)


def test_softmax_regression_in_closed_form():
    x, y = torch.randn(8, 3, dtype=DOUBLE), torch.randint(0, 4, (8,))
    model = nn.Linear(3, 4, bias=False).to(DOUBLE)
    p = model(x).softmax(1).detach()
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    expected = sum(torch.kron(m, torch.outer(a, a)) for m, a in zip(middle, x, strict=True)) / 8
    closure = Objective(model, F.cross_entropy).closure(x, y)
    close(Hessian(closure).to_dense(), expected, 1e-13)
    close(GGN(closure).to_dense(), expected, 1e-13)


def test_a_function_in_closed_form():
    start = torch.tensor([-1.2, 1.0], dtype=DOUBLE, requires_grad=True)

    def rosenbrock(x):
        return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

    H = Hessian(Objective.of(rosenbrock).closure(start))
    a, b = -1.2, 1.0
    expected = [[1200 * a * a - 400 * b + 2, -400 * a], [-400 * a, 200.0]]
    close(H.to_dense(), torch.tensor(expected, dtype=DOUBLE), 1e-14)
    assert H.loss == pytest.approx(24.2)
    assert H.gradient.tolist() == pytest.approx([-215.6, -88.0])
    with pytest.raises(TypeError, match="function"):
        GGN(Objective.of(rosenbrock).closure(start)).to_dense()


def test_the_scalar_saddle():
    """L = (1 - ab)^2 / 2 has eigenvalues -1 and 1 at the origin."""
    x = torch.zeros(2, dtype=DOUBLE, requires_grad=True)
    H = Hessian(Objective.of(lambda x: 0.5 * (1 - x[0] * x[1]) ** 2).closure(x))
    assert torch.linalg.eigvalsh(H.to_dense()).tolist() == pytest.approx([-1.0, 1.0])


@pytest.mark.parametrize("fn", [lambda x: x.sum(), lambda _: torch.zeros(()).double()])
def test_linear_and_constant_functions_have_zero_curvature(fn):
    x = torch.ones(3, dtype=DOUBLE, requires_grad=True)
    assert not Hessian(Objective.of(fn).closure(x)).to_dense().any()


def test_finite_differences_by_name_are_right_on_a_smooth_network():
    case = small()
    value, _, params = case.seen()
    expected = hessian(value, params)
    operator = Hessian(case.closure(), how=How(scheme="finite-difference"))
    close(operator.to_dense(), expected, 1e-7)
    v = torch.randn(len(expected), dtype=DOUBLE)
    close(operator @ v, difference(value, params, v / v.norm()) * v.norm(), 1e-6)
    assert not (operator @ torch.zeros(len(expected))).any()
    single = Case(small().model.float(), F.cross_entropy, case.x.float(), case.y)
    close(
        Hessian(single.closure(), how=How(scheme="finite-difference")).to_dense().double(),
        expected,
        1e-2,
    )


def test_finite_differences_over_a_loader_and_on_some_parameters():
    case = small()
    risk = case.objective().over(list(zip(case.x.split(4), case.y.split(4), strict=True)))
    found = Hessian(risk, "2.*", How(scheme="finite-difference")).to_dense()
    close(found, Hessian(case.closure(), "2.*").to_dense(), 1e-7)


@pytest.mark.parametrize("blocks", ["layer", "parameter"])
def test_blocks_are_those_of_the_dense_hessian(blocks):
    case = small()
    value, _, params = case.seen()
    dense = hessian(value, params)
    sizes = [12 + 4, 8 + 2] if blocks == "layer" else [12, 4, 8, 2]
    mask = torch.block_diag(*(torch.ones(s, s, dtype=DOUBLE) for s in sizes))
    operator = BlockHessian(case.closure(), blocks)
    close(operator.to_dense(), dense * mask)
    assert [len(block) for block in operator.blocks.values()] == (
        [2, 2] if blocks == "layer" else [1, 1, 1, 1]
    )
    risk = case.objective().over(list(zip(case.x.split(4), case.y.split(4), strict=True)))
    close(BlockHessian(risk, blocks).to_dense(), dense * mask)
    close(BlockHessian(case.closure(), blocks, params="0.*").to_dense(), (dense * mask)[:16, :16])


def test_some_parameters_by_name():
    case = small()
    value, _, params = case.seen()
    dense = hessian(value, params)
    H = Hessian(case.closure(), params=["2.bias", "0.weight"])
    kept = [*range(12), *range(24, 26)]
    close(H.to_dense(), dense[kept][:, kept])
    assert H.names == ["0.weight", "2.bias"]
    close(GGN(case.closure(), "2.*").to_dense(), GGN(case.closure()).submatrix("2.*").to_dense())
    close(H.gradient, Hessian(case.closure()).gradient[kept])


def test_vectors_columns_and_tensors_give_one_product():
    case = small()
    H = Hessian(case.closure())
    v = torch.randn(26, 3, dtype=DOUBLE)
    dense = H.to_dense()
    close(H @ v, dense @ v)
    close(H @ v[:, 0], dense @ v[:, 0])
    shaped = H.domain.like(v[:, 1].contiguous())
    product = H @ shaped
    assert isinstance(product, Vector)
    assert [t.shape for t in product] == [p.shape for p in case.model.parameters()]
    close(product.flatten().flat, dense @ v[:, 1])


def test_the_cost_is_counted():
    case = small()
    objective = case.objective()
    H = Hessian(objective.closure(case.x, case.y), how=How(check=False))
    H @ torch.ones(26, 5, dtype=DOUBLE)
    assert objective.ledger.product == H.products == 5
    assert objective.ledger.forward == objective.ledger.backward == 1


REFUSED = {
    "scheme": (lambda c: Hessian(c, how=How(scheme="forward")), "double-backward"),
    "name": (lambda c: Hessian(c, params="fc.*"), r"params.*0\.weight"),
    "near name": (lambda c: Hessian(c, params="0.weigth"), r"did you mean '0\.weight'"),
    "memory": (lambda _: How(memory=-1), "memory"),
    "blocks": (lambda c: BlockHessian(c, "row"), "'layer' or 'parameter'"),
    "length": (lambda c: Hessian(c) @ torch.ones(3), "26"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_named(name):
    make, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        make(small().closure())


def test_a_model_is_not_a_closure():
    with pytest.raises(TypeError, match=r"objective\.closure"):
        Hessian(nn.Linear(2, 2))


def test_a_loss_that_is_not_finite_has_no_curvature():
    case = small()
    closure = case.objective().closure(case.x * float("nan"), case.y)
    with pytest.raises(NonFiniteError, match="nan"):
        Hessian(closure) @ torch.ones(26)


@pytest.mark.parametrize("loss", [F.mse_loss, nn.HuberLoss(), F.smooth_l1_loss])
def test_linearising_what_crashes_torch_is_refused(loss):
    case = small()
    y = torch.randn(6, 2, dtype=DOUBLE)
    with pytest.raises(ValueError, match="torch crashes on"):
        Hessian(Case(case.model, loss, case.x, y).closure(), how=How(scheme="linearize")) @ (
            torch.ones(26)
        )


def test_linearising_dropout_is_refused_or_right():
    case = small()
    model = nn.Sequential(case.model[0], nn.Dropout(0.5), nn.Tanh(), case.model[2])
    closure = Case(model, F.cross_entropy, case.x, case.y).closure()
    expected = Hessian(closure).to_dense()
    with pytest.raises(ValueError, match="scheme='linearize'"):
        close(Hessian(closure, how=How(scheme="linearize")).to_dense(), expected)
