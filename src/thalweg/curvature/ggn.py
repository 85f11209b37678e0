r"""The generalised Gauss-Newton matrix of a loss of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from thalweg.curvature.batches import AbstractBatchOperator, How, Prepared
from thalweg.curvature.outputs import loss_hessian, prepare_sandwich
from thalweg.curvature.tangents import SCHEMES
from thalweg.objective import AbstractClosure, Closure


__all__ = ["GGN"]


@final
class GGN(AbstractBatchOperator):
    r"""The generalised Gauss-Newton matrix :math:`G = J^\top H_z J`.

    J is the Jacobian of the outputs z and :math:`H_z = \nabla_z^2 L` the loss's own Hessian in
    output space: in closed form for squared error, cross-entropy (weights, smoothing, ignored
    targets) and binary cross-entropy, by double backward on the outputs alone for others. G is
    positive semi-definite for losses convex in z, and is the Hessian where the network is linear in
    its parameters. A product is one tangent (schemes: see :class:`How`) and one backward
    pass on a kept graph: about 1.4 gradients once recorded.

    Args:
        closure: ``objective.closure(x, y)``, or ``objective.over(loader)``, with a loss function.
        params: Names of parameters to restrict to, ``*`` and ``?`` allowed; None takes all.
        how: Scheme (``"linearize"``, ``"dual"``, ``"reverse"``), memory, self-check, process group.

    Raises:
        ValueError: If a name matches nothing, or the scheme is unknown.
        TypeError: If the objective's outputs are not known, or are no tensor.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> objective = Objective(torch.nn.Linear(2, 1, bias=False), torch.nn.functional.mse_loss)
        >>> G = GGN(objective.closure(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 1)))
        >>> G.to_dense().tolist()
        [[2.0, 4.0], [4.0, 8.0]]

    References:
        Schraudolph, Fast curvature matrix-vector products for second-order gradient descent, 2002.
    """

    schemes: ClassVar[tuple[str, ...]] = SCHEMES

    def __init__(
        self,
        closure: AbstractClosure,
        params: Sequence[str] | str | None = None,
        how: How | None = None,
    ) -> None:
        super().__init__(closure, params, how)

    def prepare(self, batch: Closure, index: int) -> Prepared:
        """Run the forward pass and keep its graph."""
        return prepare_sandwich(batch, self.leaves, self.how.scheme, loss_hessian(batch))

    def normaliser(self, weight: float, samples: int) -> float:
        """A mean over the weights, or a sum."""
        return 1.0 if self.still.summed else 1.0 / weight
