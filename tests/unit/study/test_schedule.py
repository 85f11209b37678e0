"""Schedules: their formulas, their ends, and that they are part of what names a run."""

import math

import pytest
import torch

from thalweg.problems import load
from thalweg.study import Budget, Plan, Run, as_arm
from thalweg.study.schedule import SCHEDULES, Schedule, factor
from thalweg.study.training import train


def test_cosine_and_linear_equal_torchs_after_the_warm_up():
    steps = 100
    for name, ours in (("cosine", "CosineAnnealingLR"), ("linear", "LinearLR")):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        options = (
            {"T_max": steps}
            if name == "cosine"
            else {
                "start_factor": 1.0,
                "end_factor": 0.0,
                "total_iters": steps,
            }
        )
        scheduler = getattr(torch.optim.lr_scheduler, ours)(optimizer, **options)
        for k in range(1, steps):
            optimizer.step()
            scheduler.step()
            expected = optimizer.param_groups[0]["lr"]
            assert factor(name, 0.05 + 0.95 * k / steps) == pytest.approx(expected, abs=1e-9)


def test_ends_and_steps():
    assert [factor("step", s) for s in (0.0, 0.49, 0.5, 0.74, 0.75, 1.0)] == [
        1.0,
        1.0,
        0.1,
        0.1,
        0.01,
        0.01,
    ]
    assert factor("constant", 0.7) == 1.0
    for name in ("cosine", "linear"):
        assert factor(name, 0.05) == 1.0
        assert factor(name, 1.0) == pytest.approx(0.0, abs=1e-12)


def test_every_group_keeps_its_own_rate():
    a, b = (torch.zeros(1, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 0.1}])
    Schedule("linear", optimizer).set(0.525)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 0.05])


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_follows_it_and_its_first_step_moves(name):
    run = Run("sgd", {"lr": 0.005}, "tune", 0, 0, 0, "id", name)
    record = train(load("booth"), as_arm("sgd"), run, Budget("steps", 40))
    assert record["schedule"] == name
    steps = [math.dist(p, q) for p, q in zip(record["path"], record["path"][1:], strict=False)]
    assert steps[0] > 0
    if name in {"cosine", "linear"}:
        assert steps[0] < steps[1], "the warm-up"


def test_it_names_runs_and_unknown_ones_are_refused():
    plans = [
        Plan(load("booth"), (as_arm("sgd"),), Budget("steps", 5), trials=1, schedule=name)
        for name in SCHEDULES
    ]
    assert len({plan.tuning_runs("sgd")[0].id for plan in plans}) == len(SCHEDULES)
    with pytest.raises(ValueError, match="one of constant, cosine, linear, step"):
        Plan(load("booth"), (as_arm("sgd"),), Budget("steps", 5), schedule="cosin")
