"""Fisher matrices: exact, drawn and empirical."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import Objective
from thalweg.curvature import EmpiricalFisher, Fisher, GradientCovariance
from unit.curvature.oracle import Case, close, gauss_newton, sample_gradients


DOUBLE = torch.float64


def made(loss, y):
    torch.manual_seed(8)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3)).to(DOUBLE)
    return Case(model, loss, torch.randn(4, 2, dtype=DOUBLE), y)


CLASSES = torch.tensor([0, 2, 1, 2])
BITS = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 1]]).to(DOUBLE)
KINDS = {
    "ce": (F.cross_entropy, CLASSES),
    "ce sum": (nn.CrossEntropyLoss(reduction="sum"), CLASSES),
    "ce ignored": (nn.CrossEntropyLoss(ignore_index=1), CLASSES),
    "ce smooth": (nn.CrossEntropyLoss(label_smoothing=0.3), CLASSES),
    "mse": (F.mse_loss, torch.zeros(4, 3, dtype=DOUBLE)),
    "mse sum": (nn.MSELoss(reduction="sum"), torch.zeros(4, 3, dtype=DOUBLE)),
    "bce": (F.binary_cross_entropy_with_logits, BITS),
    "bce sum": (nn.BCEWithLogitsLoss(reduction="sum"), BITS),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_exact_fisher_is_gauss_newton(name):
    case = made(*KINDS[name])
    close(Fisher(case.closure()).to_dense(), gauss_newton(case))


@pytest.mark.parametrize("name", KINDS)
def test_draws_are_unbiased(name):
    """Over many operators, each entry lies within four standard errors of the exact matrix."""
    case = made(*KINDS[name])
    closure = case.closure()
    exact = gauss_newton(case)
    direction = torch.randn(len(exact), dtype=DOUBLE, generator=torch.Generator().manual_seed(9))
    products = torch.stack([Fisher(closure, 3, seed) @ direction for seed in range(60)])
    error = products.std(0) / 60**0.5
    assert bool(((products.mean(0) - exact @ direction).abs() <= 4 * error + 1e-12).all())
    assert products.std(0).max() > 0.02 * products.mean(0).abs().max()  # they are draws


def test_draws_over_a_loader_are_unbiased_too():
    case = made(*KINDS["ce"])
    risk = case.objective().over([(case.x[:3], case.y[:3]), (case.x[3:], case.y[3:])])
    exact = gauss_newton(case)
    v = torch.ones(len(exact), dtype=DOUBLE)
    products = torch.stack([Fisher(risk, 2, seed) @ v for seed in range(60)])
    error = products.std(0) / 60**0.5
    assert bool(((products.mean(0) - exact @ v).abs() <= 4 * error + 1e-12).all())


def test_the_same_draws_serve_every_product_and_more_draws_come_nearer():
    case = made(*KINDS["ce"])
    F1 = Fisher(case.closure(), samples=2, seed=3)
    dense = F1.to_dense()
    close(F1.to_dense(), dense, 1e-14)
    close(dense, dense.T, 1e-13)
    assert torch.linalg.eigvalsh(dense).min() > -1e-14
    close(Fisher(case.closure(), samples=2, seed=3).to_dense(), dense, 1e-14)
    assert (Fisher(case.closure(), samples=2, seed=4).to_dense() - dense).abs().max() > 1e-6
    close(Fisher(case.closure(), samples=800).to_dense(), gauss_newton(case), 0.1)


def test_drawing_leaves_the_global_generator_alone():
    closure = made(*KINDS["mse"]).closure()
    before = torch.get_rng_state()
    Fisher(closure, samples=4).to_dense()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_fisher_of_probabilities_is_that_of_their_logits():
    """Parametrised by p or by its logit, one model has one Fisher matrix."""
    logits = made(F.binary_cross_entropy_with_logits, BITS)
    probable = Case(nn.Sequential(logits.model, nn.Sigmoid()), nn.BCELoss(), logits.x, BITS)
    exact = Fisher(logits.closure()).to_dense()
    close(Fisher(probable.closure()).to_dense(), exact)
    v = torch.ones(len(exact), dtype=DOUBLE)
    products = torch.stack([Fisher(probable.closure(), 3, seed) @ v for seed in range(60)])
    error = products.std(0) / 60**0.5
    assert bool(((products.mean(0) - exact @ v).abs() <= 4 * error + 1e-12).all())


WEIGHTED = {
    "class weights": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0], dtype=DOUBLE)),
    "positive weight": nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0, dtype=DOUBLE)),
    "weights": nn.BCEWithLogitsLoss(weight=torch.tensor([1.0, 2.0, 3.0], dtype=DOUBLE)),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_labels_are_not_drawn_for_what_is_no_likelihood(name):
    loss = WEIGHTED[name]
    case = made(loss, CLASSES if isinstance(loss, nn.CrossEntropyLoss) else BITS)
    close(Fisher(case.closure()).to_dense(), gauss_newton(case))
    with pytest.raises(ValueError, match="has weights"):
        Fisher(case.closure(), samples=2)


def test_unknown_losses_have_no_fisher():
    with pytest.raises(TypeError, match="no distribution"):
        Fisher(made(lambda z, _: z.exp().mean(), CLASSES).closure())
    with pytest.raises(ValueError, match="samples"):
        Fisher(made(*KINDS["ce"]).closure(), samples=0)


def test_the_empirical_fisher_vanishes_at_a_perfect_fit_and_fisher_does_not():
    case = made(*KINDS["mse"])
    fitted = Case(case.model, F.mse_loss, case.x, case.model(case.x).detach())
    assert EmpiricalFisher(fitted.closure()).to_dense().abs().max() < 1e-30
    assert Fisher(fitted.closure()).to_dense().abs().max() > 1e-3


def test_a_sum_is_not_divided():
    case = made(*KINDS["ce sum"])
    g = sample_gradients(case)
    close(EmpiricalFisher(case.closure()).to_dense(), g.T @ g)
    with pytest.raises(ValueError, match="sums over samples"):
        GradientCovariance(case.closure())


def test_weighted_samples_enter_as_terms_of_the_mean():
    """g_n is N s_n / W, so that the mean of the g_n is the gradient."""
    weight = torch.tensor([1.0, 2.0, 3.0], dtype=DOUBLE)
    case = made(nn.CrossEntropyLoss(weight=weight), CLASSES)
    plain = sample_gradients(Case(case.model, F.cross_entropy, case.x, case.y))
    w = weight[CLASSES]
    g = plain * (4 * w / w.sum())[:, None]
    close(GradientCovariance(case.closure()).gradient, g.mean(0))
    close(EmpiricalFisher(case.closure()).to_dense(), g.T @ g / 4)


def test_covariance_is_that_of_batches_drawn_with_replacement():
    """All pairs of samples, each a batch of two: the covariance is half of that of one sample."""
    case = made(*KINDS["ce"])
    g = sample_gradients(case)
    pairs = torch.stack([(a + b) / 2 for a in g for b in g])
    centred = pairs - pairs.mean(0)
    expected = centred.T @ centred / len(pairs)
    close(0.5 * GradientCovariance(case.closure()).to_dense(), expected)


def test_covariance_restricted_to_a_layer():
    case = made(*KINDS["ce"])
    whole = GradientCovariance(case.closure())
    part = GradientCovariance(case.closure(), params="2.*")
    close(part.to_dense(), whole.submatrix("2.*").to_dense())
    assert part.loss == whole.loss
    objective = Objective(case.model, F.cross_entropy)
    assert whole.loss == pytest.approx(float(objective.closure(case.x, case.y).value()), rel=1e-12)
