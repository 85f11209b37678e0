"""Two streams, whole epochs, honest scores, and a fingerprint that follows every ingredient."""

import copy
import dataclasses
import pickle
import subprocess
import sys
from itertools import islice
from typing import Any

import cloudpickle
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn import functional as F

from thalweg.problems import (
    ACCURACY,
    BOOTH,
    MEAN_SQUARED_ERROR,
    ROSENBROCK,
    Data,
    Metric,
    Problem,
    Target,
    load,
    quadratic,
)


class Net(nn.Module):
    """Dropout and batch normalisation: what evaluation must switch off."""

    def __init__(self, width: int = 4, drop: float = 0.5):
        super().__init__()
        self.first = nn.Linear(1, width)
        self.norm = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(drop)
        self.last = nn.Linear(width, 3)

    def forward(self, x):
        return self.last(self.drop(self.norm(self.first(x))))


def wide() -> nn.Module:
    return Net(5)


def other_activation() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 3), nn.Tanh())


def mirrored(outputs, targets):
    return F.cross_entropy(-outputs, targets)


def numbered(count: int = 40) -> Data:
    return Data.split(torch.arange(float(count)).reshape(count, 1), torch.arange(count) % 3)


def mine(**changes) -> Problem:
    options: dict[str, Any] = {
        "name": "mine",
        "model": Net,
        "loss": F.cross_entropy,
        "data": numbered(),
    }
    return Problem(**options | {"batch_size": 8} | changes)


def state(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def order(problem: Problem, seed: int, count: int) -> list[int]:
    batches = islice(problem.batches(seed), count)
    return torch.cat([x.flatten() for x, _ in batches]).int().tolist()


# The two streams of a seed.


@settings(max_examples=20)
@given(seed=st.integers(0, 10**9), disturbance=st.integers(0, 10**9))
def test_initial_weights_depend_on_the_seed_alone(seed, disturbance):
    problem = mine()
    expected = state(problem.build(seed))
    torch.manual_seed(disturbance)
    order(problem, disturbance, 3)
    before = torch.get_rng_state()
    assert torch.equal(state(problem.build(seed)), expected)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(state(problem.build(seed + 1)), expected)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**9), disturbance=st.integers(0, 10**9))
def test_order_of_the_data_depends_on_the_seed_alone(seed, disturbance):
    expected = order(mine(), seed, 12)
    torch.manual_seed(disturbance)
    problem = mine(model=wide)
    batches = problem.batches(seed)
    seen = []
    before = torch.get_rng_state()
    for _ in range(12):
        seen += next(batches)[0].flatten().int().tolist()
    assert torch.equal(torch.get_rng_state(), before)
    problem.build(disturbance)
    assert seen == expected
    assert order(problem, seed + 1, 12) != expected


def test_the_two_streams_do_not_start_at_one_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = state(Net())
    assert not torch.equal(state(mine().build(0)), plain)
    draws = torch.Generator().manual_seed(0)
    assert order(mine(), 0, 1) != torch.randperm(26, generator=draws)[:8].tolist()


# Batches.


@settings(max_examples=40)
@given(count=st.integers(6, 60), size=st.integers(1, 70), seed=st.integers(0, 50))
def test_every_epoch_covers_each_sample_once(count, size, seed):
    data = numbered(count)
    training = data.train[0].flatten().int().tolist()
    problem = mine(data=data, batch_size=size)
    n = len(training)
    sizes = {len(x) for x, _ in islice(problem.batches(seed), 5)}
    assert sizes == {min(size, n)}
    seen = order(problem, seed, 3 * n)
    for epoch in range(3):
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == sorted(training)


def test_epochs_are_reshuffled_and_inputs_keep_their_targets():
    problem = mine()
    n = len(numbered().train[0])
    seen = order(problem, 0, 10)
    assert seen[:n] != seen[n : 2 * n]
    for x, y in islice(problem.batches(0), 10):
        assert torch.equal(x.flatten().long() % 3, y)


