"""The plan is deterministic, equal for all arms, and every run is named by what defines it."""

import pickle
import re
from typing import Any

import pytest
import torch

from thalweg.objective import Objective
from thalweg.optim import SGD, Range, catalogue
from thalweg.problems import load
from thalweg.study import Arm, Budget, Plan, as_arm, default_arms
from thalweg.study.arms import parse_arms
from thalweg.study.space import edges, extended, point


def make(arms=("sgd", "adam"), **changes):
    settings = {"budget": Budget("steps", 10), "trials": 4, "seeds": (1, 2), **changes}
    return Plan(load("booth"), tuple(as_arm(arm) for arm in arms), **settings)


def ids(plan, label="sgd"):
    return [run.id for run in plan.tuning_runs(label)]


def test_points_are_those_of_one_scrambled_sobol_sequence():
    space = {"lr": Range(1e-4, 1.0), "eps": Range(0.0, 1.0, log=False)}
    points = [point(space, i, seed=7, name="adam") for i in range(8)]
    # One draw of all eight, and the same eight by index in any order.
    again = [point(space, i, seed=7, name="adam") for i in reversed(range(8))][::-1]
    assert points == again
    # Sobol: each eighth of each axis holds exactly one of eight points.
    for axis, to_unit in (("lr", lambda v: torch.log10(torch.tensor(v)) / 4 + 1), ("eps", float)):
        cells = sorted(int(float(to_unit(p[axis])) * 8 * (1 - 1e-6)) for p in points)
        assert cells == list(range(8)), axis
    assert points != [point(space, i, seed=8, name="adam") for i in range(8)]
    assert points != [point(space, i, seed=7, name="sgd") for i in range(8)]


def test_a_run_is_named_by_everything_that_defines_it():
    base = ids(make())
    assert base == ids(make())
    assert base == ids(make(("sgd", "adam", "rmsprop"))), "other arms do not matter"
    assert base == ids(make(trials=6))[:4], "more trials keep the first ones"
    assert base == ids(make(seeds=(5, 6, 7))), "fresh seeds do not matter to tuning"
    for changed in (
        make(budget=Budget("steps", 11)),
        make(budget=Budget("evaluations", 10)),
        make(tuning_seed=9),
        Plan(load("beale"), (as_arm("sgd"),), Budget("steps", 10), trials=4, seeds=(1,)),
    ):
        assert not set(base) & set(ids(changed))
    settings = make(("sgd:momentum=0.9",))
    assert not set(base) & set(ids(settings, "sgd:momentum=0.9"))


def test_every_arm_gets_the_same_number_of_trials_and_the_same_fresh_seeds():
    plan = Plan(load("booth"), tuple(default_arms()), Budget("steps", 5), trials=6, seeds=(3, 1))
    counts = {len(plan.tuning_runs(arm.label)) for arm in plan.arms}
    extra = {
        len(plan.extension_runs(a.label, "lr", "high", 0, first=6, round_=1)) for a in plan.arms
    }
    seeds = {tuple(r.seed for r in plan.fresh_runs(a.label, {"lr": 1.0})) for a in plan.arms}
    assert (counts, extra, seeds) == ({6}, {1}, {(3, 1)})


def test_the_problems_scale_moves_every_learning_rate_alike():
    plan = make()
    scaled = Plan(
        plan.problem.__class__(**{**fields(plan.problem), "scale": 0.01}),
        plan.arms,
        plan.budget,
        seeds=(1,),
    )
    for label in ("sgd", "adam"):
        wide, narrow = plan.space(label)["lr"], scaled.space(label)["lr"]
        assert narrow.low == pytest.approx(wide.low / 100)
        assert narrow.high == pytest.approx(wide.high / 100)


def fields(problem):
    return {name: getattr(problem, name) for name in problem.__dataclass_fields__}


def test_edges_are_where_the_best_is_the_outermost_point_tried():
    space = {"lr": Range(1e-3, 1.0), "eps": Range(0.0, 1.0, log=False)}
    tried = [{"lr": v, "eps": v} for v in (0.01, 0.1, 0.5)]
    assert edges(tried[2], tried, space) == {("lr", "high")}
    assert edges(tried[0], tried, space) == {("lr", "low")}
    assert edges(tried[1], tried, space) == set()
    assert edges(tried[0], tried[:1], space) == set(), "one trial says nothing about edges"


