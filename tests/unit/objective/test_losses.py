"""Losses that know their curvature and how labels are drawn."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.objective import (
    BinaryCrossEntropy,
    CrossEntropy,
    SquaredError,
    UnknownLoss,
    output_loss,
    per_sample,
)


DOUBLE = torch.float64
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=DOUBLE)
GENERATOR = torch.Generator().manual_seed(8)


def rand(*shape):
    return torch.randn(shape, dtype=DOUBLE, generator=GENERATOR)


def hard(*shape):
    y = torch.randint(0, 4, shape, generator=GENERATOR)
    y.view(-1)[0] = 2
    return y


SOFT, BITS = rand(5, 4).softmax(1), (rand(5, 4) > 0).to(DOUBLE)
EVERY = {"weight": WEIGHT, "ignore_index": 2, "label_smoothing": 0.3}
CASES = {
    "mse": (F.mse_loss, rand(5, 4), rand(5, 4)),
    "mse sum": (nn.MSELoss(reduction="sum"), rand(5, 4), rand(5, 4)),
    "mse 0-dim": (F.mse_loss, rand(), rand()),
    "mse per sample": (per_sample(F.mse_loss), rand(5, 4), rand(5, 4)),
    "mse per image": (per_sample(nn.MSELoss()), rand(3, 1, 2, 2), rand(3, 1, 2, 2)),
    "bce per sample": (
        per_sample(nn.BCEWithLogitsLoss(weight=WEIGHT, pos_weight=WEIGHT + 1)),
        rand(5, 4),
        BITS,
    ),
    "ce": (F.cross_entropy, rand(5, 4), hard(5)),
    "ce one sample": (F.cross_entropy, rand(4), torch.tensor(1)),
    "ce sum": (nn.CrossEntropyLoss(reduction="sum", **EVERY), rand(5, 4), hard(5)),
    "ce weighted": (nn.CrossEntropyLoss(weight=WEIGHT), rand(5, 4), hard(5)),
    "ce ignored": (nn.CrossEntropyLoss(ignore_index=2), rand(5, 4), hard(5)),
    "ce smoothed": (partial(F.cross_entropy, label_smoothing=0.3), rand(5, 4), hard(5)),
    "ce everything": (partial(F.cross_entropy, **EVERY), rand(5, 4), hard(5)),
    "ce positions": (nn.CrossEntropyLoss(**EVERY), rand(3, 4, 2), hard(3, 2)),
    "ce images": (nn.CrossEntropyLoss(**EVERY), rand(2, 4, 2, 3), hard(2, 2, 3)),
    "ce shares": (nn.CrossEntropyLoss(), rand(5, 4), SOFT),
    "ce shares, all": (
        nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.3),
        rand(3, 4, 2),
        rand(3, 4, 2).softmax(1),
    ),
    "bce": (F.binary_cross_entropy_with_logits, rand(5, 4), BITS),
    "bce soft": (F.binary_cross_entropy_with_logits, rand(5, 4), SOFT),
    "bce weighted": (
        nn.BCEWithLogitsLoss(weight=WEIGHT, pos_weight=WEIGHT + 1),
        rand(5, 4),
        BITS,
    ),
    "bce sum": (nn.BCEWithLogitsLoss(reduction="sum"), rand(5, 4), BITS),
    "bce from probabilities": (F.binary_cross_entropy, rand(5, 4).sigmoid(), BITS),
    "bce from probabilities, weighted": (
        nn.BCELoss(weight=WEIGHT),
        rand(5, 4).sigmoid(),
        SOFT,
    ),
    "unknown": (lambda z, y: (z - y).pow(4).mean() + z.prod(), rand(5, 4), rand(5, 4)),
    "unknown, linear": (lambda z, y: (z * y).sum(), rand(5, 4), rand(5, 4)),
    "unknown, mse with weights": (
        partial(F.mse_loss, weight=torch.rand(5, 4).double()),
        rand(5, 4),
        rand(5, 4),
    ),
}


def hessian(loss, outputs, targets):
    """By double backward, a row at a time."""
    z = outputs.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(z, targets), z, create_graph=True)
    rows = [
        torch.autograd.grad(g, z, retain_graph=True, allow_unused=True)[0]
        if g.requires_grad
        else None
        for g in grad.reshape(-1)
    ]
    n = z.numel()
    return torch.stack([torch.zeros(n) if r is None else r.reshape(-1) for r in rows]).to(DOUBLE)


@pytest.mark.parametrize("name", CASES)
def test_the_output_hessian_is_that_of_double_backward(name):
    function, outputs, targets = CASES[name]
    loss = output_loss(function)
    assert ("unknown" in name) == isinstance(loss, UnknownLoss)
    columns = [
        loss.hessian_product(outputs, targets, e.view(outputs.shape)).reshape(-1)
        for e in torch.eye(outputs.numel(), dtype=DOUBLE)
    ]
    torch.testing.assert_close(
        torch.stack(columns, 1), hessian(loss, outputs, targets), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("name", CASES)
def test_products_work_without_autograd_and_carry_none(name):
    function, outputs, targets = CASES[name]
    loss = output_loss(function)
    with torch.no_grad():
        product = loss.hessian_product(outputs, targets, torch.ones_like(outputs))
    live = loss.hessian_product(outputs.clone().requires_grad_(), targets, torch.ones_like(outputs))
    assert not product.requires_grad
    torch.testing.assert_close(product, live.detach())


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_outputs_that_broadcast_against_targets():
    loss, z, y = output_loss(F.mse_loss), rand(3, 1), rand(4)
    product = loss.hessian_product(z, y, torch.ones_like(z))
    torch.testing.assert_close(product.reshape(-1), hessian(loss, z, y).sum(1))


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (F.mse_loss, SquaredError),
        (nn.MSELoss(), SquaredError),
        (F.cross_entropy, CrossEntropy),
        (partial(F.cross_entropy, ignore_index=0), CrossEntropy),
        (nn.CrossEntropyLoss(), CrossEntropy),
        (F.binary_cross_entropy_with_logits, BinaryCrossEntropy),
        (nn.BCEWithLogitsLoss(), BinaryCrossEntropy),
        (nn.BCELoss(), BinaryCrossEntropy),
        (F.l1_loss, UnknownLoss),
        (nn.HuberLoss(), UnknownLoss),
        (partial(F.cross_entropy, torch.zeros(2)), UnknownLoss),
        (lambda z, y: F.mse_loss(z, y), UnknownLoss),
    ],
)
def test_torchs_losses_are_recognised(function, kind):
    loss = output_loss(function)
    assert type(loss) is kind
    assert output_loss(loss) is loss


def test_a_subclass_of_torchs_loss_is_not_taken_for_it():
    class Shifted(nn.MSELoss):
        def forward(self, z, y):
            return super().forward(z, y) ** 2

    assert isinstance(output_loss(Shifted()), UnknownLoss)


@pytest.mark.parametrize(
    "function", [nn.MSELoss(reduction="none"), partial(F.cross_entropy, reduction="none")]
)
def test_a_loss_without_reduction_is_refused(function):
    with pytest.raises(ValueError, match=r"^Objective\(loss_fn.reduction='none'\): .* 'mean' or"):
        output_loss(function)


@pytest.mark.parametrize("function", [F.mse_loss, nn.BCEWithLogitsLoss()])
@pytest.mark.parametrize("shape", [(), (5,), (5, 4), (2, 1, 3, 3)])
def test_entries_of_a_sample_are_summed_and_samples_averaged(function, shape):
    outputs, targets = rand(*shape), rand(*shape).sigmoid()
    rows = (
        [(z, y) for z, y in zip(outputs, targets, strict=True)] if shape else [(outputs, targets)]
    )
    expected = sum(function(z, y) * z.numel() for z, y in rows) / len(rows)
    torch.testing.assert_close(per_sample(function)(outputs, targets), expected)
    assert per_sample(function).count(outputs, targets) == len(rows)


@pytest.mark.parametrize(
    "function", [F.cross_entropy, F.l1_loss, nn.MSELoss(reduction="sum"), per_sample(F.mse_loss)]
)
def test_other_losses_are_not_taken_per_sample(function):
    with pytest.raises(
        ValueError, match=r"^per_sample\(function=.*: function must be torch's mean"
    ):
        per_sample(function)


def test_what_is_unknown_of_an_unknown_loss():
    loss = output_loss(lambda *_: torch.tensor(0.0))
    with pytest.raises(TypeError, match=r"Labels cannot be drawn from the loss '<lambda>'"):
        loss.sample(torch.zeros(2), None)
    with pytest.raises(TypeError, match=r"pass Objective\(..., count=batch -> number\)"):
        loss.count({}, {})
    assert loss.count({}, torch.zeros(7, 2)) == 7
    assert loss.count(torch.zeros(3), None) == 3


@pytest.mark.parametrize("how", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
@pytest.mark.parametrize("name", [n for n in CASES if "unknown" not in n])
def test_copies(name, how):
    function, outputs, targets = CASES[name]
    loss = output_loss(function)
    twin = how(loss)
    assert twin(outputs, targets) == loss(outputs, targets)
    v = torch.ones_like(outputs)
    torch.testing.assert_close(
        twin.hessian_product(outputs, targets, v), loss.hessian_product(outputs, targets, v)
    )


# ---- labels drawn from the prediction ---------------------------------------------------------
DRAWS = 20_000


def moments(function, outputs, targets):
    """The mean over draws of grad grad^T, entry by entry, and its standard error."""
    loss = output_loss(function)
    generator = torch.Generator().manual_seed(4)
    summed = type(loss)(function_of(loss), "sum")
    repeated = outputs.expand(DRAWS, *outputs.shape[1:]).clone().requires_grad_()
    repeated_targets = targets.expand(DRAWS, *targets.shape[1:])
    drawn = loss.sample(repeated, repeated_targets, generator)
    (grads,) = torch.autograd.grad(summed(repeated, drawn), repeated)
    rows = grads.reshape(DRAWS, -1) / (
        1.0 if loss.reduction == "sum" else loss.count(outputs, targets)
    )
    products = rows[:, :, None] * rows[:, None, :]
    return products.mean(0), products.std(0) / DRAWS**0.5


def function_of(loss):
    return {
        SquaredError: nn.MSELoss(reduction="sum"),
        CrossEntropy: nn.CrossEntropyLoss(reduction="sum"),
        BinaryCrossEntropy: nn.BCEWithLogitsLoss(reduction="sum"),
    }[type(loss)]


SAMPLED = {
    # One sample; the factor, what it counts as, is what the mean of grad grad^T is multiplied by.
    "mse mean": (nn.MSELoss(), rand(1, 3), rand(1, 3), 3.0),
    "mse sum": (nn.MSELoss(reduction="sum"), rand(1, 3), rand(1, 3), 1.0),
    "ce mean": (nn.CrossEntropyLoss(), rand(1, 4), hard(1), 1.0),
    "ce sum": (nn.CrossEntropyLoss(reduction="sum"), rand(1, 4), hard(1), 1.0),
    "ce positions": (nn.CrossEntropyLoss(), rand(1, 4, 2), hard(1, 2) * 0, 2.0),
    "bce mean": (nn.BCEWithLogitsLoss(), rand(1, 1), torch.ones(1, 1, dtype=DOUBLE), 1.0),
    "bce entries": (nn.BCEWithLogitsLoss(), rand(1, 3), torch.ones(1, 3, dtype=DOUBLE), 3.0),
    "bce sum": (nn.BCEWithLogitsLoss(reduction="sum"), rand(1, 3), torch.ones(1, 3).double(), 1.0),
    "mse per sample": (per_sample(F.mse_loss), rand(1, 3), rand(1, 3), 1.0),
    "bce per sample": (per_sample(nn.BCEWithLogitsLoss()), rand(1, 3), rand(1, 3), 1.0),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_the_drawn_fisher_is_the_output_hessian(name):
    function, outputs, targets, factor = SAMPLED[name]
    mean, error = moments(function, outputs, targets)
    exact = hessian(output_loss(function), outputs, targets)
    if output_loss(function).reduction == "mean":
        assert factor == output_loss(function).count(outputs, targets)
    assert ((factor * mean - exact).abs() <= 4 * factor * error + 1e-12).all()
    assert (factor * error < 0.05 * exact.abs().max()).all()


def test_classes_are_drawn_as_often_as_they_are_likely():
    loss, outputs = output_loss(F.cross_entropy), rand(1, 4)
    drawn = loss.sample(
        outputs.expand(DRAWS, 4), torch.zeros(DRAWS).long(), torch.Generator().manual_seed(1)
    )
    p = outputs.softmax(1)[0]
    error = (p * (1 - p) / DRAWS).sqrt()
    assert ((drawn.bincount(minlength=4) / DRAWS - p).abs() < 4 * error).all()


def test_drawn_labels_fit_the_targets():
    generator = torch.Generator().manual_seed(1)
    targets = torch.tensor([[0, -100], [1, 2]])
    drawn = output_loss(F.cross_entropy).sample(rand(2, 4, 2), targets, generator)
    assert drawn.shape == targets.shape
    assert drawn[0, 1] == -100
    assert (drawn[targets >= 0] >= 0).all()
    assert output_loss(F.cross_entropy).sample(rand(4), torch.tensor(1), generator).shape == ()
    bits = output_loss(nn.BCELoss()).sample(torch.tensor([[0.0, 1.0]]), None, generator)
    assert bits.tolist() == [[0.0, 1.0]]
    assert output_loss(F.mse_loss).sample(rand(2, 3).requires_grad_(), None).requires_grad is False


@pytest.mark.parametrize("name", [n for n in CASES if "unknown" not in n])
def test_draws_are_the_generators_alone(name):
    function, outputs, targets = CASES[name]
    loss = output_loss(function)
    before = torch.get_rng_state()
    first, second = (
        loss.sample(outputs, targets, torch.Generator().manual_seed(s)) for s in (5, 5)
    )
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
