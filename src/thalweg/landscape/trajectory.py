"""The path of an optimizer, recorded while it walks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.curvature.training_state import undisturbed
from thalweg.errors import bad_argument, integer_from
from thalweg.landscape.recording import (
    PRECISIONS,
    DiskRows,
    MemoryRows,
    ReadRows,
    Recording,
    Rows,
)
from thalweg.objective import AbstractClosure, Objective
from thalweg.vectors import Vector


__all__ = ["Trajectory"]

LIMIT: Final = 1000
BUDGET: Final = 2**30  # bytes that the default number of points may take


@final
class Trajectory:
    """Records where an optimizer goes: any of torch's, ours, or one that is stepped by hand.

    An optimizer is followed through its own step hook, so the training loop stays as it is. The
    first point is recorded at once, then one every n steps, and the last one when recording ends or
    is read. Points are kept on the CPU or in a file. When there are as many as may be kept, every
    second is dropped and n is doubled. A step that raises is not counted.

    What is recorded is where the parameters are. Around a method that keeps an average for
    evaluation (``WeightAveraging``, ``Lookahead``) these are the weights that training walks on;
    for the path of the average, say each step inside ``evaluation()``::

        trajectory = Trajectory(model)
        for x, y in batches:
            ...
            optimizer.step()
            with optimizer.evaluation():
                trajectory.step()

    With a folder, a run that was killed goes on recording: where the parameters are those of a
    recorded point, recording goes on from it, else say the step as ``start``.

    Args:
        source: An optimizer; or parameters (a module, an objective, a closure, tensors), and then
            :meth:`step` is to be called after each step.
        every: Steps from one recorded point to the next, at least 1.
        params: Which parameters, in which order: a module, an objective, a closure, tensors.
            Default: the optimizer's own, group by group. A plane wants the order of its closure,
            so pass the model where the groups have another one.
        loss: What the loss at a recorded point is taken from: a closure, whose ``value`` it is, or
            a function without arguments. Training does not notice.
        folder: Where to record to disk; None: in memory.
        limit: The most points that are kept, at least 2. Default: 1000, or as many as fit into a
            gibibyte.
        dtype: What points are kept in: float32, float64, float16 or bfloat16.
        start: The number of steps already taken: of a run that goes on from a checkpoint.

    Raises:
        ValueError: If an argument is outside its range; or the folder's points are of another kind,
            or the parameters are not at any of them and ``start`` is not given.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([4.0]))
        >>> optimizer = torch.optim.SGD([x], lr=0.25)
        >>> with Trajectory(optimizer, every=2, loss=lambda: x**2) as trajectory:
        ...     for _ in range(3):
        ...         x.grad = 2 * x.detach()
        ...         optimizer.step()
        >>> trajectory.steps.tolist(), trajectory.matrix().flatten().tolist()
        ([0, 2, 3], [4.0, 1.0, 0.5])
        >>> trajectory.losses.tolist()
        [16.0, 1.0, 0.25]
    """

    def __init__(
        self,
        source: Any,
        every: int = 1,
        *,
        params: Any = None,
        loss: AbstractClosure | Callable[[], Any] | None = None,
        folder: str | Path | None = None,
        limit: int | None = None,
        dtype: torch.dtype = torch.float32,
        start: int | None = None,
    ) -> None:
        integer_from(1).check("Trajectory", "every", every)
        if dtype not in PRECISIONS:
            allowed = "one of " + ", ".join(map(str, PRECISIONS))
            raise bad_argument("Trajectory", "dtype", dtype, allowed)
        self._optimizer = source if isinstance(source, Optimizer) else None
        self.names, self._params = _parameters(source if params is None else params)
        self._limit = _limit(limit, sum(p.numel() for p in self._params) * dtype.itemsize)
        self._every, self._loss, self._dtype = every, loss, dtype
        self._hook: Any = None
        self._rows: Rows = self._opened(folder)
        self._steps = self._resumed(start) if len(self._rows) else start or 0
        self.attach()

    # ---- recording --------------------------------------------------------------------------
    def attach(self) -> Self:
        """Begin to record, or go on; the point where the parameters are is recorded."""
        if self._optimizer is not None and self._hook is None:
            self._hook = self._optimizer.register_step_post_hook(self._after_step)
        if not len(self._rows):
            self._record()
        return self

    def detach(self) -> None:
        """End recording, with the point where the parameters are as the last."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        if self._rows[-1][0] < self._steps:
            self._record()

    def step(self) -> None:
        """Say that a step has been taken, where no optimizer is followed."""
        self._steps += 1
        if self._steps % self._every == 0:
            self._record(due=True)

    def __enter__(self) -> Self:
        return self.attach()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach()

    # ---- reading ----------------------------------------------------------------------------
    @property
    def recording(self) -> Recording:
        """What has been recorded, and the point where the parameters are now as the last."""
        rows: ReadRows = self._rows
        if rows[-1][0] < self._steps:
            rows = _Extended(rows, (self._steps, self._loss_here(), self._here()))
        return Recording(rows, [tuple(p.shape) for p in self._params], self.names)

    @property
    def steps(self) -> np.ndarray:
        """(T,) the number of steps that had been taken at each point."""
        return self.recording.steps

    @property
    def losses(self) -> np.ndarray:
        """(T,) the loss at each point; NaN where none was given."""
        return self.recording.losses

    def points(self) -> Iterator[Vector]:
        """The points one by one, as Vectors on the CPU."""
        return self.recording.points()

    def matrix(self) -> Tensor:
        """(T, n) all points as rows, on the CPU."""
        return self.recording.matrix()

    def __len__(self) -> int:
        return len(self.recording)

    # ---- inside -----------------------------------------------------------------------------
    def _after_step(self, *_: Any) -> None:
        self.step()

    def _record(self, *, due: bool = False) -> None:
        while len(self._rows) >= self._limit:
            self._rows.keep(range(0, len(self._rows), 2))
            self._every *= 2
        if due and self._steps % self._every:  # no longer, since points were thinned
            return
        self._rows.append(self._steps, self._loss_here(), self._here())

    def _here(self) -> Tensor:
        parts = [p.detach().reshape(-1).to("cpu", self._dtype) for p in self._params]
        return torch.cat(parts)

    def _loss_here(self) -> float:
        if self._loss is None:
            return math.nan
        with undisturbed(self._params), torch.no_grad():
            loss = self._loss.value() if isinstance(self._loss, AbstractClosure) else self._loss()
        return float(loss.detach() if isinstance(loss, Tensor) else loss)

    def _opened(self, folder: str | Path | None) -> Rows:
        if folder is None:
            return MemoryRows(self._dtype)
        shapes = [tuple(p.shape) for p in self._params]
        return DiskRows(folder, self._dtype, shapes, self.names)

    def _resumed(self, start: int | None) -> int:
        """The number of steps taken; what was recorded later is dropped."""
        if start is None:
            here = self._here()
            same = (i for i in reversed(range(len(self._rows))) if self._rows[i][2].equal(here))
            index = next(same, None)
            if index is None:
                raise ValueError(
                    f"Trajectory(folder=...): a recording up to step {self._rows[-1][0]} is there, "
                    "but the parameters are at none of its points. Load the checkpoint first and "
                    "say its step as start=..., or take another folder."
                )
            start = self._rows[index][0]
        integer_from(0).check("Trajectory", "start", start)
        kept = sum(self._rows[i][0] <= start for i in range(len(self._rows)))
        self._rows.keep(range(kept))
        return start


