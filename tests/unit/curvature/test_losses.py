"""Every kind of loss: on one batch, and summed over a ragged loader."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.curvature import GGN, EmpiricalFisher, Fisher, GradientCovariance, Hessian, How
from unit.curvature.oracle import (
    Case,
    close,
    difference,
    gauss_newton,
    gradient,
    hessian,
    sample_gradients,
)


DOUBLE = torch.float64
N, INPUTS, CLASSES = 7, 3, 4
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=DOUBLE)


def classes(generator):
    y = torch.randint(0, CLASSES, (N,), generator=generator)
    y[[1, 4]] = 2
    return y


def reals(generator):
    return torch.randn(N, CLASSES, dtype=DOUBLE, generator=generator)


def bits(generator):
    return torch.randint(0, 2, (N, CLASSES), generator=generator).to(DOUBLE)


def shares(generator):
    return torch.rand(N, CLASSES, dtype=DOUBLE, generator=generator).softmax(1)


def signs(generator):
    return torch.randint(0, 2, (N, CLASSES), generator=generator).to(DOUBLE) * 2 - 1


def one_bit(generator):
    return torch.randint(0, 2, (N,), generator=generator).to(DOUBLE)


# name: loss, targets, whether it is exactly additive over a loader
LOSSES = {
    "mse": (F.mse_loss, reals),
    "mse sum": (nn.MSELoss(reduction="sum"), reals),
    "mse by hand": (lambda z, y: ((z - y) ** 2).mean(), reals),
    "l1": (F.l1_loss, reals),
    "huber": (nn.HuberLoss(delta=0.5), reals),
    "smooth l1": (F.smooth_l1_loss, reals),
    "ce": (F.cross_entropy, classes),
    "ce sum": (nn.CrossEntropyLoss(reduction="sum"), classes),
    "ce soft": (F.cross_entropy, shares),
    "ce soft weighted": (nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1), shares),
    "ce smooth": (nn.CrossEntropyLoss(label_smoothing=0.2), classes),
    "ce weighted": (nn.CrossEntropyLoss(weight=WEIGHT), classes),
    "ce ignored": (nn.CrossEntropyLoss(ignore_index=2), classes),
    "ce everything": (
        partial(F.cross_entropy, weight=WEIGHT, ignore_index=2, label_smoothing=0.2),
        classes,
    ),
    "nll": (lambda z, y: F.nll_loss(z.log_softmax(1), y), classes),
    "kl batchmean": (
        lambda z, y: F.kl_div(z.log_softmax(1), y, reduction="batchmean"),
        shares,
    ),
    "bce": (F.binary_cross_entropy_with_logits, bits),
    "bce weighted": (nn.BCEWithLogitsLoss(weight=WEIGHT, pos_weight=WEIGHT + 1), bits),
    "bce sum": (nn.BCEWithLogitsLoss(reduction="sum"), bits),
    "bce probabilities": (lambda z, y: F.binary_cross_entropy(z.sigmoid(), y), bits),
    "poisson": (nn.PoissonNLLLoss(), bits),
    "gaussian": (lambda z, y: F.gaussian_nll_loss(z, y, z.exp() + 0.1), reals),
    "soft margin": (F.soft_margin_loss, signs),
    "multi-label soft margin": (F.multilabel_soft_margin_loss, bits),
    "hinge embedding": (F.hinge_embedding_loss, signs),
    "cosine": (lambda z, y: (1 - F.cosine_similarity(z, y)).mean(), reals),
    "triplet": (lambda z, y: F.triplet_margin_loss(z, y, -y), reals),
    "fourth power": (lambda z, y: (z - y).pow(4).mean(), reals),
    "log-cosh": (lambda z, y: (z - y).cosh().log().mean(), reals),
    "one logit": (
        lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y),
        one_bit,
    ),
}
LINEAR = {"l1", "hinge embedding"}  # in the outputs, piece by piece
NOT_CONVEX = {"gaussian", "cosine", "triplet"}


def made(name, dtype=DOUBLE):
    loss, targets = LOSSES[name]
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(INPUTS, 4), nn.Tanh(), nn.Linear(4, CLASSES)).to(dtype)
    x = torch.randn(N, INPUTS, dtype=DOUBLE).to(dtype)
    y = targets(torch.Generator().manual_seed(6))
    return Case(model, loss, x, y.to(dtype) if y.is_floating_point() else y)


def loader(case, sizes=(3, 3, 1)):
    return list(zip(case.x.split(sizes), case.y.split(sizes), strict=True))


@pytest.mark.parametrize("name", LOSSES)
def test_hessian_and_gauss_newton(name):
    case = made(name)
    value, _, params = case.seen()
    H, G = Hessian(case.closure()), GGN(case.closure(), how=How(scheme="dual"))
    close(H.to_dense(), hessian(value, params))
    close(H.gradient, gradient(value, params))
    close(torch.tensor(H.loss, dtype=DOUBLE), value().detach(), 1e-14)
    expected = gauss_newton(case)
    if name in LINEAR:
        assert not G.to_dense().any()
        assert not expected.any()
    else:
        close(G.to_dense(), expected)
        assert expected.abs().max() > 1e-4
    close(G.gradient, H.gradient)
    v = torch.randn(len(H.gradient), dtype=DOUBLE)
    v = v / v.norm()
    close(H @ v, difference(value, params, v), 1e-6)
    if name not in NOT_CONVEX:
        assert torch.linalg.eigvalsh(G.to_dense()).min() > -1e-12


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", [Hessian, GGN])
def test_a_sum_over_a_loader_is_the_operator_of_the_whole(kind, name):
    case = made(name)
    summed, whole = kind(case.objective().over(loader(case))), kind(case.closure())
    v = torch.randn(whole.shape[0], 3, dtype=DOUBLE)
    if name not in LINEAR or kind is Hessian:
        close(summed @ v, whole @ v)
    close(summed.gradient, whole.gradient)
    assert summed.loss == pytest.approx(whole.loss, rel=1e-12)


TALLIED = ["mse", "mse sum", "ce", "ce sum", "ce ignored", "ce weighted", "bce"]


@pytest.mark.parametrize("name", TALLIED)
@pytest.mark.parametrize("kind", [EmpiricalFisher, Fisher])
def test_fishers_over_a_loader(kind, name):
    case = made(name)
    summed, whole = kind(case.objective().over(loader(case))), kind(case.closure())
    v = torch.randn(whole.shape[0], 2, dtype=DOUBLE)
    close(summed @ v, whole @ v)


@pytest.mark.parametrize("name", ["mse", "ce", "ce ignored", "ce weighted", "bce", "kl batchmean"])
@pytest.mark.parametrize("centred", [True, False])
def test_covariance_over_a_loader(name, centred):
    case = made(name)
    dual = How(scheme="dual")
    summed = GradientCovariance(case.objective().over(loader(case)), centred, how=dual)
    whole = GradientCovariance(case.closure(), centred, how=dual)
    close(summed.to_dense(), whole.to_dense())


@pytest.mark.parametrize("name", ["mse", "ce everything", "bce weighted", "huber", "kl batchmean"])
@pytest.mark.parametrize("kind", [Hessian, GGN, EmpiricalFisher])
def test_single_precision_keeps_six_digits_over_a_loader(kind, name):
    case = made(name, torch.float32)
    if isinstance(case.loss, partial):
        case = Case(case.model, nn.CrossEntropyLoss(WEIGHT.float(), None, 2), case.x, case.y)
    elif name == "bce weighted":
        case = Case(case.model, case.loss.float(), case.x, case.y)
    summed, whole = kind(case.objective().over(loader(case))), kind(case.closure())
    v = torch.randn(whole.shape[0])
    close(summed @ v, whole @ v, 1e-6)


def test_a_batch_in_which_nothing_counts_has_no_part():
    case = made("ce ignored")
    empty = (case.x[:2], torch.tensor([2, 2]))
    with_empty = [*loader(case), empty, *loader(case)]
    close(Hessian(case.objective().over(with_empty)).to_dense(), Hessian(case.closure()).to_dense())
    operator = Hessian(case.objective().over([empty]))
    with pytest.raises(ValueError, match="no target in any batch counts"):
        operator @ torch.ones(operator.shape[1])


def test_tokens_are_weighted_not_sequences():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Embedding(9, 3), nn.Tanh(), nn.Linear(3, 5)).to(DOUBLE)
    words, y = torch.randint(0, 9, (4, 6)), torch.randint(0, 5, (4, 6))
    y[0, 1:] = -100  # one sequence counts one token, the others six

    def loss(z, y):
        return F.cross_entropy(z.flatten(0, 1), y.flatten())

    tokens = Case(nn.Sequential(model, Swap()), nn.CrossEntropyLoss(), words, y)
    value, _, params = Case(model, loss, words, y).seen()
    batches = [(words[:1], y[:1]), (words[1:], y[1:])]
    for kind, expected in (
        (Hessian, hessian(value, params)),
        (GGN, gauss_newton(Case(model, loss, words, y))),
    ):
        close(kind(tokens.closure()).to_dense(), expected)
        close(kind(tokens.objective().over(batches)).to_dense(), expected)


class Swap(nn.Module):
    """Classes where torch's loss wants them."""

    def forward(self, z):
        return z.movedim(-1, 1)


