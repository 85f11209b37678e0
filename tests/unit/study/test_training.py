"""One run: what the curve says is what a plain loop gives, and divergence is a result."""

import math

import pytest
import torch
from torch import nn

from thalweg.problems import Problem, Target, load
from thalweg.study import Arm, Budget, Run, as_arm
from thalweg.study.training import train


def small(**changes):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 4, generator=generator)
    y = (x @ torch.tensor([1.0, -2.0, 0.5, 0.0]) > 0).long()
    settings = {"data": (x, y), "batch_size": 16, **changes}
    return Problem("small", lambda: nn.Linear(4, 2), nn.functional.cross_entropy, **settings)


def a_run(lr=0.1, stage="tune", seed=3):
    return Run("sgd", {"lr": lr}, stage, seed, 0, 0, "id")


def test_equals_a_plain_torch_loop():
    problem = small()
    record = train(problem, as_arm("sgd:momentum=0.9"), a_run(0.1), Budget("steps", 40))
    model = problem.build(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = problem.batches(3)
    for _ in range(40):
        x, y = next(batches)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    x, y = problem.data.validation
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model(x), y).item()
    assert record["final"]["validation_loss"] == pytest.approx(expected, rel=1e-6)
    assert record["curve"]["step"] == list(range(0, 41, 2))
    assert record["ledger"]["forward"] == record["ledger"]["backward"] == 40
    assert record["curve"]["gradients"][-1] == 40
    assert record["status"] == "finished"


def test_test_data_are_read_in_fresh_runs_only():
    seen = []

    class Watched(nn.Linear):
        def forward(self, x):
            seen.append(len(x))
            return super().forward(x)

    problem = small()
    watched = Problem(
        "watched", lambda: Watched(4, 2), nn.functional.cross_entropy, data=problem.data
    )
    size = len(problem.data.test[0])
    assert size not in {len(problem.data.train[0]), len(problem.data.validation[0]), 64}
    tune = train(watched, as_arm("sgd"), a_run(), Budget("steps", 5))
    assert tune["final"]["test_loss"] is None
    assert size not in seen
    fresh = train(watched, as_arm("sgd"), a_run(stage="confirm"), Budget("steps", 5))
    assert fresh["final"]["test_loss"] is not None
    assert seen.count(size) == 1, "read once, at the end"


def test_hit_is_the_first_evaluation_at_the_target():
    problem = small(target=Target("train_loss", 0.5))
    record = train(problem, as_arm("sgd"), a_run(0.5), Budget("steps", 60))
    losses = record["curve"]["train_loss"]
    first = next(i for i, loss in enumerate(losses) if loss <= 0.5)
    assert 0 < first < len(losses) - 1
    assert record["hit"]["step"] == record["curve"]["step"][first]
    missed = small(target=Target("train_loss", 1e-9))
    assert train(missed, as_arm("sgd"), a_run(0.5), Budget("steps", 20))["hit"] is None


@pytest.mark.parametrize("name", ["sgd", "torch.optim.SGD"])
def test_divergence_is_a_record_with_its_reason(name):
    record = train(load("rosenbrock"), as_arm(name), a_run(10.0, "confirm"), Budget("steps", 50))
    assert record["status"] == "diverged"
    assert "loss" in record["message"]
    assert record["final"]["test_loss"] is None


def test_budgets_count_what_they_name():
    evaluations = train(small(), as_arm("nesterov"), a_run(0.01), Budget("evaluations", 30))
    assert evaluations["ledger"]["backward"] == 30
    seconds = train(small(), as_arm("sgd"), a_run(0.01), Budget("seconds", 0.05))
    assert seconds["seconds"] >= 0.05
    assert seconds["curve"]["step"][-1] > 1


def test_averages_are_what_is_evaluated():
    arm = as_arm("weight-averaging:average=exponential:decay=0.99")
    averaged = train(small(), Arm("a", arm.cls, arm.settings), a_run(0.5), Budget("steps", 30))
    plain = train(small(), as_arm("momentum"), a_run(0.5), Budget("steps", 30))
    assert averaged["final"]["train_loss"] > 1.05 * plain["final"]["train_loss"]
    assert averaged["curve"]["train_loss"][0] == plain["curve"]["train_loss"][0]


def test_functions_keep_their_path():
    record = train(load("booth"), as_arm("sgd"), a_run(0.01), Budget("steps", 20))
    assert len(record["path"]) == 21
    assert record["path"][0] == list(load("booth").function.start)
    assert record["final"]["validation_loss"] is None
    assert math.isfinite(record["final"]["train_loss"])


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(small(), as_arm("sgd"), a_run(), Budget("steps", 3))
    assert torch.equal(before, torch.get_rng_state())


def test_full_batches_are_one_function_to_methods_that_search():
    """They ask nothing twice, and the ledger has their products."""
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = Problem(
        "linear",
        lambda: nn.Linear(3, 1).double(),
        nn.functional.mse_loss,
        data=(x, x.sum(1, keepdim=True)),
        batch_size=None,
    )
    arm = as_arm("trust-region-newton-cg")
    run = Run(arm.label, {}, "tune", 3, 0, 0, "id")
    record = train(problem, arm, run, Budget("steps", 4))
    assert record["status"] == "finished"
    assert record["final"]["train_loss"] < 1e-12
    assert record["ledger"]["product"] >= 3
    assert record["ledger"]["backward"] <= 6