@final
class _Extended:
    """Rows and one more."""

    def __init__(self, rows: ReadRows, last: tuple[int, float, Tensor]) -> None:
        self._rows, self._last = rows, last

    def __len__(self) -> int:
        return len(self._rows) + 1

    def __getitem__(self, index: int) -> tuple[int, float, Tensor]:
        index = range(len(self))[index]
        return self._last if index == len(self._rows) else self._rows[index]


def _parameters(source: Any) -> tuple[list[str], list[Tensor]]:
    """Names, as far as they are known, and tensors."""
    if isinstance(source, Optimizer):
        groups = source.param_groups
        names = [name for group in groups for name in group.get("param_names", ())]
        return names, [p for group in groups for p in group["params"]]
    if isinstance(source, Objective):
        source = source.model
    if isinstance(source, AbstractClosure):
        return list(source.names), list(source.params)
    if isinstance(source, nn.Module):
        named = [(name, p) for name, p in source.named_parameters() if p.requires_grad]
        return [name for name, _ in named], [p for _, p in named]
    tensors = [source] if isinstance(source, Tensor) else _listed(source)
    if not tensors or not all(isinstance(p, Tensor) for p in tensors):
        raise TypeError(
            "Trajectory(source=...): an optimizer, a module, an objective, a closure or tensors "
            f"are needed, got {source!r}."
        )
    return [], tensors


def _listed(source: Any) -> list[Any]:
    return list(source) if isinstance(source, Iterable) else []


def _limit(limit: int | None, size: int) -> int:
    if limit is None:
        return max(2, min(LIMIT, BUDGET // max(size, 1)))
    integer_from(2).check("Trajectory", "limit", limit)
    return limit
