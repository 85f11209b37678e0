"""The evaluations of a run: its learning curve and when it reached the target."""

from __future__ import annotations

from typing import Any, final

from torch import nn
from torch.optim import Optimizer

from thalweg.optim import AbstractOptimizer
from thalweg.problems import Problem, Scores


__all__ = ["Looks"]


@final
class Looks:
    """The evaluations of a run: its learning curve, outside the timed region."""

    def __init__(self, problem: Problem, model: nn.Module, optimizer: Optimizer) -> None:
        self._problem, self._model, self._optimizer = problem, model, optimizer
        names = ("step", "seconds", "gradients", "train_loss")
        names += ("validation_loss", "validation_metric")
        self.curve: dict[str, list[Any]] = {name: [] for name in names}
        self.hit: dict[str, float] | None = None

    def scores(self, split: str) -> Scores:
        """Loss and metric on a split, at the weights that the method wants evaluated."""
        if isinstance(self._optimizer, AbstractOptimizer):
            with self._optimizer.evaluation():
                return self._problem.evaluate(self._model, split)
        return self._problem.evaluate(self._model, split)

    def take(self, step: int, seconds: float, gradients: float) -> float:
        """Evaluate now; the training loss."""
        train = self.scores("train")["loss"]
        validation: tuple[float | None, float | None] = (None, None)
        if self._problem.data is not None:
            scores = self.scores("validation")
            validation = scores["loss"], scores["metric"]
        now = (step, seconds, gradients, train, *validation)
        for column, value in zip(self.curve.values(), now, strict=True):
            column.append(value)
        target = self._problem.target
        if target is not None and self.hit is None:
            value = self.curve[target.quantity][-1]
            if value is not None and self._problem.reached(value):
                self.hit = {"step": step, "seconds": seconds, "gradients": gradients}
        return train

    @property
    def selection(self) -> float:
        """The last loss by which trials are chosen: on validation data, where there is any."""
        last = self.last
        return last["train_loss"] if self._problem.data is None else last["validation_loss"]

    @property
    def last(self) -> dict[str, Any]:
        """The last evaluation."""
        names = ("train_loss", "validation_loss", "validation_metric")
        return {name: self.curve[name][-1] for name in names}
