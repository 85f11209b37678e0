"""Sophia: the clipped Newton step, and two estimates of the diagonal without bias."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import thalweg as tw
from thalweg.optim import Sophia
from thalweg.optim.diagonal_curvature import squared_scores


def flat(tensors):
    return torch.cat([t.detach().flatten() for t in tensors])


def quadratic(scales, start, **options):
    scales = torch.tensor(scales, dtype=torch.float64)
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    closure = tw.Objective.of(lambda x: 0.5 * (scales * x**2).sum()).closure(x)
    return x, closure, Sophia([x], **{"betas": (0.0, 0.0), "gamma": 1.0, **options})


# ---- the step --------------------------------------------------------------------------------
def test_on_a_quadratic_it_takes_the_clipped_newton_step():
    scales, start = [100.0, 1.0, 0.01, -2.0, 0.0], [0.3, -5.0, 0.6, 0.2, 4.0]
    x, closure, optimizer = quadratic(scales, start, lr=0.5)
    optimizer.step(closure)
    # Newton's step is -x: kept below 1; where curvature is not positive, the gradient's sign.
    expected = [0.3 - 0.5 * 0.3, -5.0 + 0.5, 0.6 - 0.5 * 0.6, 0.2 + 0.5, 4.0]
    torch.testing.assert_close(x.detach(), torch.tensor(expected).double())


@pytest.mark.parametrize("gamma", [0.1, 10.0])
def test_gamma_scales_the_curvature(gamma):
    x, closure, optimizer = quadratic([2.0], [0.05], lr=0.1, gamma=gamma)
    optimizer.step(closure)
    assert x.item() == pytest.approx(0.05 - 0.1 * min(0.05 / gamma, 1.0))


def test_no_step_is_longer_than_the_rate():
    x, closure, optimizer = quadratic([1e6, 1e-6, -3.0], [1.0, 1.0, 1.0], lr=0.01, betas=(0.9, 0.9))
    for _ in range(20):
        before = x.detach().clone()
        optimizer.step(closure)
        assert float((x.detach() - before).abs().max()) <= 0.01 * (1 + 1e-12)


def test_maximising_turns_the_curvature_too():
    x, closure, optimizer = quadratic([-4.0, 4.0], [0.2, 0.2], lr=1.0, maximize=True)
    optimizer.step(closure)
    torch.testing.assert_close(x.detach(), torch.tensor([0.0, 1.2]).double())


def test_the_curvature_is_refreshed_each_interval_and_averaged():
    x, closure, optimizer = quadratic([2.0], [1.0], lr=1e-3, betas=(0.9, 0.5), interval=4)
    seen = []
    for _ in range(9):
        optimizer.step(closure)
        seen.append(optimizer.state[x]["hessian"].item())
    assert seen == pytest.approx([1.0] * 4 + [1.5] * 4 + [1.75])
    assert closure.ledger.product == 3


# ---- Gauss-Newton-Bartlett -------------------------------------------------------------------
def jacobian(model, x):
    """Rows: outputs, all samples after another; columns: parameters."""
    params, outputs = list(model.parameters()), model(x)
    return torch.stack(
        [flat(torch.autograd.grad(o, params, retain_graph=True)) for o in outputs.flatten()]
    ), outputs.detach()


def softmax_diagonal(model, x, kept):
    rows, outputs = jacobian(model, x)
    rows = rows.view(*outputs.shape, -1)
    p = outputs.softmax(1)
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    each = torch.einsum("nci,ncd,ndi->ni", rows, middle, rows)
    return each[kept].sum(0)


def classifier(classes=3):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, classes)).double()
    return model, 2 * torch.randn(6, 2).double(), torch.tensor([0, 1, 2, 0, 1, 2])


def assert_unbiased(closure, model, diagonal):
    params = list(model.parameters())
    draws = torch.stack([flat(squared_scores(closure, params, s)) for s in range(800)])
    standard_error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - diagonal).abs() / standard_error).max() < 4
    assert (diagonal / standard_error).median() > 7


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_unbiased_for_the_ggns_diagonal_under_cross_entropy(reduction):
    model, x, y = classifier()
    closure = tw.Objective(model, nn.CrossEntropyLoss(reduction=reduction)).closure(x, y)
    diagonal = softmax_diagonal(model, x, torch.arange(6))
    assert_unbiased(closure, model, diagonal / (6 if reduction == "mean" else 1))


def test_unbiased_where_a_class_is_ignored_and_labels_are_smoothed():
    model, x, y = classifier()
    loss = nn.CrossEntropyLoss(ignore_index=0, label_smoothing=0.2)
    closure = tw.Objective(model, loss).closure(x, y)
    assert_unbiased(closure, model, softmax_diagonal(model, x, y != 0) / 4)


def test_unbiased_over_ragged_batches():
    model, x, y = classifier()
    objective = tw.Objective(model, F.cross_entropy)
    closure = objective.over([(x[:4], y[:4]), (x[4:], y[4:])])
    assert_unbiased(closure, model, softmax_diagonal(model, x, torch.arange(6)) / 6)


def test_unbiased_under_squared_error():
    model, x, _ = classifier(2)
    y = torch.randn(6, 2).double()
    rows, _ = jacobian(model, x)
    closure = tw.Objective(model, F.mse_loss).closure(x, y)
    assert_unbiased(closure, model, 2 * rows.square().sum(0) / 12)


def test_unbiased_under_binary_cross_entropy():
    model, x, _ = classifier(1)
    y = (torch.arange(6) % 2).double().unsqueeze(1)
    rows, outputs = jacobian(model, x)
    p = outputs.sigmoid()
    closure = tw.Objective(model, F.binary_cross_entropy_with_logits).closure(x, y)
    assert_unbiased(closure, model, (p * (1 - p) * rows.square()).sum(0) / 6)


def test_labels_are_drawn_here_and_cost_one_gradient_each_interval():
    model, x, y = classifier()
    closure = tw.Objective(model, F.cross_entropy).closure(x, y)
    optimizer = Sophia(model.parameters(), estimator="gauss-newton-bartlett", interval=5, lr=0.01)
    first = float(closure.value())
    forwards = closure.ledger.forward
    for _ in range(50):
        optimizer.step(closure)
    ledger = closure.ledger
    assert (ledger.forward - forwards, ledger.backward, ledger.product) == (60, 60, 0)
    assert all(bool((s["hessian"] >= 0).all()) for s in optimizer.state.values())
    assert closure.value() < first


def test_what_labels_cannot_be_drawn_from_is_refused_in_words():
    model, x, y = classifier()
    optimizer = Sophia(model.parameters(), estimator="gauss-newton-bartlett")
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]).double())
    before = flat(model.parameters())
    for closure in (
        lambda: torch.tensor(1.0),
        tw.Objective(model, lambda z, _: z.square().sum()).closure(x, y),
        tw.Objective(model, weighted).closure(x, y),
    ):
        with pytest.raises(TypeError, match=r"labels are drawn from .* estimator='hutchinson'"):
            optimizer.step(closure)
    assert torch.equal(flat(model.parameters()), before)
    groups = [{"params": [p], "estimator": e} for p, e in zip(
        model.parameters(), ("hutchinson", "gauss-newton-bartlett"), strict=False
    )]  # fmt: skip
    with pytest.raises(ValueError, match="estimator must be the same in all groups"):
        Sophia(groups).step(tw.Objective(model, F.cross_entropy).closure(x, y))
