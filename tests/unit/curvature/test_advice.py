"""Each piece of advice on models where the answer is known, checked by taking it."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg import Objective
from thalweg.curvature.examination import inspect


DOUBLE = torch.float64


class Bowl(nn.Module):
    """A quadratic with a named part for each curvature."""

    def __init__(self, **curvatures):
        super().__init__()
        self.curvatures = {k: torch.tensor(v, dtype=DOUBLE) for k, v in curvatures.items()}
        for name, values in self.curvatures.items():
            self.add_module(name, nn.ParameterList([torch.ones(len(values), dtype=DOUBLE)]))

    def forward(self, _):
        parts = [(c * getattr(self, name)[0].square()).sum() for name, c in self.curvatures.items()]
        return 0.5 * sum(parts)


def objective_of(model):
    return Objective(model, None, forward=lambda model, batch: model(batch))


BATCH = [(torch.zeros(1), torch.zeros(1))]


def looked_at(model, optimizer=None):
    return inspect(objective_of(model), BATCH, optimizer=optimizer)


def advice(found, rule):
    return next((a for a in found.advice if a.rule == rule), None)


def descend(model, steps, lr, momentum=0.0):
    """Gradient descent from all ones; the loss before and after."""
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
    sgd = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    closure = objective_of(model).closure(*BATCH[0])
    start = float(closure.value())
    for _ in range(steps):
        sgd.step(closure)
    return start, float(closure.value())


def test_a_rate_past_its_limit_is_named_with_its_factor_and_its_layer():
    model = Bowl(flat=[1.0, 0.5], steep=[62.0])
    found = looked_at(model, torch.optim.SGD(model.parameters(), lr=0.1))
    said = advice(found, "rate")
    assert said.question == "rate"
    assert "your learning rate 0.1 is 3.1 times the stable limit 0.0323" in said.text
    assert "along one direction, which lies 100% in `steep.0`" in said.text
    assert "λ_max = 62" in said.evidence
    start, end = descend(model, 20, 0.1)
    assert end > 1e3 * start
    start, end = descend(model, 20, 0.99 * found.stability.limit.value)
    assert end < start


def test_past_the_limit_help_is_below_it():
    model = Bowl(flat=[1.0], steep=[10.0])
    found = looked_at(model, torch.optim.SGD(model.parameters(), lr=0.3))
    assert advice(found, "lower").text == "A learning rate below 0.2."
    assert descend(model, 100, 0.19)[1] < 1e-3
    assert descend(model, 300, 0.3)[1] > 1e3


def test_past_the_limit_other_advice_waits():
    model = Bowl(flat=[0.02], steep=[10.0])
    found = looked_at(model, torch.optim.SGD(model.parameters(), lr=0.3))
    assert advice(found, "conditioning") is None
    calm = looked_at(model, torch.optim.SGD(model.parameters(), lr=0.15))
    assert advice(calm, "conditioning") is not None


def test_the_limit_holds_on_a_real_network():
    """Gradient descent from where it stands: calm below the limit, and thrown off above it."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(80, 6, generator=draws, dtype=DOUBLE)
    y = torch.sin(2 * x[:, :1])
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1)).double()
    objective = Objective(model, F.mse_loss)
    closure = objective.closure(x, y)
    sgd = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(400):
        sgd.step(closure)
    found = inspect(closure, optimizer=sgd)
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    highest = {}
    for factor in (0.9, 1.2):
        nn.utils.vector_to_parameters(start.clone(), model.parameters())
        sgd.param_groups[0]["lr"] = factor * found.stability.limit.value
        highest[factor] = max(float(sgd.step(closure)) for _ in range(60))
    assert highest[0.9] <= 1.01 * found.loss
    assert highest[1.2] > 1.5 * found.loss


