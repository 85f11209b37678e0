"""Sharpness-aware minimization: the gradient of the worst point nearby."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from thalweg.errors import FLAG, NON_NEGATIVE, Domain
from thalweg.optim.metadata import Cost, Needs, Range, Reference
from thalweg.optim.seams import Point, StepInfo, tensors_with_grad
from thalweg.optim.wrapper import AbstractWrapper
from thalweg.vectors import Vector


__all__ = ["SAM"]


@final
class SAM(AbstractWrapper):
    r"""Minimise the largest loss in a neighbourhood, to first order.

    The inner method steps from :math:`\theta` with the gradient of a point a little way uphill:

    .. math::
        \hat\epsilon = \rho\, \frac{T^2 g}{\|T g\|_2}, \qquad g = \nabla L(\theta), \qquad
        \theta \leftarrow \theta + A\bigl(\nabla L(\theta + \hat\epsilon)\bigr),

    with T the identity (SAM), or :math:`T = \operatorname{diag}(|\theta| + \eta)` with
    ``adaptive=True`` (ASAM), so that rescaling weights does not change what is near. The norm is
    over all parameters of all groups. ``rho``, ``adaptive`` and ``eta`` may differ by group: ASAM's
    authors leave biases at T = 1.

    The inner method gets a closure that evaluates yours twice and comes back to exactly
    :math:`\theta`, also when the second evaluation fails; the loss returned is the one at
    :math:`\theta`. With ``objective.closure`` running statistics (BatchNorm) move at
    :math:`\theta` alone and dropout draws the same masks twice. A closure of your own zeroes the
    gradients, as torch asks, and both its evaluations move statistics and draw masks. A line search
    inside would be given gradients that are not its loss's.

    Args:
        inner: The optimizer that steps: one of ours or any of torch's.
        rho: The neighbourhood's radius :math:`\rho`, >= 0; default 0.05, SAM's. ASAM's is 0.5.
        adaptive: Whether the neighbourhood scales with the weights.
        eta: :math:`\eta` >= 0; default 0.01, ASAM's.

    Raises:
        TypeError: If ``inner`` is not an optimizer.
        ValueError: If a value is outside its range.

    Example:
        >>> from thalweg.objective import Objective
        >>> from thalweg.optim import SGD
        >>> p = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = SAM(SGD([p], lr=0.1), rho=0.5)
        >>> optimizer.step(Objective.of(lambda x: (x**2).sum()).closure(p)).item()
        1.0
        >>> round(p.item(), 4)
        0.7

    References:
        Foret, Kleiner, Mobahi and Neyshabur, Sharpness-aware minimization for efficiently
        improving generalization, 2021; Kwon, Kim, Park and Choi, ASAM: adaptive sharpness-aware
        minimization for scale-invariant learning of deep neural networks, 2021.
    """

    needs: ClassVar[Needs] = Needs.LOSS
    reference: ClassVar[Reference] = Reference(
        "Foret, Kleiner, Mobahi, Neyshabur; Kwon et al. (adaptive)",
        "Sharpness-aware minimization for efficiently improving generalization",
        2021,
    )
    cost: ClassVar[Cost] = Cost(gradients=2.0)
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-3, 10.0)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "rho": NON_NEGATIVE,
        "adaptive": FLAG,
        "eta": NON_NEGATIVE,
    }

    def __init__(
        self, inner: Optimizer, rho: float = 0.05, adaptive: bool = False, eta: float = 0.01
    ) -> None:
        super().__init__(inner, {"rho": rho, "adaptive": adaptive, "eta": eta})

    def evaluate(self, closure: Callable[[], Any] | None) -> Point:
        """Take the inner step with a closure that looks uphill."""
        return super().evaluate(None if closure is None else partial(self._uphill, closure))

    def advance(self, point: Point, path: Any) -> StepInfo:
        """Nothing is left to do."""
        del path
        return StepInfo(step_length=float(point.groups[0]["lr"]))

    def _uphill(self, closure: Callable[[], Any]) -> Any:
        """The loss here, with the gradients of the point uphill."""
        loss = self.call(closure)
        with torch.no_grad(), self._moved():
            self.call(closure)
        return loss

    @contextmanager
    def _moved(self) -> Iterator[None]:
        """Stand at the worst point nearby; come back exactly."""
        rows: list[tuple[Tensor, Tensor, Tensor, float]] = []
        for group, p in tensors_with_grad(self.param_groups):
            if p.grad is None or not p.requires_grad:
                continue
            weights, scaled = _real(p.detach()), _real(p.grad)
            ascent = scaled
            if group["adaptive"]:
                scale = weights.abs().add_(group["eta"])  # T
                scaled = scaled * scale  # T g
                ascent = scale.mul_(scaled)  # T^2 g
            radius = -group["rho"] if group.get("maximize") else group["rho"]
            rows.append((weights, scaled, ascent, radius))
        norm = float(Vector(scaled for _, scaled, _, _ in rows).norm())
        starts = [weights.clone() for weights, *_ in rows]
        try:
            for weights, _, ascent, radius in rows if norm else ():
                weights.add_(ascent, alpha=radius / norm)
            yield
        finally:
            for (weights, *_), start in zip(rows, starts, strict=True):
                weights.copy_(start)


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor
