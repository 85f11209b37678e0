"""A schedule that is tuned: one draw for every optimizer, kept for the fresh seeds, and resumed."""

import json
import math

import pytest

from thalweg.optim import Range
from thalweg.problems import load
from thalweg.study import Arm, Budget, Inline, Plan, as_arm, conduct, read, summarize
from thalweg.study.conduct import selection_loss
from thalweg.study.records import write_json
from thalweg.study.schedule import SCHEDULES
from thalweg.study.space import drawn_schedule, point


def plan(schedule="tuned", names=("sgd", "adam"), **changes):
    settings = {"trials": 8, "seeds": (1, 2), **changes}
    arms = tuple(as_arm(name) for name in names)
    return Plan(load("booth"), arms, Budget("steps", 12), schedule=schedule, **settings)


def drawn(runs):
    return [run.schedule for run in runs]


@pytest.mark.parametrize("seed", range(12))
def test_every_four_trials_have_every_schedule_once(seed):
    draws = [drawn_schedule(i, seed) for i in range(32)]
    for k in range(0, 32, 4):
        assert set(draws[k : k + 4]) == set(SCHEDULES)
    assert draws == [drawn_schedule(i, seed) for i in reversed(range(32))][::-1]


@pytest.mark.parametrize("name", ["sgd", "adam", "somebody's"])
def test_schedules_and_learning_rates_cover_each_other(name):
    """Of sixteen trials each schedule has one in every quarter of the learning rates."""
    space = {"lr": Range(0.0, 4.0, log=False)}
    pairs = {(drawn_schedule(i, 3), int(point(space, i, 3, name, skip=1)["lr"])) for i in range(16)}
    assert len(pairs) == 16


@pytest.mark.parametrize("seed", [0, 5])
def test_a_race_of_sixteen_trials_meets_every_schedule_at_every_quarter_of_the_rates(seed):
    race = plan(trials=16, seeds=(1,), tuning_seed=seed)
    for arm in race.arms:
        lr = race.space(arm.label)["lr"]
        share = [
            math.log(run.hyperparameters["lr"] / lr.low) / math.log(lr.high / lr.low)
            for run in race.tuning_runs(arm.label)
        ]
        draws = drawn(race.tuning_runs(arm.label))
        assert len({(name, int(4 * s)) for name, s in zip(draws, share, strict=True)}) == 16


def test_a_trial_has_one_schedule_for_every_arm():
    race = plan(names=("sgd", "adam", "torch.optim.NAdam", "rmsprop"))
    draws = [drawn(race.tuning_runs(arm.label)) for arm in race.arms]
    assert all(other == draws[0] for other in draws)
    assert drawn(plan(tuning_seed=7).tuning_runs("sgd")) != draws[0]
    extra = [race.extension_runs(a.label, "lr", "high", 0, first=8, round_=1) for a in race.arms]
    assert len({tuple(drawn(runs)) for runs in extra}) == 1
    assert drawn(extra[0]) == [drawn_schedule(i, 0) for i in (8, 9)]


def test_a_fixed_schedule_is_that_of_every_run():
    race = plan("cosine")
    assert set(drawn(race.tuning_runs("sgd"))) == {"cosine"}
    assert drawn(race.fresh_runs("sgd", {"lr": 1.0}, "step")) == ["cosine"] * 2
    assert drawn(race.fresh_runs("sgd", None)) == ["cosine"] * 2


def test_a_method_with_nothing_else_to_tune_tries_each_schedule_once():
    fixed = Plan(
        load("booth"),
        (Arm("fixed", as_arm("sgd").cls, {"lr": 0.01}),),
        Budget("steps", 5),
        seeds=(1,),
        schedule="tuned",
    )
    assert sorted(drawn(fixed.tuning_runs("fixed"))) == sorted(SCHEDULES)


def test_repeats_follow_the_winners_schedule_and_defaults_a_constant_rate(tmp_path):
    records = conduct(plan(), tmp_path, executor=Inline())
    assert records.study["schedule"] == "tuned"
    chosen = set()
    for label in ("sgd", "adam"):
        own = [run for run in records.runs if run["optimizer"] == label]
        best = min((r for r in own if r["stage"] == "tune"), key=selection_loss)
        for stage, schedule in (("confirm", best["schedule"]), ("default", "constant")):
            assert {r["schedule"] for r in own if r["stage"] == stage} == {schedule}
        confirmed = next(r for r in own if r["stage"] == "confirm")
        assert confirmed["path"] == best["path"], "on a function a repeat is the same run"
        row = summarize(records.study, records.runs).row(label)
        assert row.schedule == best["schedule"]
        chosen.add(best["schedule"])
    assert chosen != {"constant"}, "so that following the winner can be told from not doing so"


def test_a_race_that_lost_runs_ends_the_same(tmp_path):
    class Stops:
        """An executor that is killed after some runs."""

        def __init__(self, runs):
            self.left = runs

        def execute(self, plan, runs, folder):
            for event in Inline().execute(plan, runs, folder):
                yield event
                self.left -= event.kind == "done"
                if self.left == 0:
                    raise KeyboardInterrupt

        def close(self):
            pass

    def outcome(folder):
        runs = read(folder).runs
        return [(r["id"], r["schedule"], r["hyperparameters"], r["final"]) for r in runs]

    conduct(plan(), tmp_path / "peace", executor=Inline())
    for runs in (3, 9, 4):
        with pytest.raises(KeyboardInterrupt):
            conduct(plan(), tmp_path / "war", executor=Stops(runs))
    conduct(plan(), tmp_path / "war", executor=Inline())
    assert outcome(tmp_path / "war") == outcome(tmp_path / "peace")


def test_records_from_before_schedules_read_as_constant(tmp_path):
    conduct(plan("constant", trials=2), tmp_path, executor=Inline())
    before = summarize(*vars(read(tmp_path)).values()).to_dict()
    for path in (tmp_path / "study.json", *tmp_path.glob("runs/*/result.json")):
        content = json.loads(path.read_text())
        del content["schedule"]
        write_json(path, content)
    records = read(tmp_path)
    assert summarize(records.study, records.runs).to_dict() == before
    again = conduct(plan("constant", trials=2), tmp_path, executor=Inline())
    assert len(again.runs) == len(records.runs)
