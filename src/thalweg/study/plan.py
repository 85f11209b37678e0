"""What is to be run: deterministic, and named by what defines it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from thalweg.errors import bad_argument, integer_from
from thalweg.optim import Range
from thalweg.problems import Problem
from thalweg.study.arms import Arm
from thalweg.study.budget import Budget
from thalweg.study.schedule import SCHEDULES, TUNED, check_schedule
from thalweg.study.space import drawn_schedule, extended, point


__all__ = ["Plan", "Run"]

FORMAT = 1


@final
@dataclass(frozen=True)
class Run:
    """One training run, as plain data.

    Args:
        arm: The label of its arm.
        hyperparameters: The point of the arm's space; empty at the method's own defaults.
        stage: ``"tune"``, ``"confirm"`` or ``"default"``.
        seed: Of the initial weights and of the order of the data.
        trial: The index of the tuning trial.
        round: 0, or the round of extension in which the trial was added.
        id: The hash of everything that defines the run.
        schedule: The learning rate over the run.

    Example:
        >>> Run("adam", {"lr": 0.1}, "tune", 0, 3, 0, "5f").as_dict()["trial"]
        3
    """

    arm: str
    hyperparameters: Mapping[str, float]
    stage: str
    seed: int
    trial: int | None
    round: int
    id: str
    schedule: str = "constant"

    def as_dict(self) -> dict[str, Any]:
        """The run as plain data."""
        return {**vars(self), "hyperparameters": dict(self.hyperparameters)}


@final
@dataclass(frozen=True)
class Plan:
    """A fair race, stated before anything runs.

    Args:
        problem: What is to be solved.
        arms: Who races; labels are unique.
        budget: The length of every run.
        trials: Tuning trials for each arm, >= 1.
        seeds: Fresh seeds on which each arm's winner is run again, shared by all arms.
        tuning_seed: The seed of every tuning run and of the trials' sequences; not among ``seeds``.
        defaults: Whether each arm is also run at its own default hyper-parameters.
        schedule: The learning rate over a run; ``"tuned"``: each trial draws its own, the same for
            every arm, and the winner's is kept for the fresh seeds. Defaults then run at a constant
            rate.

    Raises:
        ValueError: If there is no arm, a label twice, seeds that overlap, or no such schedule.

    Example:
        >>> from thalweg.problems import load
        >>> from thalweg.study.arms import default_arms
        >>> plan = Plan(load("rosenbrock"), tuple(default_arms()), Budget("steps", 100))
        >>> len(plan.tuning_runs("adam"))
        8
    """

    problem: Problem
    arms: tuple[Arm, ...]
    budget: Budget
    trials: int = 8
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    tuning_seed: int = 0
    defaults: bool = True
    schedule: str = "constant"

    def __post_init__(self) -> None:
        labels = [arm.label for arm in self.arms]
        if not labels or len(set(labels)) < len(labels):
            raise bad_argument(
                "Plan", "arms", labels, "one or more optimizers with different labels"
            )
        integer_from(1).check("Plan", "trials", self.trials)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise bad_argument("Plan", "seeds", self.seeds, "one or more different integers")
        check_schedule("Plan", self.schedule)
        if self.tuning_seed in self.seeds:
            allowed = f"different from the tuning seed {self.tuning_seed}: fresh seeds only"
            raise bad_argument("Plan", "seeds", self.seeds, allowed)

    def arm(self, label: str) -> Arm:
        """The arm of that label."""
        return next(arm for arm in self.arms if arm.label == label)

    def space(self, label: str) -> dict[str, Range]:
        """An arm's axes, with the problem's scale in the learning rate."""
        scale = self.problem.scale
        return {
            name: Range(r.low * scale, r.high * scale, r.log) if name == "lr" else r
            for name, r in self.arm(label).space.items()
        }

    @property
    def extra(self) -> int:
        """Trials that one extension of the space gives to each arm."""
        return max(1, self.trials // 4)

    def tuning_runs(self, label: str) -> list[Run]:
        """The trials of an arm in its own space."""
        space, count = self.space(label), self.trials
        if not space:  # with a schedule to choose, each of them once
            count = min(count, len(SCHEDULES)) if self.schedule == TUNED else 1
        return [self._trial(label, space, i) for i in range(count)]

    def extension_runs(
        self, label: str, axis: str, side: str, rounds: int, first: int, round_: int
    ) -> list[Run]:
        """The trials that an extension adds to an arm; none where it has no such axis."""
        space = self.space(label)
        if axis not in space:
            return []
        box = extended(space, axis, side, rounds)
        return [self._trial(label, box, i, round_) for i in range(first, first + self.extra)]

    def fresh_runs(
        self, label: str, best: Mapping[str, float] | None, schedule: str = "constant"
    ) -> list[Run]:
        """The winner on the fresh seeds; without one, the method's own defaults.

        ``schedule`` is the winner's, where schedules are tuned.
        """
        stage = "default" if best is None else "confirm"
        if self.schedule != TUNED:
            schedule = self.schedule
        return [self._run(label, best or {}, stage, seed, schedule) for seed in self.seeds]

    def _trial(self, label: str, box: Mapping[str, Range], index: int, round_: int = 0) -> Run:
        """Trial ``index`` of an arm, in a box: its point, and its schedule where that is tuned."""
        seed, tuned = self.tuning_seed, self.schedule == TUNED
        schedule = drawn_schedule(index, seed) if tuned else self.schedule
        values = point(box, index, seed, label, skip=int(tuned))
        return self._run(label, values, "tune", seed, schedule, trial=index, round_=round_)

    def _run(
        self,
        label: str,
        hyperparameters: Mapping[str, float],
        stage: str,
        seed: int,
        schedule: str,
        *,
        trial: int | None = None,
        round_: int = 0,
    ) -> Run:
        arm = self.arm(label)
        defining = {
            "format": FORMAT,
            "problem": self.problem.fingerprint,
            "label": label,
            "class": arm.path,
            "settings": {k: repr(v) for k, v in sorted(arm.settings.items())},
            "hyperparameters": dict(sorted(hyperparameters.items())),
            "stage": stage,
            "seed": seed,
            "budget": [self.budget.kind, self.budget.amount],
            "schedule": schedule,
        }
        digest = hashlib.sha256(json.dumps(defining, sort_keys=True).encode()).hexdigest()
        return Run(label, dict(hyperparameters), stage, seed, trial, round_, digest[:16], schedule)
