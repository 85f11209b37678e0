"""Carry out a plan: tune, extend spaces whose edge won, confirm on fresh seeds; fill gaps only."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, final

from thalweg.study.executor import Event, Executor
from thalweg.study.plan import FORMAT, Plan, Run
from thalweg.study.processes import LocalProcesses
from thalweg.study.provenance import describe_problem, machine, versions
from thalweg.study.records import Records, load_run, read, write_json
from thalweg.study.space import edges


__all__ = ["conduct"]

ROUNDS = 2
Listener = Callable[[str, Sequence[Run], Event | None], None]


def conduct(
    plan: Plan,
    folder: Path,
    *,
    executor: Executor | None = None,
    command: str = "",
    listener: Listener | None = None,
) -> Records:
    """Run what is missing of a plan, and return all of it.

    Args:
        plan: The race.
        folder: Where records go: ``study.json`` and ``runs/``.
        executor: Where runs happen. Default: :class:`LocalProcesses`.
        command: What a reader would type to get this, for the report.
        listener: Called with each stage's runs at its start, and with each event.

    Returns:
        The study as its folder holds it.

    Raises:
        FileExistsError: If the folder holds something else.
        RuntimeError: If a run fails for good (its own code raises, or its worker dies thrice).
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check_folder(folder, plan)
    executor = executor or LocalProcesses()
    try:
        _Race(plan, folder, executor, command, listener or _silent).run()
    finally:
        executor.close()
    return read(folder)


def _check_folder(folder: Path, plan: Plan) -> None:
    """Refuse a folder that holds something else, or results of another problem."""
    if not (folder / "study.json").exists():
        if any(folder.iterdir()):
            raise FileExistsError(
                f"{folder} is not empty and holds no study; choose another folder."
            )
        return
    before, now = read(folder).study["problem"], plan.problem
    if before["fingerprint"] != now.fingerprint:
        raise FileExistsError(
            f"{folder} holds results of another problem, or of another version of it "
            f"({before['name']} {before['fingerprint'][:12]}; this is {now.name} "
            f"{now.fingerprint[:12]}). They are not comparable; choose another folder."
        )


def selection_loss(record: dict[str, Any]) -> float:
    """What a trial is judged by: the final validation loss (f itself for functions)."""
    final = record["final"]
    if record["status"] != "finished":
        return math.inf
    chosen = final["train_loss"] if record["path"] is not None else final["validation_loss"]
    return math.inf if chosen is None else chosen


@final
class _Race:
    """The stages of a plan, in order."""

    def __init__(
        self, plan: Plan, folder: Path, executor: Executor, command: str, listener: Listener
    ) -> None:
        self.plan, self.folder, self.executor = plan, folder, executor
        self.command, self.listener = command, listener
        self.labels = [arm.label for arm in plan.arms]
        self.runs: list[Run] = []

    def run(self) -> None:
        """Carry out every stage."""
        self._stage("tuning", (r for label in self.labels for r in self.plan.tuning_runs(label)))
        extensions: dict[tuple[str, str], int] = {}
        for round_ in range(1, ROUNDS + 1):
            sides = sorted({side for label in self.labels for side in self._edges(label)})
            if not sides:
                break
            self._stage(f"extension {round_}", self._extend(sides, extensions, round_))
        plan = self.plan
        fresh = []
        for label in self.labels:
            best = self._best(label)
            schedule = best.get("schedule", "constant")
            fresh += plan.fresh_runs(label, best["hyperparameters"], schedule)
        if plan.defaults:
            fresh += [r for label in self.labels for r in plan.fresh_runs(label, None)]
        self._stage("fresh seeds", fresh)

    def _extend(
        self, sides: list[tuple[str, str]], extensions: dict[tuple[str, str], int], round_: int
    ) -> list[Run]:
        """New trials beyond the edges on which an optimum sat: as many for every arm."""
        added: list[Run] = []
        for axis, side in sides:
            rounds = extensions.get((axis, side), 0)
            first = self.plan.trials + self.plan.extra * sum(extensions.values())
            for label in self.labels:
                added += self.plan.extension_runs(label, axis, side, rounds, first, round_)
            extensions[axis, side] = rounds + 1
        return added

    def _stage(self, name: str, runs: Iterable[Run]) -> None:
        stage = list(runs)
        self.runs += stage
        self._write_study()
        there = {run.id: load_run(self.folder, run.id) for run in stage}
        missing = [run for run in stage if there[run.id] is None]
        self.listener(name, stage, None)
        for run in stage:
            if (record := there[run.id]) is not None:
                self.listener(name, stage, Event("kept", run, loss=selection_loss(record)))
        failed: list[Event] = []
        for event in self.executor.execute(self.plan, missing, self.folder):
            self.listener(name, stage, event)
            if event.kind == "failed":
                failed.append(event)
        if failed:
            first = failed[0]
            raise RuntimeError(
                f"{len(failed)} of {len(missing)} runs failed, the first of them {first.run.arm} "
                f"at {dict(first.run.hyperparameters)}: {first.message}. Finished runs are kept in "
                f"{self.folder}."
            )

    def _tuned(self, label: str) -> list[dict[str, Any]]:
        runs = [run for run in self.runs if run.arm == label and run.stage == "tune"]
        found = [load_run(self.folder, run.id) for run in runs]
        return [record for record in found if record is not None]

    def _best(self, label: str) -> dict[str, Any]:
        return min(self._tuned(label), key=selection_loss)

    def _edges(self, label: str) -> set[tuple[str, str]]:
        tried = self._tuned(label)
        if all(math.isinf(selection_loss(record)) for record in tried):
            return {(axis, "low") for axis, r in self.plan.space(label).items() if r.log}
        points = [record["hyperparameters"] for record in tried]
        return edges(self._best(label)["hyperparameters"], points, self.plan.space(label))

    def _write_study(self) -> None:
        plan, problem = self.plan, self.plan.problem
        content = {
            "format": FORMAT,
            "command": self.command,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "problem": describe_problem(problem, plan.tuning_seed),
            "optimizers": [arm.describe(problem.scale) for arm in plan.arms],
            "budget": {"kind": plan.budget.kind, "amount": plan.budget.amount},
            "schedule": plan.schedule,
            "trials": plan.trials,
            "seeds": list(plan.seeds),
            "tuning_seed": plan.tuning_seed,
            "selection": "train_loss" if problem.data is None else "validation_loss",
            "machine": machine(),
            "versions": versions(),
            "threads": 1,
            "clock": "processor seconds",
            "runs": [run.id for run in self.runs],
        }
        write_json(self.folder / "study.json", content)


def _silent(stage: str, runs: Sequence[Run], event: Event | None) -> None:
    del stage, runs, event
