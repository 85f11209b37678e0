"""Where runs happen: an executor takes runs and yields events.

This one works in the calling process; a cluster is another class with the same two methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

from thalweg.study.plan import Plan, Run
from thalweg.study.records import write_json
from thalweg.study.training import train


__all__ = ["Event", "Executor", "Inline", "carry_out"]


@final
@dataclass(frozen=True)
class Event:
    """Something that happened to a run.

    Args:
        kind: ``"progress"``, ``"done"`` (its record is on disk), ``"kept"`` (it was there before)
            or ``"failed"``.
        run: The run.
        spent: The share of its budget that is used.
        loss: Its last loss by which trials are chosen.
        message: Why it failed.

    Example:
        >>> Event("done", Run("adam", {}, "tune", 0, 0, 0, "5f")).spent
        1.0
    """

    kind: str
    run: Run
    spent: float = 1.0
    loss: float | None = None
    message: str | None = None


class Executor(Protocol):
    """Whatever can carry out runs."""

    def execute(self, plan: Plan, runs: Sequence[Run], folder: Path) -> Iterator[Event]:
        """Carry out the runs, each record into its own folder, in any order."""
        ...

    def close(self) -> None:
        """Let go of what is kept from one stage of a plan to the next."""
        ...


def carry_out(plan: Plan, run: Run, folder: Path, tick: Any, retried: int = 0) -> None:
    """Train and write the record; an error in the caller's own code is a record too."""
    arm = plan.arm(run.arm)
    record = train(plan.problem, arm, run, plan.budget, tick)
    write_json(folder / "runs" / run.id / "result.json", {**record, "retried": retried})


@final
class Inline:
    """Run in this process, one after the other: for debugging, and inside other tools.

    Example:
        >>> Inline()
        Inline()
    """

    def __repr__(self) -> str:
        return "Inline()"

    def execute(self, plan: Plan, runs: Sequence[Run], folder: Path) -> Iterator[Event]:
        """Carry out the runs here."""
        for run in runs:
            ticks: list[tuple[float, float]] = []
            try:
                carry_out(plan, run, folder, lambda spent, loss: ticks.append((spent, loss)))  # noqa: B023
            except Exception as error:  # the caller's model may raise anything
                yield Event("failed", run, message=f"{type(error).__name__}: {error}")
                continue
            yield from (Event("progress", run, spent, loss) for spent, loss in ticks[-1:])
            yield Event("done", run)

    def close(self) -> None:
        """Nothing is kept."""
