"""How far a race is: a live table of the best so far and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, final

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from thalweg.report.style import series
from thalweg.study import Event, Plan, Run
from thalweg.study.schedule import TUNED


__all__ = ["Live"]


@final
class _Lane:
    """What is known of one optimizer while the race is on."""

    def __init__(self) -> None:
        self.tuned = self.fresh = self.failed = 0
        self.best = float("inf")
        self.at: dict[str, float] = {}
        self.schedule = ""


@final
class Live:
    """A table that follows the events of a race; a line a stage where there is no terminal.

    Args:
        plan: The race.
        shown: Whether anything is shown.
        workers: How many runs go on at a time.

    Example:
        >>> from thalweg.problems import load
        >>> from thalweg.study import Budget, as_arm
        >>> plan = Plan(load("booth"), (as_arm("sgd"),), Budget("steps", 5))
        >>> with Live(plan, shown=False) as live:
        ...     live.hear("tuning", [], None)
    """

    def __init__(self, plan: Plan, *, shown: bool = True, workers: int = 1) -> None:
        self.plan, self.workers = plan, workers
        self.console = Console(file=sys.stderr, quiet=not shown)
        self.lanes = {arm.label: _Lane() for arm in plan.arms}
        self.trials = plan.trials
        self.fresh = len(plan.seeds) * (2 if plan.defaults else 1)
        self.total = len(plan.arms) * (self.trials + self.fresh)
        self.done = 0
        self.stage = "starting"
        self.started = time.monotonic()
        self.running: dict[str, float] = {}
        self._live = RichLive(
            console=self.console,
            get_renderable=self._render,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def hear(self, stage: str, runs: Sequence[Run], event: Event | None) -> None:
        """Take in a stage's start (no event) or an event of one of its runs."""
        if event is None:
            self.stage = stage
            if stage.startswith("extension"):
                self.total += len(runs)
                self.trials += len(runs) // len(self.lanes)
            if not self.console.is_terminal:
                self.console.print(f"{stage}: {len(runs)} runs")
            return
        lane, run = self.lanes[event.run.arm], event.run
        if event.loss is not None and event.spent >= 1.0 and run.stage == "tune":
            self._best(lane, run, event.loss)
        if event.kind == "progress":
            self.running[run.id] = event.spent
            return
        self.running.pop(run.id, None)
        if event.kind == "kept":
            self.total -= 1  # nothing to wait for
        else:
            self.done += 1
        lane.failed += event.kind == "failed"
        lane.tuned += run.stage == "tune"
        lane.fresh += run.stage != "tune"

    def _best(self, lane: _Lane, run: Run, loss: float) -> None:
        if loss < lane.best:
            lane.best, lane.at = loss, dict(run.hyperparameters)
            lane.schedule = run.schedule if self.plan.schedule == TUNED else ""

    def _left(self) -> str:
        """The time left, from what the runs so far took."""
        done = self.done + sum(self.running.values())
        share = self.done / max(1, self.total)
        if done < 2:
            return "estimating the time left"
        seconds = (time.monotonic() - self.started) / done * max(0.0, self.total - self.done)
        minutes, rest = divmod(round(seconds), 60)
        left = f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
        return f"{share:.0%}, about {left} left"

    def _render(self) -> Group:
        plan = self.plan
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("optimizer")
        loss = "best f" if plan.problem.data is None else "best validation loss"
        for title in ("trials", "fresh", loss):
            table.add_column(title, justify="right")
        table.add_column("at")
        best = min(lane.best for lane in self.lanes.values())
        for label, lane in self.lanes.items():
            shown = "-" if lane.best == float("inf") else f"{lane.best:.4g}"
            values = [f"{name} {value:.3g}" for name, value in lane.at.items()]
            at = ", ".join([*values, lane.schedule] if lane.schedule else values)
            table.add_row(
                Text(f"● {label}", style=series(label).colour),
                f"{lane.tuned}/{self.trials}",
                f"{lane.fresh}/{self.fresh}",
                Text(shown, style="bold" if lane.best == best else ""),
                Text(at, style="dim"),
            )
        head = Text.assemble(
            (f"{plan.problem.name}", "bold"),
            f", {plan.budget} a run, {self.workers} at a time: {self.stage}",
        )
        bar = ProgressBar(total=max(1, self.total), completed=self.done, width=40)
        return Group(head, table, bar, Text(self._left(), style="dim"))
