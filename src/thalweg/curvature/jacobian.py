r"""The Jacobian of a model's outputs, or of a residual function, and its Gauss-Newton matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from thalweg.curvature.operator import AbstractOperator
from thalweg.curvature.outputs import tangents_of
from thalweg.curvature.selection import selected
from thalweg.curvature.tangents import Tangents
from thalweg.objective import AbstractClosure
from thalweg.vectors import Vector


__all__ = ["GaussNewton", "Jacobian"]


@final
class Jacobian(AbstractOperator):
    r"""The Jacobian :math:`J = \partial z / \partial\theta` of the outputs at a snapshot.

    ``J @ v`` has a row for each entry of the outputs, batch after batch; ``J.adjoint @ u`` goes
    back.

    Args:
        closure: ``objective.closure(x, y)``, or ``objective.over(loader)``, with a loss function.
        params: Names of parameters to restrict to; None takes all.
        scheme: Of the tangents: ``"linearize"``, ``"dual"``, ``"reverse"``, or None.

    Raises:
        TypeError: If the objective's outputs are not known, or are no tensor.

    Example:
        >>> from thalweg.objective import Objective
        >>> objective = Objective(torch.nn.Linear(2, 1, bias=False), torch.nn.functional.mse_loss)
        >>> J = Jacobian(objective.closure(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 1)))
        >>> (J @ torch.tensor([1.0, 1.0])).tolist(), (J.adjoint @ torch.ones(1)).tolist()
        ([3.0], [1.0, 2.0])
    """

    def __init__(
        self,
        closure: AbstractClosure,
        params: Sequence[str] | str | None = None,
        scheme: str | None = None,
    ) -> None:
        still = closure.still()
        every = range(len(still.names))
        kept = list(every) if params is None else selected(still.names, params, "Jacobian")
        leaves = [still.params[i] for i in kept]
        self._pieces = [tangents_of(batch, leaves, scheme)[0] for batch in still.batches]
        self._setup(leaves, [still.names[i] for i in kept])

    @classmethod
    def of(cls, fn: Callable[[Tensor], Tensor], x: Tensor, scheme: str | None = None) -> Jacobian:
        """The Jacobian of a function of one tensor at ``x``.

        Args:
            fn: tensor -> tensor, of any shapes.
            x: The point; a copy is taken.
            scheme: Of the tangents.

        Returns:
            The operator, of shape (outputs, entries of x).
        """
        jacobian = cls.__new__(cls)
        leaves = [x.detach().clone().requires_grad_()]
        jacobian._pieces = [Tangents(lambda theta: fn(theta[0]), leaves, scheme)]
        jacobian._setup(leaves, ["x"])
        return jacobian

    @property
    def outputs(self) -> Tensor:
        """The outputs at the snapshot, flat."""
        return torch.cat([piece.outputs.detach().reshape(-1) for piece in self._pieces])

    def _setup(self, leaves: list[Tensor], names: list[str]) -> None:
        self._leaves = leaves
        domain = Vector([leaf.detach() for leaf in leaves])
        rows = sum(piece.outputs.numel() for piece in self._pieces)
        first = leaves[0]
        super().__init__(
            (rows, domain.numel()),
            first.dtype,
            first.device,
            symmetric=False,
            domain=domain,
            names=names,
        )

    def _apply(self, columns: Tensor) -> Tensor:
        made = []
        for column in columns.T.contiguous():
            assert self.domain is not None
            v = self.domain.like(column).tensors
            made.append(torch.cat([piece.forward(v).reshape(-1) for piece in self._pieces]))
        return torch.stack(made, 1)

    def _apply_adjoint(self, columns: Tensor) -> Tensor:
        sizes = [piece.outputs.numel() for piece in self._pieces]
        made = []
        for column in columns.T.contiguous():
            total = torch.zeros(self.shape[1], dtype=self.dtype, device=self.device)
            for piece, u in zip(self._pieces, column.split(sizes), strict=True):
                parts = piece.backward(u.view(piece.outputs.shape))
                total += torch.cat([part.reshape(-1) for part in parts])
            made.append(total)
        return torch.stack(made, 1)


@final
class GaussNewton(AbstractOperator):
    r"""The Gauss-Newton matrix :math:`J^\top J` of :math:`\tfrac12\lVert r(x)\rVert^2`.

    Args:
        residuals: tensor -> residuals, of any shape.
        x: The point; a copy is taken.
        scheme: Of the tangents: ``"linearize"``, ``"dual"``, ``"reverse"``, or None.

    Example:
        >>> x = torch.tensor([1.0, 2.0])
        >>> A = GaussNewton(lambda x: torch.stack([x[0] * x[1], x[0]]), x)
        >>> A.to_dense().tolist(), A.gradient.tolist()
        ([[5.0, 2.0], [2.0, 1.0]], [5.0, 2.0])
    """

    def __init__(
        self, residuals: Callable[[Tensor], Tensor], x: Tensor, scheme: str | None = None
    ) -> None:
        self.jacobian = Jacobian.of(residuals, x, scheme)
        inner = self.jacobian
        n = inner.shape[1]
        super().__init__((n, n), inner.dtype, inner.device, domain=inner.domain, names=inner.names)

    @property
    def residuals(self) -> Tensor:
        """The residuals at the point, flat."""
        return self.jacobian.outputs

    @property
    def gradient(self) -> Tensor:
        r""":math:`J^\top r`, flat."""
        return self.jacobian.apply(self.residuals, adjoint=True)

    def _apply(self, columns: Tensor) -> Tensor:
        return self.jacobian.apply(self.jacobian.apply(columns), adjoint=True)

    def _apply_adjoint(self, columns: Tensor) -> Tensor:
        return self._apply(columns)
