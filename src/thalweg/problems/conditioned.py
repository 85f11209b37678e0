r"""Linear and logistic regression whose condition number is set, not found.

Both have a known minimum with loss zero, at which the Hessian of the training loss has exactly the
eigenvalues :math:`\kappa^{-i/(d-1)}, i = 0, \dots, d-1`, times the largest. The solution is placed
so that every eigenvector carries the same share of the way from the origin: a method that is slow
along flat directions shows it in the loss. Everything is in float64, and full batch.
"""

from __future__ import annotations

import torch
from torch import nn

from thalweg.errors import bad_argument
from thalweg.problems.designs import COUNT, DIMENSION, linear_data, logistic_data
from thalweg.problems.losses import bernoulli_divergence, half_square
from thalweg.problems.metric import Target
from thalweg.problems.problem import Problem


__all__ = ["linear", "linear_1e4", "logistic", "logistic_1e4"]


def _check(where: str, condition: float) -> None:
    if not (isinstance(condition, (int, float)) and 1.0 <= condition <= 1e12):
        raise bad_argument(where, "condition", condition, "a number in [1, 1e12]")


def _layer() -> nn.Linear:
    return nn.Linear(DIMENSION, 1, bias=False, dtype=torch.float64)


def linear(condition: float = 1e4, target: Target | None = None) -> Problem:
    """Linear regression with a Hessian of that condition number everywhere.

    Args:
        condition: Of the Hessian, in [1, 1e12].
        target: The value that counts as solved.

    Raises:
        ValueError: If ``condition`` is out of range.

    Example:
        >>> linear(100.0).name
        'linear-100'
    """
    _check("linear", condition)
    return Problem(
        f"linear-{_short(condition)}",
        _layer,
        half_square,
        linear_data(condition),
        batch_size=None,
        target=target,
        steps=1000,
        title="Linear regression, ill-conditioned",
        description=f"{COUNT} samples of {DIMENSION} inputs without noise, full batch; the "
        f"condition number of the Hessian is {condition:g}.",
    )


def logistic(condition: float = 1e4, target: Target | None = None) -> Problem:
    """Logistic regression whose Hessian has that condition number at the minimum.

    Args:
        condition: Of the Hessian at the minimum, in [1, 1e12].
        target: The value that counts as solved.

    Raises:
        ValueError: If ``condition`` is out of range.

    Example:
        >>> logistic(100.0).name
        'logistic-100'
    """
    _check("logistic", condition)
    return Problem(
        f"logistic-{_short(condition)}",
        _layer,
        bernoulli_divergence,
        logistic_data(condition),
        batch_size=None,
        target=target,
        steps=1000,
        title="Logistic regression, ill-conditioned",
        description=f"{COUNT} samples of {DIMENSION} inputs with known probabilities, full batch; "
        f"the condition number of the Hessian at the minimum is {condition:g}. The loss is the "
        "divergence from them, zero at the minimum.",
    )


def linear_1e4() -> Problem:
    """Linear regression of condition number 10,000.

    Example:
        >>> linear_1e4().name
        'linear-1e4'
    """
    return linear(1e4, Target("validation_loss", 1.4e-05))


def logistic_1e4() -> Problem:
    """Logistic regression of condition number 10,000.

    Example:
        >>> logistic_1e4().name
        'logistic-1e4'
    """
    return logistic(1e4, Target("validation_loss", 3.88e-06))


def _short(condition: float) -> str:
    """``1e4`` for ten thousand."""
    mantissa, exponent = f"{condition:.3e}".split("e")
    return f"1e{int(exponent)}" if float(mantissa) == 1 and int(exponent) > 2 else f"{condition:g}"