def test_several_directions_past_the_limit_are_counted():
    model = Bowl(a=[30.0, 40.0, 50.0, 1.0], b=[0.1])
    found = looked_at(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert "along about 3 directions" in advice(found, "rate").text


def test_at_the_edge_there_is_neither_alarm_nor_room():
    model = Bowl(a=[1.0], b=[20.0])
    found = looked_at(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert advice(found, "rate").text.startswith("It is at the edge")
    assert advice(found, "lower") is None
    assert advice(found, "higher") is None


def test_a_timid_rate_may_be_raised_and_that_is_faster():
    model = Bowl(a=[1.0], b=[20.0])
    found = looked_at(model, torch.optim.SGD(model.parameters(), lr=0.001))
    assert advice(found, "rate").text.startswith("No: your learning rate 0.001 is 1% of")
    assert "A higher learning rate" in advice(found, "higher").text
    slow, fast = descend(model, 50, 0.001)[1], descend(model, 50, 0.05)[1]
    assert fast < 0.1 * slow


def test_the_best_rate_leaves_what_it_says():
    model = Bowl(a=[1.0], b=[9.0])
    found = looked_at(model)
    said = advice(found, "best rate")
    assert "is 0.2:" in said.text
    assert "at most 80% of the distance" in said.text
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
    closure = objective_of(model).closure(*BATCH[0])
    sgd = torch.optim.SGD(model.parameters(), lr=found.optimal_rate.value)
    for _ in range(10):
        sgd.step(closure)
    left = nn.utils.parameters_to_vector(model.parameters()).detach().norm() / math.sqrt(2)
    assert float(left) == pytest.approx(0.8**10, rel=1e-6)


@pytest.mark.parametrize("lr", [0.15, 0.24])
def test_no_other_rate_beats_the_best_one(lr):
    model = Bowl(a=[1.0], b=[9.0])
    assert descend(model, 40, lr)[1] > descend(model, 40, 0.2)[1]


def test_a_stretched_valley_takes_the_steps_that_are_said():
    model = Bowl(flat=[1.0], steep=[400.0])
    found = looked_at(model)
    said = advice(found, "conditioning")
    plain = math.log(10) / math.log(401 / 399)
    ball = math.log(10) / math.log(21 / 19)
    assert "about 461 steps" in said.text
    assert f"{ball:.2g}" in said.text
    # Gradient descent at its best rate: a tenth of the distance, a hundredth of the loss.
    start, end = descend(model, round(plain), 2 / 401)
    assert end / start == pytest.approx(0.01, rel=0.02)
    root = 20.0
    beta, rate = ((root - 1) / (root + 1)) ** 2, 4 / (root + 1) ** 2
    ends = [descend(model, steps, rate, beta)[1] for steps in (round(3 * ball), round(6 * ball))]
    assert ends[1] / ends[0] < 10 ** (-2 * 3 * 0.8)


def test_a_saddle_shows_the_way_down():
    model = Bowl(up=[3.0, 1.0], down=[-0.5])
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    found = looked_at(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert advice(found, "point").text.startswith("No: it is a saddle, where 1 of 3 directions")
    said = advice(found, "saddle")
    assert "100% in `down.0`" in said.text
    with torch.no_grad():
        model.down[0].fill_(0.1)
    assert float(objective_of(model).closure(*BATCH[0]).value()) < 0.0


def test_a_minimum_is_said_to_be_one():
    model = Bowl(a=[3.0, 1.0])
    with torch.no_grad():
        model.a[0].zero_()
    found = looked_at(model)
    assert advice(found, "point").text.startswith("Yes")
    assert "isolated" not in advice(found, "point").text


def test_flat_directions_of_a_minimum_are_told():
    model = Bowl(a=[3.0, 1.0, 0.0, 0.0])
    with torch.no_grad():
        model.a[0].zero_()
    assert "50% of all directions are flat" in advice(looked_at(model), "point").text


def test_what_a_newton_step_gains_is_what_it_gains():
    model = Bowl(a=[3.0, 1.0])
    found = looked_at(model)
    said = advice(found, "point")
    assert "lowers the loss by 2 (100% of it)" in said.text
    assert found.point.taken == pytest.approx(found.loss)


def test_one_layer_that_is_much_steeper_is_named_and_a_rate_of_its_own_is_faster():
    model = Bowl(a=[1.0], b=[2.0], c=[100.0])
    found = looked_at(model, torch.optim.SGD(model.parameters(), lr=0.019))
    said = advice(found, "imbalance")
    assert "smaller rate for `c`" in said.text
    assert "50 times as sharp as the median layer" in said.text
    one = descend(model, 30, 0.0199)[1]
    groups = [
        {"params": model.c.parameters(), "lr": 0.01},
        {"params": [*model.a.parameters(), *model.b.parameters()], "lr": 0.9},
    ]
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
    sgd = torch.optim.SGD(groups)
    closure = objective_of(model).closure(*BATCH[0])
    for _ in range(30):
        sgd.step(closure)
    assert float(closure.value()) < 1e-6 * one


def test_a_dead_layer_is_named():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[0].weight.fill_(-1.0)
        model[0].bias.fill_(-1.0)
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(20, 3, generator=draws, dtype=DOUBLE)
    y = torch.randint(0, 2, (20,), generator=draws)
    found = inspect(Objective(model, F.cross_entropy), [(x, y)])
    assert "`0`: no gradient and no curvature" in advice(found, "dead").text


def regression(noise, n=400):
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=draws, dtype=DOUBLE)
    y = x.sum(1, keepdim=True) + noise * torch.randn(n, 1, generator=draws, dtype=DOUBLE)
    return x, y


@pytest.mark.parametrize(
    ("noise", "batch", "start"),
    [(5.0, 4, "A larger batch: at 4 samples"), (0.01, 100, "A smaller batch")],
)
def test_the_batch_is_judged_by_the_noise_scale(noise, batch, start):
    model = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        model.weight.zero_()
    objective = Objective(model, F.mse_loss)
    found = inspect(objective, [regression(noise)], batch_size=batch)
    said = advice(found, "noise")
    assert said.text.startswith(start)
    share = 1 / (1 + found.noise.value / batch)
    points = float(re.search(r"makes ([\d.]+)% of", said.evidence)[1])
    assert points == pytest.approx(100 * share, rel=0.05)


def test_progress_by_batch_size_is_what_is_said():
    """The expected fall of the loss of a step at the best rate, drawn many times."""
    x, y = regression(5.0)
    model = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        model.weight.zero_()
    each = -2 * (y * x)  # at the origin
    G = each.mean(0)
    B = float(each.var(0).sum() / G.square().sum())
    draws = torch.Generator().manual_seed(1)
    # With the curvature of a sphere the best fall is (G'E g)^2 / 2E|g|^2.
    fall = {}
    for batch in (8, 16):
        rows = torch.randint(0, len(x), (20_000, batch), generator=draws)
        g = each[rows].mean(1)
        fall[batch] = float((g @ G).mean() ** 2 / g.square().sum(1).mean())
    said = (1 + B / 8) / (1 + B / 16)
    assert fall[16] / fall[8] == pytest.approx(said, rel=0.02)


def test_a_plateau_is_not_called_a_minimum():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].weight.fill_(0.0)
        model[0].bias.fill_(-60.0)
        model[2].weight.fill_(0.0)
        model[2].bias.fill_(0.0)
    x = torch.ones(4, 2, dtype=DOUBLE)
    bce = nn.functional.binary_cross_entropy_with_logits
    flat = Objective(model, lambda out, y: 1.0 + 1e-12 * bce(out, y))
    found = inspect(flat, [(x, torch.ones(4, 1, dtype=DOUBLE))])
    assert found.point.kind == "plateau"
    assert "Another start" in advice(found, "plateau").text


def test_where_nothing_stands_out_it_says_so():
    model = Bowl(a=[1.0], b=[2.0])
    found = looked_at(model, torch.optim.SGD(model.parameters(), lr=0.7))
    assert [a.rule for a in found.advice if a.question == "help"] == ["nothing"]


def test_each_question_is_answered_and_each_answer_has_evidence():
    model = Bowl(a=[1.0], b=[2.0])
    for optimizer in (None, torch.optim.Adam(model.parameters()), torch.optim.LBFGS([model.a[0]])):
        found = looked_at(model, optimizer)
        assert {a.question for a in found.advice} == {"rate", "point", "help"}
        assert all(a.evidence for a in found.advice)
