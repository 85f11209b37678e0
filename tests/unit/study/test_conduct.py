"""A study can be killed at any time: what is finished is kept, and the numbers are the same."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from thalweg.problems import Problem, load
from thalweg.study import Budget, Inline, LocalProcesses, Plan, Run, as_arm, conduct, read
from thalweg.study.conduct import selection_loss
from thalweg.study.records import load_run, write_json


SRC = str(Path(__file__).parents[3] / "src")


def booth(**changes):
    settings = {"trials": 2, "seeds": (1,), **changes}
    return Plan(load("booth"), (as_arm("sgd"), as_arm("adam")), Budget("steps", 10), **settings)


def numbers(folder):
    """Everything in the records but times."""
    kept = {}
    for path in sorted(Path(folder, "runs").glob("*/result.json")):
        record = json.loads(path.read_text())
        for name in ("seconds", "created", "hit", "retried"):
            record.pop(name)
        record["curve"].pop("seconds")
        record["ledger"].pop("seconds")
        kept[path.parent.name] = record
    return kept


def test_running_again_does_nothing(tmp_path):
    conduct(booth(), tmp_path, executor=Inline())
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/result.json")}
    again = conduct(booth(), tmp_path, executor=Refuses())
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/result.json")}
    assert len(again.runs) == len(before)


class Refuses:
    """An executor that must have nothing to do."""

    def execute(self, plan, runs, folder):
        assert not runs
        return iter(())

    def close(self):
        pass


def test_gaps_are_filled_and_nothing_else(tmp_path):
    whole = conduct(booth(), tmp_path, executor=Inline())
    lost = whole.runs[1]["id"]
    expected = numbers(tmp_path)
    (tmp_path / "runs" / lost / "result.json").unlink()
    handed = []

    class Counting:
        def execute(self, plan, runs, folder):
            handed.extend(run.id for run in runs)
            return Inline().execute(plan, runs, folder)

        def close(self):
            pass

    conduct(booth(), tmp_path, executor=Counting())
    assert handed == [lost]
    assert numbers(tmp_path) == expected


def test_worker_processes_give_the_same_numbers_as_this_process(tmp_path):
    conduct(booth(), tmp_path / "a", executor=Inline())
    conduct(booth(), tmp_path / "b", executor=LocalProcesses(2))
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")


def test_more_seeds_extend_the_same_study(tmp_path):
    conduct(booth(defaults=False), tmp_path, executor=Inline())
    first = set(numbers(tmp_path))
    records = conduct(booth(seeds=(1, 2), defaults=False), tmp_path, executor=Inline())
    assert first < set(numbers(tmp_path))
    assert sum(record["stage"] == "confirm" for record in records.runs) == 4


def test_the_winner_on_validation_is_confirmed(tmp_path):
    records = conduct(booth(), tmp_path, executor=Inline())
    for label in ("sgd", "adam"):
        tuned = [r for r in records.runs if r["optimizer"] == label and r["stage"] == "tune"]
        best = min(tuned, key=selection_loss)["hyperparameters"]
        confirmed = [r for r in records.runs if r["optimizer"] == label and r["stage"] == "confirm"]
        assert [r["hyperparameters"] for r in confirmed] == [best]
        assert confirmed[0]["seed"] != tuned[0]["seed"]


def test_an_optimum_on_the_edge_extends_the_space_for_all(tmp_path):
    plan = Plan(
        load("booth"),
        (as_arm("adagrad"), as_arm("adam")),
        Budget("steps", 30),
        trials=4,
        seeds=(1,),
        defaults=False,
    )
    records = conduct(plan, tmp_path, executor=Inline())
    extra = [r for r in records.runs if r["round"] > 0]
    assert extra, "30 steps are few: the largest rate wins"
    by_label = {label: sum(r["optimizer"] == label for r in extra) for label in ("adagrad", "adam")}
    assert by_label["adagrad"] == by_label["adam"]
    for label in by_label:
        high = plan.space(label)["lr"].high
        assert max(r["hyperparameters"]["lr"] for r in extra if r["optimizer"] == label) > high


class Deadly(nn.Module):
    """Kills its own process the first time it is trained at all."""

    def __init__(self, flag):
        super().__init__()
        self.flag = flag
        self.layer = nn.Linear(2, 1)

    def forward(self, x):
        if self.training:
            with contextlib.suppress(FileExistsError):  # of two workers, one is the first
                Path(self.flag).touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return self.layer(x)


def regression(model):
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    return Problem("regression", model, nn.functional.mse_loss, data=(x, x.sum(1, keepdim=True)))


def test_a_killed_worker_costs_only_its_own_run(tmp_path):
    flag = str(tmp_path / "flag")
    problem = regression(lambda: Deadly(flag))
    Path(flag).touch()  # the parent looks at the problem too
    plan = Plan(problem, (as_arm("sgd"),), Budget("steps", 3), trials=4, seeds=(1,))
    assert plan.problem.fingerprint
    Path(flag).unlink()
    executor = LocalProcesses(2)
    events = list(executor.execute(plan, plan.tuning_runs("sgd"), tmp_path / "study"))
    executor.close()
    assert sorted(e.run.trial for e in events if e.kind == "done") == [0, 1, 2, 3]
    retried = [load_run(tmp_path / "study", run.id)["retried"] for run in plan.tuning_runs("sgd")]
    assert sorted(retried) == [0, 0, 0, 1]


def test_a_model_that_raises_is_one_clear_message_and_keeps_the_rest(tmp_path):
    class Fragile(nn.Linear):
        def forward(self, x):
            if self.weight.abs().max() > 50:
                raise ArithmeticError("the weights ran away")
            return super().forward(x)

    problem = regression(lambda: Fragile(2, 1))
    plan = Plan(problem, (as_arm("sgd"),), Budget("steps", 60), trials=8, seeds=(1,))
    for executor in (Inline(), LocalProcesses(1)):
        folder = tmp_path / type(executor).__name__
        with pytest.raises(RuntimeError, match="ArithmeticError: the weights ran away") as caught:
            conduct(plan, folder, executor=executor)
        assert "runs failed" in str(caught.value)
        assert 0 < len(list(folder.glob("runs/*/result.json"))) < 8


def test_a_worker_that_cannot_start_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    plan = booth()
    with pytest.raises(RuntimeError, match="could not start"):
        list(LocalProcesses(1).execute(plan, plan.tuning_runs("sgd"), tmp_path))


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="holds no study"):
        conduct(booth(), tmp_path, executor=Inline())
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_results_of_another_problem_are_not_mixed_in(tmp_path):
    conduct(booth(), tmp_path, executor=Inline())
    other = Plan(load("beale"), booth().arms, Budget("steps", 10), trials=2, seeds=(1,))
    with pytest.raises(FileExistsError, match="not comparable"):
        conduct(other, tmp_path, executor=Inline())


def test_records_are_written_whole(tmp_path):
    path = tmp_path / "runs" / "x" / "result.json"
    write_json(path, {"loss": float("nan"), "list": [1.0, float("inf")]})
    assert json.loads(path.read_text()) == {"loss": None, "list": [1.0, None]}

    class Unwritable:
        pass

    with pytest.raises(TypeError):
        write_json(path, {"loss": Unwritable()})
    assert json.loads(path.read_text())["loss"] is None, "the old file is still there, whole"
    with pytest.raises(FileNotFoundError, match="no study here"):
        read(tmp_path)


def test_a_run_as_plain_data_comes_back():
    run = Run("adam", {"lr": 0.1}, "tune", 0, 3, 0, "5f")
    assert Run(**json.loads(json.dumps(run.as_dict()))) == run


@pytest.mark.parametrize(
    ("kills", "workers"), [((3,), 1), pytest.param((1, 5), 2, marks=pytest.mark.slow)]
)
def test_sigkill_in_the_middle_loses_nothing(kills, workers, tmp_path):
    """The command line, killed at moments of its own, against one left in peace."""
    arguments = ["compare", "digits-logistic", "--optimizers", "sgd,adam", "--steps", "40"]
    arguments += [
        "--trials",
        "3",
        "--seeds",
        "2",
        "--no-defaults",
        "--workers",
        str(workers),
        "--json",
    ]
    arguments += ["--no-landscape"]  # drawn afterwards, from what was kept
    environment = {**os.environ, "PYTHONPATH": SRC}

    def start(folder):
        command = [sys.executable, "-m", "thalweg.cli", *arguments, "--out", str(folder)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, env=environment, **streams)

    peace, war = tmp_path / "peace", tmp_path / "war"
    undisturbed = start(peace)
    finished: dict[Path, int] = {}
    for wanted in kills:
        process = start(war)
        while len(list(war.glob("runs/*/result.json"))) < wanted and process.poll() is None:
            time.sleep(0.01)
        with process:
            process.send_signal(signal.SIGKILL)
        now = {p: p.stat().st_mtime_ns for p in war.glob("runs/*/result.json")}
        assert finished.items() <= now.items(), "no finished run was lost or done again"
        finished = now
    with start(war) as last, undisturbed:
        out = last.stdout.read()
    assert undisturbed.returncode == last.returncode == 0
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    assert numbers(war) == numbers(peace)
    assert json.loads(out)["rows"]
