r"""A function of residuals: :math:`\tfrac12 \lVert r(x) \rVert^2`, with r known apart."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, final

from torch import Tensor

from thalweg.errors import bad_argument
from thalweg.objective.closure import Closure
from thalweg.objective.ledger import Ledger
from thalweg.objective.losses.half_squares import HalfSquares, half_squares
from thalweg.objective.program import FunctionProgram
from thalweg.vectors import Vector


__all__ = ["ResidualObjective", "ResidualProgram"]


@final
class ResidualProgram:
    """A function of one tensor that returns residuals; its loss is half their sum of squares."""

    def __init__(self, function: Callable[[Tensor], Tensor], x: Tensor) -> None:
        self._residuals = function
        self._program = FunctionProgram(self._half, x)
        self.params = self._program.params
        self.names = self._program.names
        self.loss_fn = HalfSquares()

    def _half(self, x: Tensor) -> Tensor:
        return half_squares(self._checked(x), None)

    def _checked(self, x: Tensor) -> Tensor:
        found = self._residuals(x)
        if not isinstance(found, Tensor) or not found.is_floating_point():
            shown = found.dtype if isinstance(found, Tensor) else found
            raise TypeError(
                f"Objective.residuals(fn=...): the residuals must be a tensor of real numbers, got "
                f"{shown!r}."
            )
        return found

    @property
    def origin(self) -> Callable[[Tensor], Tensor]:
        """The function of residuals."""
        return self._residuals

    def outputs(self, theta: Sequence[Tensor] | None) -> tuple[Tensor, None]:
        """The residuals, and no targets."""
        (x,) = self.params if theta is None else theta
        return self._program.replayed(self._checked, x), None

    def weigh(self, result: Any) -> float:
        """One: there are no batches of it."""
        del result
        return 1.0

    def loss(self, theta: Sequence[Tensor] | None, *, settle: bool = False) -> Tensor:
        """Half the sum of squares at ``theta``, or at the live parameter."""
        return self._program.loss(theta, settle=settle)

    def weighted(self, theta: Sequence[Tensor] | None, *, settle: bool) -> tuple[Tensor, float]:
        """The loss, and one."""
        return self._program.weighted(theta, settle=settle)

    def twice(self, *, settle: bool) -> tuple[Tensor, float]:
        """The same at the live parameter."""
        return self._program.twice(settle=settle)

    def standing(self, theta: Sequence[Tensor]) -> AbstractContextManager[None]:
        """A function is evaluated once."""
        return self._program.standing(theta)

    def still(self, leaves: Vector, place: int = 0) -> ResidualProgram:
        """The same at ``leaves``."""
        fixed = copy.copy(self)
        fixed._program = self._program.still(leaves, place)
        fixed.params = leaves
        return fixed


@final
class ResidualObjective:
    r"""A function of one tensor that returns residuals; what is minimised is half their squares.

    The value of its closures is :math:`\tfrac12 \lVert r(x)\rVert^2`, scipy's ``cost``. They suit
    every method; Gauss-Newton and Levenberg-Marquardt need them, or a model with a squared error.
    Made by :meth:`Objective.residuals`.

    Args:
        fn: tensor -> residuals, of any shape.

    Raises:
        TypeError: If ``fn`` is not callable.

    Example:
        >>> import torch
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> closure = ResidualObjective(lambda x: x - 1).closure(x)
        >>> closure.value().item(), closure.outputs()[0].tolist()
        (6.5, [2.0, 3.0])
    """

    def __init__(self, fn: Callable[[Tensor], Tensor]) -> None:
        if not callable(fn):
            raise TypeError(f"Objective.residuals(fn=...): a callable is needed, got {fn!r}.")
        self.fn = fn
        self.ledger = Ledger()

    def closure(self, x: Tensor) -> Closure:
        """Bind the residuals to the live tensor that an optimizer moves.

        Args:
            x: A leaf tensor that requires a gradient.

        Returns:
            The closure.

        Raises:
            ValueError: If ``x`` is not a leaf that requires a gradient.
        """
        if not (isinstance(x, Tensor) and x.requires_grad and x.is_leaf):
            allowed = "a leaf tensor that requires a gradient"
            raise bad_argument("Objective.residuals", "x", x, allowed)
        return Closure(ResidualProgram(self.fn, x), self.ledger)
