"""One run: train a fresh model under a budget, look at it on a grid, say what came of it."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, final

import torch
from torch import nn
from torch.optim import Optimizer

from thalweg.errors import NonFiniteError
from thalweg.objective import Closure
from thalweg.optim.deterministic import AbstractDeterministic
from thalweg.problems import Problem
from thalweg.study.arms import Arm
from thalweg.study.budget import Budget
from thalweg.study.looks import Looks
from thalweg.study.plan import FORMAT, Run
from thalweg.study.schedule import Schedule


__all__ = ["train"]

GRID = 21  # evaluations of a run, the start and the end included
FAR = 1e6  # a loss this many times its start has diverged, though it is finite still

# Processor time, all of one thread: runs beside each other do not slow each other's clock.
_clock = time.process_time

Tick = Callable[[float, float], None]
Watch = Callable[[nn.Module, Optimizer], AbstractContextManager[Any]]


def train(
    problem: Problem,
    arm: Arm,
    run: Run,
    budget: Budget,
    tick: Tick | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Train once and return the record.

    Args:
        problem: What is to be solved.
        arm: The optimizer.
        run: The point, the schedule, the seed and the stage; test data is read in fresh-seed stages
            only.
        budget: When to stop.
        tick: Called at each evaluation with the share of the budget used and the loss by which
            trials are chosen.
        watch: Makes a context from the model and its optimizer, in which training takes place: for
            a recording of the path.

    Returns:
        The record of the run, as plain data. A run that diverges is a result like any other.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)  # dropout and other noise inside the model
        training = _Training(problem, arm, run)
        watching = nullcontext() if watch is None else watch(training.model, training.optimizer)
        with watching:
            message = training.follow(problem.batches(run.seed), budget, tick or _silent)
        looks = training.looks
        final: dict[str, Any] = {**looks.last, "test_loss": None, "test_metric": None}
        if message is None and run.stage != "tune" and problem.data is not None:
            test = looks.scores("test")
            final |= {"test_loss": test["loss"], "test_metric": test["metric"]}
    return {
        "format": FORMAT,
        **run.as_dict(),
        "problem": problem.name,
        "fingerprint": problem.fingerprint,
        "optimizer": arm.label,
        "class": arm.path,
        "settings": dict(arm.settings),
        "budget": {"kind": budget.kind, "amount": budget.amount},
        "status": "finished" if message is None else "diverged",
        "message": message,
        "curve": looks.curve,
        "final": final,
        "hit": looks.hit,
        "ledger": training.objective.ledger.as_dict(),
        "seconds": training.seconds,
        "retried": 0,
        "path": training.path,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _silent(spent: float, loss: float) -> None:
    del spent, loss


@final
class _Training:
    """The loop of one run, and what it has used so far."""

    def __init__(self, problem: Problem, arm: Arm, run: Run) -> None:
        self.problem = problem
        self.model = problem.build(run.seed)
        began = _clock()
        self.optimizer = arm.build(self.model, run.hyperparameters)
        self.seconds = _clock() - began
        self.schedule = Schedule(run.schedule, self.optimizer)
        self.looks = Looks(problem, self.model, self.optimizer)
        self.objective = problem.objective(self.model)
        self._searches = isinstance(self.optimizer, AbstractDeterministic)
        self._last: tuple[Any, Closure] | None = None
        self.step = 0
        self.path: list[list[float]] | None = None if problem.function is None else []

    def follow(self, batches: Iterator[Any], budget: Budget, tick: Tick) -> str | None:
        """Train until the budget is spent; why the run diverged, or None."""
        start = self._look()
        looked, spent = 0, 0.0
        while spent < 1.0:
            self._remember()
            self.schedule.set(spent, ahead=spent / self.step if self.step else 1e-3)
            loss = self._advance(self._closure(next(batches)))
            if isinstance(loss, str):
                return loss
            if not math.isfinite(loss) or abs(loss) > FAR * (1.0 + abs(start)):
                return f"the loss was {loss:.3g} at step {self.step}"
            gradients = self.objective.ledger.gradients
            spent = budget.spent(step=self.step, evaluations=gradients, seconds=self.seconds)
            if spent * (GRID - 1) >= looked + 1 or spent >= 1.0:
                looked = int(spent * (GRID - 1))
                loss = self._look()
                tick(min(spent, 1.0), self.looks.selection)
                if not math.isfinite(loss):
                    return f"the training loss was {loss:.3g} after step {self.step}"
        self._remember()
        return None

    def _closure(self, batch: Any) -> Closure:
        """The objective on a batch.

        Where batches are all the data, methods that judge their own steps get the same closure each
        time: it is one function, and what they know of it is not asked again.
        """
        if not (self._searches and self._last is not None and self._last[0] is batch[0]):
            self._last = (batch[0], self.objective.closure(*batch))
        return self._last[1]

    def _advance(self, closure: Closure) -> float | str:
        """One timed step; the batch's loss, or what was not finite."""
        step: Any = self.optimizer.step  # torch's own annotation asks closures for floats
        began = _clock()
        try:
            return float(step(closure))
        except NonFiniteError as error:
            return str(error)
        finally:
            self.seconds += _clock() - began
            self.step += 1

    def _look(self) -> float:
        return self.looks.take(self.step, self.seconds, self.objective.ledger.gradients)

    def _remember(self) -> None:
        if self.path is not None:
            self.path.append(next(self.model.parameters()).detach().tolist())
