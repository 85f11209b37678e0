"""An operator's check of itself: the same twice, symmetric, and like a finite difference."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


__all__ = ["CurvatureWarning", "SelfCheck", "check_operator"]

Product = Callable[[Tensor], Tensor]


@final
class CurvatureWarning(UserWarning):
    """A product that cannot be trusted, and why.

    Example:
        >>> raise CurvatureWarning("Hessian: two evaluations differ.")
        Traceback (most recent call last):
        thalweg.curvature.self_check.CurvatureWarning: Hessian: two evaluations differ.
    """


@final
@dataclass(frozen=True)
class SelfCheck:
    """What an operator found when it looked at itself.

    Args:
        asymmetry: ``|u'Av - v'Au| / (|Au| |v| + |Av| |u|)`` for two random vectors.
        difference: Relative distance of a product from a finite difference of gradients; None where
            there is nothing to compare with.
        settled: Whether finite differences at two steps agree with each other: where they do not
            (kinks of ReLU, noise of float32), ``difference`` says nothing.
        repeat: Relative difference of two evaluations of the loss at one point.
        problems: Each thing that is wrong, in words; empty when all is well.

    Example:
        >>> SelfCheck(1e-9, 1e-5, True, 0.0, ()).passed
        True
    """

    asymmetry: float
    difference: float | None
    settled: bool
    repeat: float
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check_operator(
    name: str,
    product: Product,
    gradient_at: Callable[[Tensor, float], Tensor] | None,
    losses: tuple[float, float],
    like: Tensor,
    moving: Tensor | None = None,
) -> SelfCheck:
    """Check a symmetric operator by three products, and warn of what is wrong.

    Args:
        name: Of the operator, for the messages.
        product: Flat tensor -> flat tensor.
        gradient_at: (direction, step) -> gradient at the point moved by step along the direction;
            None where the operator is not a derivative of the gradient.
        losses: The loss, evaluated twice.
        like: A flat tensor of the parameters.
        moving: Which entries have a gradient. The others are left where they are: autograd holds
            some still on which the loss does depend (the padding row of an embedding).

    Returns:
        The findings.
    """
    generator = torch.Generator().manual_seed(20_260)
    u, v = (
        torch.randn(like.numel(), generator=generator, dtype=torch.float64).to(like)
        for _ in range(2)
    )
    if moving is not None and bool(moving.any()):
        v = v * moving
    au, av = product(u), product(v)
    scale = _norm(au) * _norm(v) + _norm(av) * _norm(u)
    asymmetry = abs(_dot(u, av) - _dot(v, au)) / scale if scale else 0.0
    repeat = abs(losses[0] - losses[1]) / max(abs(losses[0]), 1e-30)
    difference, settled = None, False
    if gradient_at is not None:
        difference, settled = _compare(gradient_at, v, av, like)
    problems = tuple(_problems(name, like.dtype, asymmetry, repeat, difference, settled))
    for problem in problems:
        warnings.warn(problem, CurvatureWarning, stacklevel=2)
    return SelfCheck(asymmetry, difference, settled, repeat, problems)


def _compare(
    gradient_at: Callable[[Tensor, float], Tensor], v: Tensor, av: Tensor, like: Tensor
) -> tuple[float, bool]:
    """The distance to a central difference, and whether two steps tell the same."""
    double = like.dtype == torch.float64
    step = (1e-5 if double else 1e-2) * max(1.0, _norm(like)) / _norm(v)
    estimates = [
        (gradient_at(v, h) - gradient_at(v, -h)) / (2 * h)
        for h in (step, step / (4 if double else 2))
    ]
    size = max(_norm(av), _norm(estimates[1]), 1e-30)
    between = _norm(estimates[0] - estimates[1]) / size
    return _norm(av - estimates[1]) / size, between < 0.05


def _problems(
    name: str,
    dtype: torch.dtype,
    asymmetry: float,
    repeat: float,
    difference: float | None,
    settled: bool,
) -> list[str]:
    found: list[str] = []
    double = dtype == torch.float64
    if not repeat <= (1e-12 if double else 1e-5):
        found.append(
            f"{name}: two evaluations of the loss at one point differ by {repeat:.1e} of it. "
            "Something draws random numbers outside torch's generators (NumPy, Python's random, a "
            "loader that augments), or changes between calls; fix its seed, or use model.eval()."
        )
    if not asymmetry <= (1e-8 if double else 1e-3):
        found.append(
            f"{name}: u'Av and v'Au differ by {asymmetry:.1e} of their size, so the products are "
            "not those of a symmetric matrix. A custom autograd function with a wrong double "
            "backward, or randomness between products, does this."
        )
    if difference is not None and settled and difference > 0.1:
        found.append(
            f"{name}: a product differs from a finite difference of gradients by "
            f"{100 * difference:.0f}%. Part of the loss is not differentiated twice: look for "
            "detach(), no_grad(), or a custom autograd function whose backward is not "
            "differentiable."
        )
    return found


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.double(), b.double()))


def _norm(a: Tensor) -> float:
    return float(torch.linalg.vector_norm(a, dtype=torch.float64))
