"""What can be said of a problem's arguments before its model runs."""

from __future__ import annotations

from torch import nn

from thalweg.errors import bad_argument, integer_from
from thalweg.problems.metric import Metric, Target


__all__ = ["check_goal", "check_plain", "check_source"]


def check_plain(name: object, model: object, batch_size: object, probe: object) -> None:
    """Name, model and the two counts.

    Raises:
        ValueError: If one of them is not what it has to be.
    """
    if not (isinstance(name, str) and name):
        raise bad_argument("Problem", "name", name, "a non-empty string")
    if isinstance(model, nn.Module) or not callable(model):
        allowed = "a function that builds the model, such as lambda: Net()"
        raise bad_argument("Problem", "model", model, allowed)
    for argument, value in (("batch_size", batch_size), ("probe", probe)):
        if value is not None and not integer_from(1).contains(value):
            raise bad_argument("Problem", argument, value, "an integer >= 1 or None")


def check_source(name: str, loss: object, *, has_data: bool, function: object) -> None:
    """Either data with a loss, or a function.

    Raises:
        ValueError: If there are both, neither, or a loss that cannot be called.
    """
    if has_data == (function is not None):
        raise ValueError(f"Problem {name!r}: give either data or a function.")
    if function is not None:
        if loss is not None:
            raise bad_argument("Problem", "loss", loss, "None where there is a function")
    elif not callable(loss) or isinstance(loss, type):
        allowed = "a function of outputs and targets, such as torch.nn.functional.cross_entropy"
        raise bad_argument("Problem", "loss", loss, allowed)


def check_goal(metric: object, target: object, *, of_function: bool) -> None:
    """The metric, and a target that can be measured.

    Raises:
        ValueError: If one of them is not what it has to be.
    """
    if not (metric is None or isinstance(metric, Metric)):
        raise bad_argument("Problem", "metric", metric, "a Metric or None")
    if target is None:
        return
    if not isinstance(target, Target):
        raise bad_argument("Problem", "target", target, "a Target or None")
    if of_function and target.quantity != "train_loss":
        raise bad_argument("Problem", "target", target, "of train_loss for a function")
    if target.quantity == "validation_metric" and metric is None:
        raise bad_argument("Problem", "target", target, "of a loss: there is no metric")
