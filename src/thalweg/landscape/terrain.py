"""The loss as a function of a flat point, for whatever walks there: value, metrics, gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, final

import torch
from torch import Tensor

from thalweg.errors import bad_argument
from thalweg.landscape.batch_norm import (
    averaging_layers,
    batch_statistics,
    bound_to,
    recalibrated,
)
from thalweg.landscape.evaluation_metrics import Metrics, wanted_metrics
from thalweg.objective import AbstractClosure, Risk
from thalweg.objective.program import ModelProgram
from thalweg.objective.rows import row_count


__all__ = ["Recalibrate", "Terrain"]

Recalibrate = bool | AbstractClosure | Iterable[Any] | None


@final
class Terrain:
    """A closure over flat points, with metrics and with BatchNorm as it is to be.

    Args:
        closure: The loss that is walked on.
        also: Other closures of the same model, by name, looked at with the first: test data.
        metrics: What is measured beside the loss: ``"accuracy"``, ``"error"``, or name to a
            function of (outputs, targets).
        recalibrate: Whether BatchNorm's statistics are gathered again at each point looked at, and
            from what: True takes the closure's own batches, or give a loader. None: where the
            model has such layers in evaluation mode.

    Raises:
        TypeError: If metrics are asked of what has no outputs.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.ones(2, requires_grad=True)
        >>> terrain = Terrain(Objective.of(lambda x: (x**2).sum()).closure(x))
        >>> terrain.look(torch.tensor([1.0, 2.0]))
        {'loss': 5.0}
        >>> terrain.slope(torch.tensor([1.0, 2.0]))
        (5.0, tensor([2., 4.]))
    """

    def __init__(
        self,
        closure: AbstractClosure,
        also: Mapping[str, AbstractClosure] | None = None,
        metrics: Metrics = (),
        recalibrate: Recalibrate = None,
    ) -> None:
        self.closure = closure
        self.also = dict(also or {})
        wanted = wanted_metrics("metrics", closure, metrics)
        if wanted.derived:
            allowed = "means over samples; along a path no derivatives are taken"
            raise bad_argument("metrics", "name", next(iter(wanted.derived)), allowed)
        self.metrics = wanted.outputs
        given = recalibrate if not isinstance(recalibrate, bool) else None
        self._data = None if given is None else Risk(bound_to(closure, given))
        layers = averaging_layers(closure, in_use=recalibrate is None)
        self.recalibrates = bool(layers) and recalibrate is not False

    @property
    def like(self) -> Tensor:
        """A tensor of the parameters' type and device."""
        return self.closure.params[0]

    def look(self, point: Tensor) -> dict[str, float]:
        """The loss and the metrics at a point, in one forward pass each."""
        found: dict[str, float] = {}
        with torch.no_grad(), self._normalised(point):
            for prefix, closure in (("", self.closure), *self.also.items()):
                name = f"{prefix}_" if prefix else ""
                values = self._means(closure, point)
                found |= {name + metric: value for metric, value in values.items()}
        return found

    def slope(self, point: Tensor, batch: int | None = None) -> tuple[float, Tensor]:
        """The loss and its flat gradient at a point.

        BatchNorm layers that :meth:`look` gathers statistics for normalise by each batch here, as
        in training: the gradient then goes through the statistics as well.

        Args:
            point: The flat point.
            batch: Which batch alone; None: all of them.
        """
        closure = self.closure if batch is None else self.closure.batches[batch]
        with batch_statistics(self.closure) if self.recalibrates else nullcontext():
            value, gradient = closure.value_and_grad(point)
        return float(value), torch.cat([part.reshape(-1) for part in gradient])

    def height(self, point: Tensor, batch: int | None = None) -> float:
        """The loss that :meth:`slope` is the slope of."""
        closure = self.closure if batch is None else self.closure.batches[batch]
        with batch_statistics(self.closure) if self.recalibrates else nullcontext():
            return float(closure.value(point))

    def _normalised(self, point: Tensor) -> AbstractContextManager[None]:
        if not self.recalibrates:
            return nullcontext()
        return recalibrated(self.closure, point, data=self._data)

    def _means(self, closure: AbstractClosure, point: Tensor) -> dict[str, float]:
        if not self.metrics:
            return {"loss": float(closure.value(point))}
        totals = dict.fromkeys(("loss", *self.metrics), 0.0)
        weight = samples = 0.0
        for batch in closure.batches:
            outputs, targets = batch.outputs(point)
            loss_fn = batch.loss_fn
            assert loss_fn is not None
            assert isinstance(batch.program, ModelProgram)
            share = batch.program.weigh((outputs, targets))
            if not share > 0:
                continue
            rows = row_count(batch.program.batch) if closure.summed else share
            totals["loss"] += share * float(loss_fn(outputs, targets))
            for name, metric in self.metrics.items():
                totals[name] += rows * float(metric(outputs, targets))
            weight, samples = weight + share, samples + rows
        totals["loss"] /= 1.0 if closure.summed else weight
        return {k: v if k == "loss" else v / samples for k, v in totals.items()}
