"""All metrics of a closure at the point where its live parameters stand, in one forward pass.

The model is called as it is. What a call would leave behind is found out once, at the first look:
random numbers that it draws are replayed, buffers that it writes to are rewound; a model that does
neither costs its forward pass and no more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from thalweg.landscape.batch_norm import averaging_layers, recalibrated
from thalweg.landscape.evaluation_derived import Derived
from thalweg.landscape.evaluation_guard import Buffers, modules_of
from thalweg.landscape.evaluation_metrics import Wanted
from thalweg.objective import AbstractClosure
from thalweg.objective.program import ModelProgram, Program
from thalweg.objective.rows import row_count


__all__ = ["Evaluation", "Sample", "combined"]

Values = list[Any]  # 0-dim tensors or numbers, in the order of the metrics' names


@final
class Sample:
    """One batch and what is measured on it.

    Args:
        program: What computes its loss.
        wanted: The metrics.
    """

    def __init__(self, program: Program, wanted: Wanted) -> None:
        self.program = program
        self._metrics = list(wanted.outputs.values())
        self.weight = self.rows = 1.0

    def weigh(self, result: Any) -> None:
        """Note its weight in means over batches: of the loss, and of the other metrics."""
        if isinstance(self.program, ModelProgram):
            self.weight = self.program.weigh(result)
            summed = self.program.loss_fn is not None and self.program.loss_fn.reduction == "sum"
            self.rows = float(row_count(self.program.batch)) if summed else self.weight

    def result(self, *, replay: bool) -> Any:
        """What the model returns at the live parameters."""
        if not isinstance(self.program, ModelProgram):
            return self.program.loss(None)
        return self.program.forward(None, settle=True) if replay else self.program.bare()

    def values(self, result: Any) -> Values:
        """The loss and the metrics, from what the model returned."""
        if not isinstance(self.program, ModelProgram):
            return [result]
        loss = self.program.loss_of(result)
        return [loss, *[metric(*result) for metric in self._metrics]]


def combined(samples: list[Sample], parts: list[Values], summed: bool) -> Values:
    """The mean over batches of what was measured on each, by their weights, in float64.

    Raises:
        ValueError: If nothing counts in any batch.
    """
    if len(parts) == 1:
        return parts[0]
    weights, rows = sum(s.weight for s in samples), sum(s.rows for s in samples)
    if not weights > 0:
        raise ValueError("Objective.over(loader=...): no target in any batch counts.")
    means: Values = []
    for i, column in enumerate(zip(*parts, strict=True)):
        total = (1.0 if summed else weights) if i == 0 else rows
        shares = [(s.weight if i == 0 else s.rows) / total for s in samples]
        counted = [
            share * (value.double() if isinstance(value, Tensor) else value)
            for share, value in zip(shares, column, strict=True)
            if share > 0
        ]
        means.append(sum(counted[1:], counted[0]))
    return means


@final
class Evaluation:
    """What is measured at a point, on all batches of a closure.

    The first call looks at what an evaluation leaves behind; it must be made inside
    :func:`~thalweg.landscape.evaluation_guard.untouched`.

    Args:
        closure: A closure or a risk.
        wanted: The metrics.
        recalibrate: Whether BatchNorm's statistics are gathered anew for each evaluation.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> closure = Objective.of(lambda x: x.square().sum()).closure(x)
        >>> [value.item() for value in Evaluation(closure, Wanted({}, {}))()]
        [9.0]
    """

    def __init__(
        self, closure: AbstractClosure, wanted: Wanted, *, recalibrate: bool = False
    ) -> None:
        self.closure, self.wanted = closure, wanted
        self.samples = [Sample(batch.program, wanted) for batch in closure.batches]
        self.recalibrates = recalibrate and bool(averaging_layers(closure))
        self.derived = Derived(closure, wanted.derived) if wanted.derived else None
        self.random = self.moves = False
        self.watch: Callable[[int], None] | None = None  # told which batch comes next
        self._buffers: Buffers | None = None

    @property
    def passes(self) -> int:
        """Forward passes of one evaluation."""
        return len(self.samples) * (2 if self.recalibrates else 1)

    def __call__(self) -> Values:
        """The loss and all metrics, in the order of their names; to be called under no_grad."""
        if not self.recalibrates:
            return self._values()
        with recalibrated(self.closure):
            return self._values()

    def _values(self) -> Values:
        if self._buffers is None:
            self._look()
        if len(self.samples) == 1 and self.derived is None:
            return self._part(0, self.samples[0])
        parts = [self._part(k, sample) for k, sample in enumerate(self.samples)]
        values = combined(self.samples, parts, self.closure.summed)
        return values if self.derived is None else [*values, *self.derived()]

    def _part(self, k: int, sample: Sample) -> Values:
        if self.watch is not None:
            self.watch(k)
        values = sample.values(sample.result(replay=self.random))
        if self.moves and self._buffers is not None:
            self._buffers.rewind()
        return values

    def _look(self) -> None:
        """The first evaluation: what is drawn, what is moved, how much each batch weighs."""
        self._buffers = settled = Buffers(modules_of(self.closure))
        devices = {p.device for p in self.closure.params if p.is_cuda}
        for k, sample in enumerate(self.samples):
            if self.watch is not None:
                self.watch(k)
            # With replay first, so that what is drawn is what the closure itself would draw.
            sample.weigh(sample.result(replay=True))
            before = _random_states(devices)
            sample.result(replay=False)
            after = _random_states(devices)
            drawn = any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
            self.random, self.moves = self.random or drawn, self.moves or settled.moved()
            settled.put_back()
        if self.recalibrates:
            self.moves = False  # the statistics are of this point alone


def _random_states(devices: set[torch.device]) -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in devices)]