def test_a_full_batch_keeps_the_order_of_the_data():
    for size in (None, 26, 1000):
        x, y = next(mine(batch_size=size).batches(5))
        assert torch.equal(x, numbered().train[0])
        assert torch.equal(y, numbered().train[1])


# Scores.


def test_scores_are_means_over_the_split_whatever_the_chunks(monkeypatch):
    count = 5000
    data = Data.split(torch.randn(count, 1), torch.randint(3, (count,)))
    problem = mine(data=data)
    model = problem.build(0).eval()
    for split in ("train", "validation", "test"):
        x, y = data.of(split)
        outputs = model(x)
        scores = problem.evaluate(model, split)
        assert scores["loss"] == pytest.approx(F.cross_entropy(outputs, y).item(), rel=1e-6)
        assert scores["metric"] == pytest.approx((outputs.argmax(1) == y).float().mean().item())


def test_the_training_loss_of_a_probe_is_that_of_its_first_samples():
    problem = mine(probe=4)
    model = problem.build(0)
    x, y = numbered().train
    expected = F.cross_entropy(model.eval()(x[:4]), y[:4]).item()
    assert problem.evaluate(model, "train")["loss"] == pytest.approx(expected, rel=1e-6)
    assert problem.evaluate(model, "train") != mine().evaluate(model, "train")
    for split in ("validation", "test"):
        assert problem.evaluate(model, split) == mine().evaluate(model, split)
    assert order(problem, 3, 12) == order(mine(), 3, 12)


def test_evaluation_leaves_modes_statistics_gradients_and_random_state_alone():
    problem = mine()
    model = Net()
    model.norm.eval()
    buffers = copy.deepcopy(list(model.buffers()))
    modes = [module.training for module in model.modules()]
    before = torch.get_rng_state()
    assert problem.evaluate(model) == problem.evaluate(model)
    assert [module.training for module in model.modules()] == modes
    assert modes.count(False) == 1
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), buffers, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in model.parameters())


def test_modes_are_put_back_where_the_model_fails():
    problem = mine()
    model = Net(4)
    model.last = nn.Linear(9, 3)
    with pytest.raises(RuntimeError):
        problem.evaluate(model)
    assert all(module.training for module in model.modules())


def test_accuracy_is_the_metric_of_class_targets_and_of_no_others():
    assert mine().metric is ACCURACY
    x = torch.randn(30, 1)
    regression = mine(data=(x, x), loss=F.mse_loss, model=lambda: nn.Linear(1, 1))
    assert regression.metric is None
    assert regression.evaluate(regression.build(0))["metric"] is None
    named = mine(
        data=(x, x), loss=F.mse_loss, metric=MEAN_SQUARED_ERROR, model=lambda: nn.Linear(1, 1)
    )
    scores = named.evaluate(named.build(0))
    assert scores["metric"] == pytest.approx(scores["loss"])


def test_a_target_is_reached_from_its_own_side():
    loss = mine(target=Target("validation_loss", 0.5))
    assert [loss.reached(v) for v in (0.4, 0.5, 0.6, float("nan"))] == [True, True, False, False]
    metric = mine(target=Target("validation_metric", 0.5))
    assert [metric.reached(v) for v in (0.4, 0.5, 0.6, float("nan"))] == [False, True, True, False]
    lower = Metric("error", MEAN_SQUARED_ERROR.fn, False)
    error = mine(metric=lower, target=Target("validation_metric", 0.5))
    assert error.reached(0.4)
    assert not error.reached(0.6)


# The fingerprint.

