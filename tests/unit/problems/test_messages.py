"""One clear message for each wrong input."""

import itertools
import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.problems import BOOTH, MEAN_SQUARED_ERROR, Metric, Problem, Target


X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % 2
FLOATS = X[:, :1]


def net() -> nn.Module:
    return nn.Linear(3, 2)


def one() -> nn.Module:
    return nn.Linear(3, 1)


def problem(**changes) -> Problem:
    options: dict[str, Any] = {
        "name": "mine",
        "model": net,
        "loss": F.cross_entropy,
        "data": (X, Y),
    }
    return Problem(**options | changes)


ALLOWED_MODEL = "model must be a function that builds the model, such as lambda: Net()."
ALLOWED_LOSS = (
    "loss must be a function of outputs and targets, such as torch.nn.functional.cross_entropy."
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "Problem(name=''): name must be a non-empty string."),
        ({"model": 3}, "Problem(model=3): " + ALLOWED_MODEL),
        ({"model": nn.Linear(3, 2)}, ALLOWED_MODEL),
        ({"loss": "mse"}, "Problem(loss='mse'): " + ALLOWED_LOSS),
        ({"loss": None}, "Problem(loss=None): " + ALLOWED_LOSS),
        ({"loss": nn.CrossEntropyLoss}, ALLOWED_LOSS),
        ({"data": None}, "Problem 'mine': give either data or a function."),
        ({"function": BOOTH}, "Problem 'mine': give either data or a function."),
        ({"data": None, "function": BOOTH}, "loss must be None where there is a function."),
        ({"data": X}, "data must be a Data or a pair (inputs, targets)."),
        ({"data": (X[:0], Y[:0])}, "x is empty; it must hold at least one sample."),
        ({"data": (X, Y[:7])}, "x holds 40 and y holds 7."),
        ({"data": (X / 0, Y)}, "x must be finite; 120 of its 120 entries are NaN or infinite."),
        ({"batch_size": 0}, "Problem(batch_size=0): batch_size must be an integer >= 1 or None."),
        ({"batch_size": 2.0}, "batch_size must be an integer >= 1 or None."),
        ({"probe": 0}, "Problem(probe=0): probe must be an integer >= 1 or None."),
        ({"steps": 0}, "Problem(steps=0): steps must be an integer >= 1."),
        ({"scale": -1.0}, "Problem(scale=-1.0): scale must be a number in (0, inf)."),
        ({"metric": F.mse_loss}, "metric must be a Metric or None."),
        ({"target": 0.1}, "Problem(target=0.1): target must be a Target or None."),
        (
            {"data": (X, FLOATS), "target": Target("validation_metric", 0.9)},
            "target must be of a loss: there is no metric.",
        ),
        (
            {"loss": None, "data": None, "function": BOOTH, "target": Target("validation_loss", 1)},
            "target must be of train_loss for a function.",
        ),
    ],
)
def test_arguments(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        problem(**changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Metric("", F.mse_loss, False), "Metric(name=''): name must be"),
        (lambda: Metric("error", 3, False), "Metric(fn=3): fn must be a function of outputs"),  # type: ignore[arg-type]
        (lambda: Target("test_loss", 0.1), "Target(quantity='test_loss'): quantity must be one of"),
        (lambda: Target("train_loss", float("nan")), "Target(value=nan): value must be a finite"),
        (lambda: problem().reached(0.1), "Problem 'mine': there is no target."),
        (lambda: problem().evaluate(net(), "tset"), "split must be one of train, validation, test"),
        (lambda: problem().build(-1), "Problem(seed=-1): seed must be an integer >= 0."),
        (lambda: problem().batches(1.5), "Problem(seed=1.5): seed must be an integer >= 0."),  # type: ignore[arg-type]
        (lambda: BOOTH.problem().batches(-1), "Problem(seed=-1): seed must be"),
        (lambda: BOOTH.problem(tolerance=2.0), "TestFunction.problem(tolerance=2.0): tolerance"),
        (lambda: BOOTH.grid(1), "TestFunction.grid(resolution=1): resolution must be an integer"),
    ],
)
def test_other_arguments(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


SHARED = nn.Linear(3, 2)
COUNTER = itertools.count()


class Frozen(nn.Linear):
    """No parameter to train."""

    def __init__(self):
        super().__init__(3, 2)
        self.requires_grad_(False)


class TwoOutputs(nn.Module):
    """A tuple for an output."""

    def __init__(self):
        super().__init__()
        self.linear = net()

    def forward(self, x):
        return self.linear(x), x


def unseeded() -> nn.Module:
    model = nn.Linear(3, 2)
    nn.init.constant_(model.bias, float(next(COUNTER)))
    return model


def infinite_gradient(outputs, targets):
    return (outputs - outputs.detach()).abs().sqrt().mean()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": lambda: "net"}, "model() must return a torch.nn.Module; it returned a str."),
        ({"model": lambda: nn.LazyLinear(2)}, "the model has a lazy layer"),
        ({"model": nn.Identity}, "the model has no trainable parameter."),
        ({"model": Frozen}, "the model has no trainable parameter."),
        ({"model": lambda: SHARED}, "model() must build a new module at each call"),
        ({"model": unseeded}, "two models built from one seed differ"),
        (
            {"model": lambda: nn.Linear(4, 2)},
            "the model cannot read inputs of shape (26, 3) and torch.float32: mat1 and mat2",
        ),
        ({"data": (X.double(), Y)}, "the model cannot read inputs of shape (26, 3) and torch.floa"),
        ({"model": TwoOutputs}, "must return one tensor; it returned a tuple."),
        (
            {"data": (X, FLOATS.repeat(1, 5))},
            "the loss cannot compare outputs of shape (26, 2) with targets of shape (26, 5)",
        ),
        ({"data": (X, Y + 7)}, "the loss cannot compare outputs of shape (26, 2) with targets of"),
        (
            {"model": one, "loss": F.mse_loss, "data": (X, FLOATS[:, 0])},
            "the loss cannot compare outputs of shape (26, 1) with targets of shape (26,)",
        ),
        (
            {"loss": nn.CrossEntropyLoss(reduction="none")},
            "the loss must be a scalar, the mean over the batch; it has shape (26,).",
        ),
        ({"loss": lambda *_: 3.0}, "the loss must return a scalar tensor; it returned 3.0."),
        ({"loss": lambda o, _: (o.sum() * 0).log()}, "the loss is -inf at the initial weights"),
        ({"loss": lambda o, _: o.sum() * torch.nan}, "the loss is nan at the initial weights"),
        ({"loss": lambda o, _: o.detach().mean()}, "the loss does not depend on the model's para"),
        ({"loss": lambda o, _: o.argmax(1).float().mean()}, "the loss does not depend on the mod"),
        (
            {"loss": lambda *_: torch.ones((), requires_grad=True)},
            "the loss does not depend on the model's parameters.",
        ),
        ({"loss": infinite_gradient}, "the gradient of 'weight' is not finite at the initial wei"),
        ({"metric": MEAN_SQUARED_ERROR}, "the metric cannot compare outputs of shape (26, 2)"),
    ],
)
def test_check(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        problem(**changes).check()
    assert str(caught.value).startswith("Problem 'mine': ")


def test_check_passes_what_is_right_and_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    dropping = problem(model=lambda: nn.Sequential(nn.Dropout(), nn.Linear(3, 2)))
    assert dropping.check() is dropping
    assert problem(batch_size=None).check().batch_size is None
    assert problem(model=one, loss=F.mse_loss, data=(X, FLOATS)).check().metric is None
    assert torch.equal(torch.get_rng_state(), before)
