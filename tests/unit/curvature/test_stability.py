"""The stable limit of each optimizer, checked by running it just below and just above."""

from __future__ import annotations

import pytest
import torch

from thalweg import optim
from thalweg.curvature.dense import Dense
from thalweg.curvature.preconditioned import step_curvature
from thalweg.curvature.stability import step_rule


CURVATURES = torch.tensor([0.3, 2.0, 7.0], dtype=torch.float64)
BETA2 = 1 - 1e-12


def frozen(optimizer, p, slot, value, step=10**6, average="exp_avg"):
    """Give an adaptive method a scale that does not move any more."""
    p.grad = torch.zeros_like(p)
    optimizer.step()
    state = optimizer.state[p]
    state[slot] = torch.tensor(value, dtype=p.dtype)
    if "step" in state:
        state["step"] = torch.tensor(float(step))
    if average in state:
        state[average].zero_()
    return optimizer


SCALE = [4e2, 9.0, 1e2]  # of squared gradients; their roots divide


def adam(cls, **options):
    def make(p, lr):
        made = cls([p], lr=lr, betas=(0.9, BETA2), eps=1e-15, weight_decay=0.0, **options)
        # The second moment is divided by 1 - beta2^step, which is about 1e-6 here.
        correction = 1 - BETA2 ** (10**6)
        return frozen(made, p, "exp_avg_sq", [v * correction for v in SCALE])

    return make


def rmsprop(cls, **options):
    def make(p, lr):
        return frozen(cls([p], lr=lr, alpha=1.0, eps=1e-15, **options), p, "square_avg", SCALE)

    return make


def adagrad(cls):
    def make(p, lr):
        made = cls([p], lr=lr, eps=1e-15)
        return frozen(made, p, "sum", [1e16 * v for v in SCALE])

    return make


METHODS = {
    "sgd": lambda p, lr: torch.optim.SGD([p], lr=lr),
    "sgd, ours": lambda p, lr: optim.SGD([p], lr=lr),
    "heavy ball": lambda p, lr: torch.optim.SGD([p], lr=lr, momentum=0.9),
    "heavy ball, ours": lambda p, lr: optim.SGD([p], lr=lr, momentum=0.5),
    "dampened": lambda p, lr: torch.optim.SGD([p], lr=lr, momentum=0.8, dampening=0.4),
    "torch's nesterov": lambda p, lr: torch.optim.SGD([p], lr=lr, momentum=0.9, nesterov=True),
    "nesterov": lambda p, lr: optim.Nesterov([p], lr=lr, momentum=0.7),
    "decay": lambda p, lr: torch.optim.SGD([p], lr=lr, momentum=0.9, weight_decay=1.5),
    "decoupled decay": lambda p, lr: optim.SGD(
        [p], lr=lr, weight_decay=1.5, decoupled_weight_decay=True
    ),
    "adam": adam(torch.optim.Adam),
    "adam, ours": adam(optim.Adam),
    "adamw": adam(torch.optim.AdamW),
    "adamw, ours": adam(optim.AdamW),
    "rmsprop": rmsprop(torch.optim.RMSprop),
    "rmsprop, ours, momentum": rmsprop(optim.RMSprop, momentum=0.6),
    "adagrad": adagrad(torch.optim.Adagrad),
    "adagrad, ours": adagrad(optim.Adagrad),
}


def limit_of(make) -> float:
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = make(p, 1e-3)
    step = step_curvature(Dense(torch.diag(CURVATURES)), [p], optimizer)
    return 1e-3 / float(torch.linalg.eigvalsh(step.operator.to_dense())[-1])


def grows(make, lr: float) -> bool:
    """Whether the iterates grow on the quadratic, by the largest of late distances."""
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = make(p, lr)
    with torch.no_grad():
        p.fill_(1e-10)  # so near that adaptive scales stay as they are while it grows

    def closure():
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = 0.5 * (CURVATURES * p.square()).sum()
        loss.backward()
        return loss

    distances = []
    for _ in range(100):
        optimizer.step(closure)
        distances.append(float(p.detach().norm()))
    return max(distances[80:]) > max(distances[60:80])


@pytest.mark.parametrize("name", METHODS)
def test_running_it_just_below_converges_and_just_above_diverges(name):
    make = METHODS[name]
    limit = limit_of(make)
    assert not grows(make, 0.98 * limit)
    assert grows(make, 1.02 * limit)


@pytest.mark.parametrize(
    ("make", "factor"),
    [
        (lambda p: torch.optim.SGD([p], lr=1.0), 2.0),
        (lambda p: torch.optim.SGD([p], lr=1.0, momentum=0.9), 3.8),
        (lambda p: optim.Nesterov([p], lr=1.0, momentum=0.9), 3.8 / 2.8),
        (lambda p: adam(torch.optim.Adam)(p, 1.0), 38.0),
    ],
)
def test_the_factor_is_the_published_one(make, factor):
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    assert step_rule(make(p)).factor == pytest.approx(factor)


def test_groups_count_with_their_own_rates():
    a, b = (torch.nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2))
    sgd = torch.optim.SGD([{"params": [b], "lr": 0.5}, {"params": [a], "lr": 0.1}])
    H = Dense(torch.diag(torch.tensor([8.0, 2.0], dtype=torch.float64)))
    step = step_curvature(H, [a, b], sgd)
    assert step.operator.to_dense().diagonal().tolist() == pytest.approx([0.4, 0.5])
    assert step.multiple is None


def test_a_parameter_that_the_optimizer_does_not_move_does_not_count():
    a, b = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    H = Dense(torch.diag(torch.tensor([1.0, 1000.0])))
    step = step_curvature(H, [a, b], torch.optim.SGD([a], lr=1.0))
    assert step.operator.to_dense().diagonal().tolist() == pytest.approx([0.5, 0.0])


def test_amsgrad_divides_by_its_maximum():
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    made = torch.optim.Adam([p], lr=1.0, betas=(0.9, BETA2), amsgrad=True, eps=0.0)
    frozen(made, p, "max_exp_avg_sq", [4e-6, 4e-6, 4e-6])
    step = step_curvature(Dense(torch.eye(3, dtype=torch.float64)), [p], made)
    correction = 1 - BETA2 ** (10**6)
    expected = 1.0 / (38.0 * (4e-6 / correction) ** 0.5)
    assert step.operator.to_dense()[0, 0].item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: torch.optim.LBFGS([p]), "No stable limit is known for LBFGS"),
        (lambda p: optim.Rprop([p]), "No stable limit is known for Rprop"),
        (lambda p: torch.optim.Adam([p]), "has not taken a step yet"),
        (lambda p: torch.optim.SGD([p], lr=0.1, maximize=True), "maximises"),
    ],
)
def test_no_limit_is_made_up(make, said):
    rule = step_rule(make(torch.nn.Parameter(torch.ones(2))))
    assert rule.factor is None
    assert said in rule.note


def test_reading_leaves_the_state_alone():
    p = torch.nn.Parameter(torch.ones(2))
    adam = torch.optim.Adam([p])
    step_rule(adam)
    assert not adam.state


def test_inside_a_wrapper_the_inner_method_decides():
    p = torch.nn.Parameter(torch.ones(2))
    wrapped = optim.create("lookahead", [p], inner="sgd", lr=0.1, momentum=0.5)
    rule = step_rule(wrapped)
    assert rule.factor == pytest.approx(3.0)
    assert "inside Lookahead" in rule.note


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(TypeError, match=r"torch\.optim\.Optimizer"):
        step_rule(object())