CHANGES = [
    {"name": "yours"},
    {"version": "2"},
    {"model": wide},
    {"model": other_activation},
    {"loss": nn.CrossEntropyLoss()},
    {"loss": mirrored},
    {"data": numbered(41)},
    {"batch_size": 9},
    {"metric": Metric("top", ACCURACY.fn, True)},
    {"target": Target("validation_loss", 0.1)},
    {"scale": 0.1},
    {"steps": 10},
    {"probe": 10},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_fingerprint_changes_with_any_ingredient(change):
    assert mine(**change).fingerprint != mine().fingerprint


def scaled() -> nn.Module:
    net = Net()
    nn.init.normal_(net.last.bias)
    return net


def drier() -> nn.Module:
    return Net(drop=0.1)


def flat(outputs, targets):
    """A loss that is zero whatever the model, the data and the batch."""
    return 0 * outputs.sum()


@pytest.mark.parametrize(
    "change",
    [
        {"model": scaled},
        {"model": wide},
        {"model": drier},
        {"data": numbered(41)},
        {"batch_size": 9},
    ],
)
def test_fingerprint_sees_what_the_first_loss_does_not_show(change):
    assert mine(loss=flat, **change).fingerprint != mine(loss=flat).fingerprint


def test_fingerprint_tells_lambdas_and_functions_apart():
    first = mine(loss=lambda outputs, targets: F.cross_entropy(outputs, targets))
    second = mine(loss=lambda outputs, targets: 2 * F.cross_entropy(outputs, targets))
    assert first.fingerprint != second.fingerprint

    assert BOOTH.problem().fingerprint != ROSENBROCK.problem().fingerprint
    bowls = [quadratic(angle=angle, start=(0.0, 1.0)).problem() for angle in (0.5, -0.5)]
    values = [bowl.evaluate(bowl.build(0))["loss"] for bowl in bowls]
    assert values[0] == values[1]
    assert bowls[0].fingerprint != bowls[1].fingerprint


def test_fingerprint_is_the_same_again_whatever_the_words_and_the_random_state():
    expected = mine().fingerprint
    torch.manual_seed(123)
    assert mine(title="Mine", description="of my own").fingerprint == expected
    assert dataclasses.replace(mine()).fingerprint == expected
    assert pickle.loads(pickle.dumps(mine())).fingerprint == expected


def test_fingerprint_is_the_same_in_another_process():
    problems = [load("digits"), load("booth")]
    code = (
        "import pickle, sys; problems = pickle.load(sys.stdin.buffer);"
        "print(*(problem.fingerprint for problem in problems))"
    )
    sent = pickle.dumps(problems)
    answer = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path[:0] = " + repr(sys.path) + "\n" + code],
        input=sent,
        capture_output=True,
        check=True,
    )
    assert answer.stdout.decode().split() == [problem.fingerprint for problem in problems]


# Nothing moves; everything travels.


def test_the_title_is_the_name_where_none_is_given():
    assert mine().title == "mine"
    assert mine(title="Mine").title == "Mine"


def test_a_problem_cannot_be_changed():
    problem = mine()
    for field in dataclasses.fields(problem):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(problem, field.name, None)


@pytest.mark.parametrize("name", ["digits", "digits-logistic", "digits-cnn", "himmelblau"])
def test_built_in_problems_pickle(name):
    problem = load(name)
    again = pickle.loads(pickle.dumps(problem))
    assert again.name == problem.name
    assert torch.equal(state(again.build(1)), state(problem.build(1)))
    x, _ = next(again.batches(1))
    assert torch.equal(next(problem.batches(1))[0], x)
    assert copy.deepcopy(problem).batch_size == problem.batch_size


def test_ones_own_lambdas_travel_by_cloudpickle():
    x = torch.randn(30, 2)
    problem = Problem(
        "mine", lambda: nn.Linear(2, 1), lambda o, t: (o - t).square().mean(), (x, x[:, :1])
    )
    again = pickle.loads(cloudpickle.dumps(problem))
    assert torch.equal(state(again.build(0)), state(problem.build(0)))
    assert again.evaluate(again.build(0)) == problem.evaluate(problem.build(0))


def test_an_optimizer_of_torch_reaches_the_target_of_digits():
    problem = load("digits")
    model = problem.build(1)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
    objective = problem.objective(model)
    batches = problem.batches(1)
    for _ in range(problem.steps):
        optimizer.step(objective.closure(*next(batches)))
    assert problem.reached(problem.evaluate(model)["loss"])
    assert objective.ledger.backward == problem.steps
