"""The risk over batches is the loss of the concatenated batch, exactly."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import Objective


CLASSES, INPUTS = 4, 3
SPLITS = {"ragged": [5, 5, 2], "one": [12], "single rows": [1] * 12}
DOUBLE = torch.float64
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=DOUBLE)


def classes(generator, n):
    y = torch.randint(0, CLASSES, (n,), generator=generator)
    y[[1, 7]] = 2
    return y


def positions(generator, n):
    return torch.randint(0, CLASSES, (n, 2), generator=generator)


def reals(generator, n):
    return torch.randn(n, CLASSES, dtype=DOUBLE, generator=generator)


def bits(generator, n):
    return torch.randint(0, 2, (n, CLASSES), generator=generator).to(DOUBLE)


def shares(generator, n):
    return torch.rand(n, CLASSES, dtype=DOUBLE, generator=generator).softmax(1)


CASES = {
    "mse": (F.mse_loss, reals),
    "mse module": (nn.MSELoss(), reals),
    "mse sum": (nn.MSELoss(reduction="sum"), reals),
    "ce": (F.cross_entropy, classes),
    "ce module": (nn.CrossEntropyLoss(), classes),
    "ce sum": (partial(F.cross_entropy, reduction="sum"), classes),
    "ce weighted": (nn.CrossEntropyLoss(weight=WEIGHT), classes),
    "ce ignored": (nn.CrossEntropyLoss(ignore_index=2), classes),
    "ce smoothed": (nn.CrossEntropyLoss(label_smoothing=0.2), classes),
    "ce everything": (
        nn.CrossEntropyLoss(weight=WEIGHT, ignore_index=2, label_smoothing=0.2),
        classes,
    ),
    "ce probabilities": (nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1), shares),
    "bce": (F.binary_cross_entropy_with_logits, bits),
    "bce weighted": (nn.BCEWithLogitsLoss(weight=WEIGHT, pos_weight=WEIGHT + 1), bits),
    "bce sum": (nn.BCEWithLogitsLoss(reduction="sum"), bits),
    "bce probabilities": (lambda z, y: F.binary_cross_entropy(z.sigmoid(), y), bits),
    "unknown": (lambda z, y: (z - y).pow(4).sum(1).mean(), reals),
}


def made(name):
    generator = torch.Generator().manual_seed(3)
    loss, targets = CASES[name]
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(INPUTS, 5), nn.Tanh(), nn.Linear(5, CLASSES)).to(DOUBLE)
    x = torch.randn(12, INPUTS, dtype=DOUBLE, generator=generator)
    return Objective(model, loss), x, targets(generator, 12)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("sizes", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("name", CASES)
def test_is_the_concatenated_batch(name, sizes):
    objective, x, y = made(name)
    whole = objective.closure(x, y)
    risk = objective.over(zip(x.split(sizes), y.split(sizes), strict=True))
    theta = whole.snapshot() + 0.1
    for at in (None, theta, theta.flatten().flat):
        close(risk.value(at), whole.value(at))
        (value, gradient), (expected, exact) = risk.value_and_grad(at), whole.value_and_grad(at)
        close(value, expected)
        close(list(gradient), list(exact))
    close(risk(), whole.value())
    accumulated = [p.grad.clone() for p in objective.params]
    whole()
    close(accumulated, [p.grad for p in objective.params])


def test_tokens_of_sequences_count_one_by_one():
    torch.manual_seed(0)
    x = torch.randint(0, 5, (6, 7))
    y = torch.randint(0, 5, (6, 7))
    y[0, 2:] = y[3, 4:] = -100
    y[5] = -100  # a batch in which nothing counts
    model = nn.Embedding(5, 5).to(DOUBLE)
    objective = Objective(
        model,
        F.cross_entropy,
        forward=lambda model, batch: (model(batch[0]).movedim(-1, 1), batch[1]),
    )
    whole = objective.closure(x, y)
    risk = objective.over([(x[:3], y[:3]), (x[3:5], y[3:5]), (x[5:], y[5:])])
    close(risk.value(), whole.value())
    close(list(risk.value_and_grad()[1]), list(whole.value_and_grad()[1]))
    close(risk(), whole.value())
    accumulated = model.weight.grad.clone()
    whole()
    close(accumulated, model.weight.grad)


def test_no_batch_counts():
    objective, x, _ = made("ce ignored")
    risk = objective.over([(x, torch.full((12,), 2))])
    for ask in (risk, risk.value, risk.value_and_grad):
        with pytest.raises(ValueError, match="no target in any batch counts"):
            ask()


def test_a_count_of_the_callers_own():
    objective, x, y = made("mse")
    weighted = Objective(objective.model, F.mse_loss, count=lambda batch: 2.0 * len(batch[0]) ** 2)
    first, second = objective.closure(x[:8], y[:8]), objective.closure(x[8:], y[8:])
    risk = weighted.over([(x[:8], y[:8]), (x[8:], y[8:])])
    close(risk.value(), (64 * first.value() + 16 * second.value()) / 80)


def test_a_model_that_computes_its_own_loss_is_weighted_by_rows():
    objective, x, y = made("mse")
    own = Objective(objective.model, None, forward=lambda m, b: F.mse_loss(m(b[0]), b[1]))
    risk = own.over([(x[:9], y[:9]), (x[9:], y[9:])])
    close(risk.value(), objective.closure(x, y).value())


def test_replaces_gradients_that_are_there():
    objective, x, y = made("mse")
    risk = objective.over([(x[:5], y[:5]), (x[5:], y[5:])])
    risk()
    once = [p.grad.clone() for p in objective.params]
    risk()
    close([p.grad for p in objective.params], once)


def test_buffers_move_once_a_batch_as_in_a_plain_loop():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(DOUBLE)
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(DOUBLE)
    other.load_state_dict(model.state_dict())
    batches = [(torch.randn(5, 3, dtype=DOUBLE), torch.randn(5, 4, dtype=DOUBLE)) for _ in range(3)]
    risk = Objective(model, F.mse_loss).over(batches)
    risk.value()
    risk()
    risk()
    for x, _ in batches:
        other(x)
    close(list(model.buffers()), list(other.buffers()))


def test_a_loader_is_read_once_and_may_be_a_generator():
    objective, x, y = made("mse")
    pulled = []

    def loader():
        for i in range(3):
            pulled.append(i)
            yield [x[4 * i : 4 * i + 4], y[4 * i : 4 * i + 4]]

    risk = objective.over(loader())
    close(risk.value(), risk.value())
    assert pulled == [0, 1, 2]
    dataset = torch.utils.data.TensorDataset(x, y)
    close(objective.over(torch.utils.data.DataLoader(dataset, 5)).value(), risk.value())
