r"""The covariance of the samples' gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor

from thalweg.curvature.batches import How
from thalweg.curvature.fisher import EmpiricalFisher
from thalweg.curvature.operator import AbstractOperator
from thalweg.objective import AbstractClosure


__all__ = ["GradientCovariance"]


@final
class GradientCovariance(AbstractOperator):
    r"""The covariance :math:`\frac1N\sum_n (g_n - \bar g)(g_n - \bar g)^\top` of gradients.

    The noise of a stochastic gradient: a batch of B samples drawn with replacement has covariance
    1/B times this. Not centred, it is the :class:`EmpiricalFisher`.

    Args:
        closure: ``objective.closure(x, y)``, or ``objective.over(loader)``, of a mean loss.
        centred: Whether the mean gradient is taken off.
        params: Names of parameters to restrict to; None takes all.
        how: Scheme of tangents, memory, self-check, process group.

    Raises:
        TypeError: If the objective's outputs are not known.
        ValueError: If the loss sums instead of averaging.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> objective = Objective(torch.nn.Linear(1, 1, bias=False), torch.nn.functional.mse_loss)
        >>> objective.model.weight.data.fill_(1.0)
        tensor([[1.]])
        >>> closure = objective.closure(torch.ones(2, 1), torch.tensor([[0.0], [3.0]]))
        >>> GradientCovariance(closure).to_dense().item()
        9.0
    """

    def __init__(
        self,
        closure: AbstractClosure,
        centred: bool = True,
        params: Sequence[str] | str | None = None,
        how: How | None = None,
    ) -> None:
        if closure.summed:
            raise ValueError(
                "GradientCovariance: the loss sums over samples; use its mean, whose gradient is "
                "an average."
            )
        self.moment = EmpiricalFisher(closure, params, how)
        inner = self.moment
        super().__init__(
            inner.shape, inner.dtype, inner.device, domain=inner.domain, names=inner.names
        )
        self.centred = centred

    @property
    def loss(self) -> float:
        """The loss at the operator's point."""
        return self.moment.loss

    @property
    def gradient(self) -> Tensor:
        """The mean gradient, flat."""
        return self.moment.gradient

    def _apply(self, columns: Tensor) -> Tensor:
        product = self.moment.apply(columns)
        if self.centred:
            mean = self.gradient[:, None]
            product = product - mean @ (mean.T @ columns)
        return product

    def _apply_adjoint(self, columns: Tensor) -> Tensor:
        return self._apply(columns)