def test_extensions_are_the_next_decade_and_leave_other_axes():
    space = {"lr": Range(1e-3, 1.0), "eps": Range(1e-8, 1e-4)}
    assert extended(space, "lr", "high", 0)["lr"] == Range(1.0, 10.0)
    assert extended(space, "lr", "high", 1)["lr"] == Range(10.0, 100.0)
    low = extended(space, "lr", "low", 1)["lr"]
    assert (low.low, low.high) == pytest.approx((1e-5, 1e-4))
    assert extended(space, "lr", "low", 0)["eps"] == space["eps"]


def test_arms_from_names_classes_and_paths():
    assert as_arm("momentum").settings == {"momentum": 0.9}
    arm = as_arm("sgd:momentum=0.5:nesterov=true")
    assert (arm.cls, arm.settings) == (SGD, {"momentum": 0.5, "nesterov": True})
    assert as_arm(torch.optim.NAdam).label == "NAdam"
    assert as_arm("torch.optim.Adam:lr=0.1").space == {}, "a fixed setting is not tuned"
    assert as_arm("weight-averaging").path == "thalweg.optim.WeightAveraging"
    labels = [arm.label for arm in parse_arms("all, deterministic,adam")]
    assert len(labels) == len(set(labels))
    alone = {"conjugate-gradient", "gauss-newton", "levenberg-marquardt"}
    assert set(labels) == {*catalogue(), "momentum", "sophia-g"} - alone
    assert "bfgs" not in [arm.label for arm in parse_arms("all")]
    assert "adam" not in [arm.label for arm in parse_arms("deterministic")]


@pytest.mark.parametrize(
    ("label", "name", "slot"),
    [
        ("sophia", "Sophia", "hessian"),
        ("sophia-g", "Sophia", "hessian"),
        ("sophia:estimator=gauss-newton-bartlett", "Sophia", "hessian"),
        ("kfac", "KFAC", "blocks"),
        ("ekfac", "EKFAC", "blocks"),
        ("natural-gradient", "NaturalGradient", None),
    ],
)
def test_methods_with_curvature_are_arms_by_name(label, name, slot):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    objective = Objective(model, torch.nn.functional.cross_entropy)
    optimizer: Any = as_arm(label).build(model, {"lr": 0.01})
    optimizer.step(objective.closure(torch.randn(8, 3), torch.tensor([0, 1] * 4)))
    assert type(optimizer).__name__ == name
    assert slot is None or slot in optimizer.state[model.weight]
    if slot == "hessian":  # squares of gradients, or an estimate that may be negative
        sampled = bool((optimizer.state[model.weight]["hessian"] >= 0).all())
        assert sampled == (label != "sophia")
        assert optimizer.param_groups[0]["gamma"] == (0.05 if label == "sophia-g" else 0.01)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: as_arm("adamm"), "Did you mean 'adam'"),
        (lambda: as_arm("adam:beta=1"), "unknown hyper-parameter 'beta'. Did you mean 'betas'"),
        (lambda: as_arm("adam:betas"), "name=value"),
        (lambda: as_arm("torch.optim.Adamm"), "cannot import"),
        (lambda: as_arm("torch.nn.Linear"), "is not a torch.optim.Optimizer"),
        (lambda: make(("sgd", "sgd")), "different labels"),
        (lambda: make(trials=0), "Plan(trials=0): trials must be an integer >= 1"),
        (lambda: make(seeds=()), "seeds must be one or more different integers"),
        (lambda: make(seeds=(0, 1)), "different from the tuning seed 0"),
        (lambda: Budget("hours", 3), "one of steps, evaluations, seconds"),
        (lambda: Budget("steps", 1.5), "a whole number of steps"),
        (lambda: Budget("seconds", -1.0), "amount must be a number in (0, inf)"),
        (lambda: Range(1.0, 1.0), "low must be below high"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(call, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        call()


def test_an_arm_of_a_wrapper_splits_its_settings():
    model = torch.nn.Linear(2, 1)
    arm = Arm("x", as_arm("weight-averaging").cls, {"inner": "adam", "decay": 0.5})
    optimizer = arm.build(model, {"lr": 0.25})
    assert type(optimizer.inner).__name__ == "Adam"
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["decay"]) == (0.25, 0.5)


def test_plans_travel_by_pickle():
    plan = make()
    assert ids(pickle.loads(pickle.dumps(plan))) == ids(plan)