@pytest.mark.parametrize("name", ["ce", "ce soft", "mse", "bce", "poisson", "kl batchmean"])
def test_empirical_fisher_is_the_second_moment_of_sample_gradients(name):
    case = made(name)
    g = sample_gradients(case)
    close(EmpiricalFisher(case.closure()).to_dense(), g.T @ g / N)
    centred = g - g.mean(0)
    close(GradientCovariance(case.closure()).to_dense(), centred.T @ centred / N)
    close(GradientCovariance(case.closure(), centred=False).to_dense(), g.T @ g / N)


def test_multi_margin_has_no_second_derivative_and_says_so():
    case = made("ce")
    case = Case(case.model, nn.MultiMarginLoss(), case.x, case.y)
    with pytest.raises(RuntimeError, match="no second derivative in torch"):
        Hessian(case.closure()).to_dense()


def test_losses_of_weights_are_part_of_the_hessian():
    """Weight decay inside the loss, through ``forward`` and no ``loss_fn``."""
    case = made("ce")

    def forward(model, batch):
        x, y = batch
        return F.cross_entropy(model(x), y) + 0.5 * sum(
            p.square().sum() for p in model.parameters()
        )

    from thalweg import Objective

    objective = Objective(case.model, None, forward=forward)
    value, _, params = case.seen()
    expected = hessian(value, params) + torch.eye(sum(p.numel() for p in params), dtype=DOUBLE)
    close(Hessian(objective.closure(case.x, case.y)).to_dense(), expected)
    close(Hessian(objective.over(loader(case))).to_dense(), expected)
    with pytest.raises(TypeError, match="computes its own loss"):
        GGN(objective.closure(case.x, case.y)).to_dense()
