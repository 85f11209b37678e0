"""A race between optimizers on one problem, from the question to the report."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, final

from rich.console import Console
from rich.text import Text
from torch.optim import Optimizer

from thalweg.compare.live import Live
from thalweg.compare.places import open_problem
from thalweg.compare.scenery import FOLDER, Scenery
from thalweg.errors import bad_argument, integer_from
from thalweg.problems import Problem
from thalweg.report import write_report
from thalweg.study import (
    Arm,
    Budget,
    Executor,
    LocalProcesses,
    Plan,
    Records,
    Summary,
    as_arm,
    conduct,
    default_arms,
    read,
    summarize,
)


__all__ = ["Study"]


@final
class Study:
    """A fair race between optimizers: the same tuning for each, then fresh seeds.

    Every optimizer gets ``trials`` points of its own search space; the one with the lowest
    validation loss is run again on fresh ``seeds``, shared by all, and only those runs read the
    test data. Finished runs are kept in ``out``: the same study run again does what is missing.

    Args:
        problem: A :class:`~thalweg.problems.Problem`, the name of a built-in one, or the path of a
            Python file whose ``problem()`` returns one.
        optimizers: Names (``"adam"``, ``"sgd:momentum=0.9"``, ``"torch.optim.NAdam"``), optimizer
            classes or :class:`~thalweg.study.Arm` objects. Default: the methods raced by
            ``thalweg compare``.
        budget: The length of a run: a number of steps or a :class:`~thalweg.study.Budget`.
            Default: the problem's own.
        trials: Tuning trials for each optimizer, >= 1.
        seeds: Fresh seeds for each winner: how many, or which.
        defaults: Whether each optimizer is also run at its own default hyper-parameters.
        schedule: The learning rate over a run, the same for all: ``"constant"``, ``"cosine"``,
            ``"linear"`` (both after a warm-up) or ``"step"``; or ``"tuned"``: each trial draws one
            of the four, and each optimizer's fresh seeds keep its winner's.
        out: The folder of the records and the report. Default: ``thalweg-out/<problem>``.

    Raises:
        ValueError: If a name is unknown or an argument outside its range.

    Example:
        >>> import tempfile
        >>> from thalweg.study import Inline
        >>> out = tempfile.mkdtemp()
        >>> study = Study("booth", ["sgd", "adam"], budget=20, trials=2, out=out)
        >>> summary = study.run(progress=False, executor=Inline())
        >>> study.report().name
        'report.html'
    """

    def __init__(
        self,
        problem: Problem | str = "digits",
        optimizers: Iterable[str | type[Optimizer] | Arm] | None = None,
        *,
        budget: int | Budget | None = None,
        trials: int = 8,
        seeds: int | Sequence[int] = 5,
        defaults: bool = True,
        schedule: str = "constant",
        out: str | Path | None = None,
    ) -> None:
        if isinstance(problem, str):
            problem = open_problem(problem)
        if not isinstance(problem, Problem):
            raise TypeError(f"Study(problem=...): a Problem or a name is needed, got {problem!r}.")
        arms = default_arms() if optimizers is None else [as_arm(given) for given in optimizers]
        if not isinstance(budget, Budget):
            budget = Budget("steps", problem.steps if budget is None else budget)
        self.plan = Plan(
            problem,
            tuple(arms),
            budget,
            trials=trials,
            seeds=_seeds(seeds, deterministic=problem.function is not None),
            defaults=defaults,
            schedule=schedule,
        )
        self.out = Path("thalweg-out", problem.name) if out is None else Path(out)

    def run(
        self,
        *,
        progress: bool = True,
        command: str = "",
        executor: Executor | None = None,
        landscape: bool = True,
    ) -> Summary:
        """Do what is missing of the race.

        Args:
            progress: Whether to show a live table on standard error.
            command: What to type to get this study, for the report.
            executor: Where runs happen. Default: worker processes on this machine, one a core.
            landscape: Whether the winner and the baseline (the first other optimizer of the list)
                are run once more on one fresh seed, to record their paths for a picture of the
                loss around the solution. No number of the study depends on it.

        Returns:
            The results: a verdict in words and a row for each optimizer.

        Raises:
            ValueError: If the problem does not train at all (:meth:`Problem.check`), or the folder
                holds a study of another problem.
            FileExistsError: If the folder holds something else.
            RuntimeError: If runs fail for good; finished ones are kept.
        """
        self.plan.problem.check()
        executor = executor or LocalProcesses()
        with Live(self.plan, shown=progress, workers=getattr(executor, "workers", 1)) as live:
            conduct(self.plan, self.out, executor=executor, command=command, listener=live.hear)
        summary = self.summary()
        if landscape:
            self._landscape(summary, progress=progress)
        return summary

    def _landscape(self, summary: Summary, *, progress: bool) -> None:
        """The picture around the solution; a race is not lost because there is none."""
        console = Console(stderr=True, quiet=not progress)
        with console.status("landscape around the solution"):
            try:
                why = Scenery(self.plan, self.out).measure(self.records(), summary)
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
                why = f"{type(error).__name__}: {error}"
        if why and self.plan.problem.data is not None:
            console.print(Text(f"no landscape: {why}", style="dim"))

    def records(self) -> Records:
        """The study and its finished runs, as plain data."""
        return read(self.out)

    def summary(self) -> Summary:
        """The results so far."""
        records = self.records()
        return summarize(records.study, records.runs)

    def report(self, folder: str | Path | None = None) -> Path:
        """Write the report: HTML, figures as PNG and SVG, and summary.csv.

        Args:
            folder: Where; the records are copied along. Default: the study's own folder.

        Returns:
            The HTML file.
        """
        target = self.out if folder is None else Path(folder)
        if target.resolve() != self.out.resolve():
            shutil.copytree(self.out / "runs", target / "runs", dirs_exist_ok=True)
            if Scenery.place(self.out).is_file():
                (target / FOLDER).mkdir(parents=True, exist_ok=True)
                shutil.copy2(Scenery.place(self.out), Scenery.place(target))
            shutil.copy2(self.out / "study.json", target / "study.json")
        records = self.records()
        return write_report(target, records.study, records.runs)[0]


def _seeds(seeds: int | Sequence[int], *, deterministic: bool) -> tuple[int, ...]:
    """The fresh seeds; one is enough where nothing is drawn."""
    if isinstance(seeds, int):
        integer_from(1).check("Study", "seeds", seeds)
        chosen: tuple[Any, ...] = tuple(range(1, seeds + 1))
    else:
        chosen = tuple(seeds)
        if not chosen or not all(integer_from(0).contains(seed) for seed in chosen):
            raise bad_argument("Study", "seeds", seeds, "a number of seeds, or integers >= 0")
    return chosen[:1] if deterministic else chosen
