"""What is measured at a point: the loss, and any number of things of the same forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from thalweg.errors import bad_argument, unknown_name
from thalweg.objective import AbstractClosure, AbstractOutputLoss, BinaryCrossEntropy, CrossEntropy


__all__ = ["DERIVED", "Metric", "Metrics", "Wanted", "accuracy", "wanted_metrics"]

Metric = Callable[[Any, Any], Any]
Metrics = Sequence[str] | Mapping[str, str | Metric]

# What takes derivatives at each point, and is not a mean over samples.
DERIVED = ("gradient_norm", "lambda_max", "lambda_min", "convexity")
_KNOWN = ("accuracy", "error", *DERIVED)


@final
@dataclass(frozen=True)
class Wanted:
    """The metrics of a surface, sorted by how they are computed.

    Args:
        outputs: Name to a function of (outputs, targets), averaged over batches.
        derived: Name to one of :data:`DERIVED`.
    """

    outputs: dict[str, Metric]
    derived: dict[str, str]

    @property
    def names(self) -> list[str]:
        """All of them, the loss first."""
        return ["loss", *self.outputs, *self.derived]


def wanted_metrics(where: str, closure: AbstractClosure, metrics: Metrics) -> Wanted:
    """Sort the metrics that a caller asks for beside the loss.

    Args:
        where: The function that was called, for messages.
        closure: What is evaluated.
        metrics: Names of known metrics, or name to a known metric or a function of
            (outputs, targets).

    Raises:
        ValueError: If a name is unknown.
        TypeError: If a metric of outputs is asked of what has none.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> objective = Objective(torch.nn.Linear(2, 3), torch.nn.functional.cross_entropy)
        >>> closure = objective.closure(torch.zeros(2, 2), torch.tensor([0, 1]))
        >>> wanted_metrics("plane", closure, ["accuracy", "gradient_norm"]).names
        ['loss', 'accuracy', 'gradient_norm']
    """
    if isinstance(metrics, str):
        raise bad_argument(where, "metrics", metrics, "a list of names, or a mapping")
    named = dict(metrics) if isinstance(metrics, Mapping) else {name: name for name in metrics}
    outputs: dict[str, Metric] = {}
    derived: dict[str, str] = {}
    for name, metric in named.items():
        if name == "loss":
            raise bad_argument(where, "metrics", name, "others than the loss, which is the first")
        if isinstance(metric, str) and metric in DERIVED:
            derived[name] = metric
        elif isinstance(metric, str):
            if metric not in _KNOWN:
                raise unknown_name(where, "metric", metric, _KNOWN)
            outputs[name] = _Right(closure.batches[0].loss_fn, metric == "error")
        elif callable(metric):
            outputs[name] = metric
        else:
            raise bad_argument(where, f"metrics[{name!r}]", metric, "a name or a callable")
    if outputs and closure.batches[0].loss_fn is None:
        raise TypeError(
            f"{where}(metrics={list(outputs)}): the objective returns its loss alone, so there are "
            "no outputs to measure. Pass a loss_fn(outputs, targets) to Objective."
        )
    return Wanted(outputs, derived)


@final
class _Right:
    """The share of right predictions, or of wrong ones."""

    def __init__(self, loss_fn: AbstractOutputLoss | None, wrong: bool) -> None:
        self._loss_fn, self._wrong = loss_fn, wrong

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        share = accuracy(outputs, targets, self._loss_fn)
        return 1.0 - share if self._wrong else share


def accuracy(outputs: Tensor, targets: Tensor, loss_fn: AbstractOutputLoss | None = None) -> Tensor:
    """The share of targets that the outputs predict.

    Args:
        outputs: Scores, classes in dimension 1 (0 for a single sample); for binary cross-entropy
            one score an entry.
        targets: Classes, class probabilities, or 0 and 1.
        loss_fn: The loss, which says what the targets are.

    Returns:
        A 0-dim tensor in [0, 1].

    Raises:
        TypeError: If the targets are not classes.

    Example:
        >>> import torch
        >>> accuracy(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])).item()
        0.5
    """
    if isinstance(loss_fn, BinaryCrossEntropy):
        return ((outputs > 0) == (targets > 0.5)).double().mean()
    dim = 0 if outputs.ndim == 1 else 1
    predicted = outputs.argmax(dim)
    if targets.is_floating_point():
        if not isinstance(loss_fn, CrossEntropy):
            raise TypeError(
                "accuracy: the targets are real numbers, not classes. Pass a metric of your own, "
                "metrics={'name': function(outputs, targets)}."
            )
        return (predicted == targets.argmax(dim)).double().mean()
    ignored = loss_fn.ignore_index if isinstance(loss_fn, CrossEntropy) else -100
    kept = targets != ignored
    return ((predicted == targets) & kept).sum().double() / kept.sum()
