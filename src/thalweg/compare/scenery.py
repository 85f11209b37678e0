"""The landscape of a finished race: around the winner's solution, with the baseline's path too.

The winner and the baseline (the first other optimizer that was listed) are run once more on one
fresh seed, as they ran in the race, and their paths are recorded. The loss is measured in the plane
in which both vary most, on a part of the training samples. All is kept in the study's folder, in
``landscape/``, so that the report needs nothing else and the same study run again does nothing. No
record of the study is touched.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.landscape import Recording, Surface, Trajectory, plane, thinned, walks_axes
from thalweg.problems import Problem
from thalweg.problems.streams import generator
from thalweg.study import Budget, Plan, Records, Run, Summary
from thalweg.study.records import write_json
from thalweg.study.training import train


__all__ = ["FOLDER", "Scenery"]

FOLDER = "landscape"
SURFACE = "surface.npz"
RESOLUTION = 25
SAMPLES = 512
POINTS = 100  # of a path
_CHUNK = 512
_SAME = 1e-3  # relative: a re-run that ends farther from its record is said to differ


@final
class Scenery:
    """The landscape of a study.

    Args:
        plan: The race.
        folder: The study's folder.
        resolution: Points along each axis.
        samples: Training samples on which the loss is measured, at most.

    Example:
        >>> Scenery.place("study").as_posix()
        'study/landscape/surface.npz'
    """

    def __init__(
        self, plan: Plan, folder: Path, *, resolution: int = RESOLUTION, samples: int = SAMPLES
    ) -> None:
        self.plan, self.folder = plan, folder / FOLDER
        self.resolution, self.samples = resolution, samples

    @staticmethod
    def place(folder: str | Path) -> Path:
        """Where a study keeps its surface."""
        return Path(folder) / FOLDER / SURFACE

    def measure(self, records: Records, summary: Summary, *, progress: bool = False) -> str:
        """Do what is missing.

        Args:
            records: The study's.
            summary: Its results.
            progress: Whether progress is shown.

        Returns:
            Why there is no landscape; empty where there is one.
        """
        problem = self.plan.problem
        if problem.data is None:
            return "a function of two variables is drawn as it is"
        chosen = _chosen(records, summary)
        if not chosen:
            return "no fresh run of the winner finished"
        wanted = {
            "runs": [run["id"] for run in chosen],
            "resolution": self.resolution,
            "samples": min(self.samples, len(problem.data.train[0])),
        }
        if self._is_there(wanted):
            return ""
        self.folder.mkdir(parents=True, exist_ok=True)
        walks = {run["optimizer"]: self._walk(run) for run in chosen}
        surface = self._surface(walks, wanted, progress=progress)
        surface.meta["study"] = {
            **wanted,
            "seed": chosen[0]["seed"],
            "best": chosen[0]["optimizer"],
            "baseline": chosen[1]["optimizer"] if len(chosen) > 1 else None,
            "differs": self._differences(chosen),
        }
        surface.save(self.folder / SURFACE)
        (self.folder / "surface.partial").unlink(missing_ok=True)
        return ""

    def _is_there(self, wanted: dict[str, Any]) -> bool:
        try:
            meta = Surface.load(self.folder / SURFACE).meta.get("study", {})
        except (OSError, ValueError, KeyError):
            return False
        return {name: meta.get(name) for name in wanted} == wanted

    def _walk(self, record: dict[str, Any]) -> Recording:
        """The path of a run, recorded now if it is not there whole."""
        place = self.folder / "paths" / record["id"]
        if not (place / "end.json").is_file():
            shutil.rmtree(place, ignore_errors=True)
            every = max(1, int(record["curve"]["step"][-1]) // POINTS)
            again = _again(self.plan, record, place, every)
            write_json(place / "end.json", {"final": again["final"], "status": again["status"]})
        return thinned(Recording.load(place), POINTS)

    def _surface(
        self, walks: dict[str, Recording], wanted: dict[str, Any], *, progress: bool
    ) -> Surface:
        problem = self.plan.problem
        model = problem.build(self.plan.seeds[0]).eval()
        loss = problem.objective(model).over(_part(problem, wanted["samples"]))
        metric = problem.metric
        named = ["accuracy"] if metric is not None and metric.name == "accuracy" else []
        return plane(
            loss,
            walks_axes(loss, walks),
            resolution=self.resolution,
            metrics=named,
            paths=walks,
            store=self.folder / "surface.partial",
            progress=progress,
        )

    def _differences(self, chosen: Sequence[dict[str, Any]]) -> list[str]:
        """The optimizers whose re-run did not end where their record did."""
        found = []
        for record in chosen:
            end = json.loads((self.folder / "paths" / record["id"] / "end.json").read_text())
            now, then = end["final"]["train_loss"], record["final"]["train_loss"]
            if now is None or then is None or abs(now - then) > _SAME * max(abs(then), 1e-12):
                found.append(record["optimizer"])
        return found


def _chosen(records: Records, summary: Summary) -> list[dict[str, Any]]:
    """The records of the winner and of the baseline on the first fresh seed that both finished."""
    best = summary.verdict.best
    others = [entry["label"] for entry in records.study["optimizers"] if entry["label"] != best]

    def fresh(label: str | None) -> dict[int, dict[str, Any]]:
        return {
            run["seed"]: run
            for run in records.runs
            if run["optimizer"] == label
            and run["stage"] == "confirm"
            and run["status"] == "finished"
        }

    mine = fresh(best)
    for label in others:
        theirs = fresh(label)
        if shared := sorted(mine.keys() & theirs.keys()):
            return [mine[shared[0]], theirs[shared[0]]]
    return [mine[min(mine)]] if mine else []


def _again(plan: Plan, record: dict[str, Any], place: Path, every: int) -> dict[str, Any]:
    """Run as in the race, with one thread as there, and record the path."""
    run = Run(**{name: record[name] for name in _RUN})
    threads = torch.get_num_threads()

    @contextmanager
    def watch(model: nn.Module, optimizer: Optimizer) -> Iterator[None]:
        with Trajectory(optimizer, every, params=model, folder=place):
            yield

    torch.set_num_threads(1)
    try:
        budget = Budget(record["budget"]["kind"], record["budget"]["amount"])
        # "tune": the test data are not read again.
        return train(
            plan.problem, plan.arm(run.arm), replace(run, stage="tune"), budget, watch=watch
        )
    finally:
        torch.set_num_threads(threads)


_RUN = ("arm", "hyperparameters", "stage", "seed", "trial", "round", "id", "schedule")


def _part(problem: Problem, count: int) -> list[tuple[Tensor, Tensor]]:
    assert problem.data is not None
    inputs, targets = problem.data.train
    draws = generator(0, "landscape")
    chosen = torch.randperm(len(inputs), generator=draws)[:count].sort().values
    x, y = inputs[chosen], targets[chosen]
    return list(zip(x.split(_CHUNK), y.split(_CHUNK), strict=True))
