r"""The Hessian of a loss, whole or block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, final

import torch
from torch import Tensor

from thalweg.curvature.batches import AbstractBatchOperator, How, Prepared
from thalweg.curvature.selection import layers
from thalweg.curvature.tangents import (
    recorded_rightly,
    recorded_tangent,
    second_derivative_needed,
    unlike,
)
from thalweg.errors import bad_argument
from thalweg.objective import AbstractClosure, Closure
from thalweg.objective.graph import graph_nodes


__all__ = ["BlockHessian", "Hessian"]

_SCHEMES = ("double-backward", "linearize", "finite-difference")
# Forward over reverse through these crashes torch 2.13, some with the whole process.
_UNSAFE = {"MseLossBackward0", "HuberLossBackward0", "SmoothL1LossBackward0"}


@final
class Hessian(AbstractBatchOperator):
    r"""The Hessian :math:`H = \nabla^2 L(\theta)` of a loss over its parameters.

    A product is a backward pass through the kept graph of the gradient,
    :math:`H v = \nabla_\theta (\nabla_\theta L^\top v)`: about two gradients' time, right for every
    layer that torch differentiates twice. Parameters that the loss does not use, or uses linearly,
    have zero rows. Schemes by name: ``"double-backward"`` (default), ``"linearize"`` (forward over
    reverse, recorded once: faster for some convolutional networks, at four times the memory;
    refused for losses on which torch crashes) and ``"finite-difference"`` (central differences of
    gradients, for modules without a second derivative: right to about 1e-3 on smooth networks,
    meaningless across the kinks of ReLU).

    Args:
        closure: ``objective.closure(x, y)``, or ``objective.over(loader)``.
        params: Names of parameters to restrict to, ``*`` and ``?`` allowed; None takes all.
        how: Scheme, memory, self-check, process group (:class:`How`).

    Raises:
        ValueError: If a name matches nothing, or the scheme is unknown.
        TypeError: If a parameter is complex.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> H = Hessian(Objective.of(lambda x: x[0] ** 2 * x[1]).closure(x))
        >>> (H @ torch.tensor([1.0, 0.0])).tolist()
        [4.0, 2.0]

    References:
        Pearlmutter, Fast exact multiplication by the Hessian, 1994.
    """

    schemes: ClassVar[tuple[str, ...]] = _SCHEMES
    derivative: ClassVar[bool] = True

    def __init__(
        self,
        closure: AbstractClosure,
        params: Sequence[str] | str | None = None,
        how: How | None = None,
    ) -> None:
        super().__init__(closure, params, how)

    def prepare(self, batch: Closure, index: int) -> Prepared:
        """Build the gradient's graph."""
        scheme = self.how.scheme or "double-backward"
        loss, gradient, weight = _gradient(batch, self.leaves, scheme == "double-backward")
        if scheme == "double-backward":
            whole = _through(gradient, self.leaves)
            final = _through(gradient, self.leaves, keep=False)

            def once(v: list[Tensor], last: bool) -> Sequence[Tensor]:
                return final(v) if last else whole(v)

            return Prepared(whole, loss, lambda: gradient, weight, held=gradient, once=once)
        make = _linearized if scheme == "linearize" else _differences
        product = make(batch, self.leaves, loss)
        return Prepared(product, loss, lambda: gradient, weight)

    def normaliser(self, weight: float, samples: int) -> float:
        """A mean over the weights, or a sum."""
        return 1.0 if self.still.summed else 1.0 / weight


@final
class BlockHessian(AbstractBatchOperator):
    """The Hessian without what lies between blocks of parameters.

    Args:
        closure: ``objective.closure(x, y)``, or ``objective.over(loader)``.
        blocks: ``"layer"`` (weight and bias together) or ``"parameter"``.
        params: Names of parameters to restrict to; None takes all.
        how: Memory, self-check, process group (:class:`How`).

    Raises:
        ValueError: If ``blocks`` is neither.

    Example:
        >>> from thalweg.objective import Objective
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
        >>> objective = Objective(model, torch.nn.functional.mse_loss)
        >>> B = BlockHessian(objective.closure(torch.ones(1, 2), torch.ones(1, 1)))
        >>> B.to_dense()[:6, 6:].abs().max().item()
        0.0
    """

    schemes: ClassVar[tuple[str, ...]] = ("double-backward",)

    def __init__(
        self,
        closure: AbstractClosure,
        blocks: str = "layer",
        params: Sequence[str] | str | None = None,
        how: How | None = None,
    ) -> None:
        if blocks not in {"layer", "parameter"}:
            raise bad_argument("BlockHessian", "blocks", blocks, "'layer' or 'parameter'")
        super().__init__(closure, params, how)
        single = {name: [i] for i, name in enumerate(self.names)}
        self.blocks = layers(self.names) if blocks == "layer" else single

    def prepare(self, batch: Closure, index: int) -> Prepared:
        """Build the gradient's graph; a product goes block by block."""
        loss, gradient, weight = _gradient(batch, self.leaves, True)
        blocks = [
            (i, _through([gradient[j] for j in i], [self.leaves[j] for j in i]))
            for i in self.blocks.values()
        ]

        def product(v: list[Tensor]) -> list[Tensor]:
            out = list(v)
            for indices, within in blocks:
                parts = within([v[j] for j in indices])
                for j, part in zip(indices, parts, strict=True):
                    out[j] = part
            return out

        return Prepared(product, loss, lambda: gradient, weight, held=gradient)

    def normaliser(self, weight: float, samples: int) -> float:
        """A mean over the weights, or a sum."""
        return 1.0 if self.still.summed else 1.0 / weight


def _gradient(
    batch: Closure, leaves: list[Tensor], graph: bool
) -> tuple[Tensor, Sequence[Tensor], float]:
    """Loss, gradient (with its own graph where asked) and the batch's weight."""
    loss, weight = batch.program.weighted(None, settle=False)
    if not loss.requires_grad:
        return loss, [torch.zeros_like(leaf) for leaf in leaves], weight
    gradient = torch.autograd.grad(loss, leaves, create_graph=graph, materialize_grads=True)
    return loss, gradient, weight


def _through(
    gradient: Sequence[Tensor], leaves: list[Tensor], keep: bool = True
) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """Double backward: the derivative of g'v, through the graph of g."""
    moving = [i for i, g in enumerate(gradient) if g.requires_grad]

    def product(v: list[Tensor]) -> Sequence[Tensor]:
        if not moving:
            return [torch.zeros_like(leaf) for leaf in leaves]
        advice = "Replace that layer, or use How(scheme='finite-difference')."
        with second_derivative_needed("Hessian", advice):
            return torch.autograd.grad(
                [gradient[i] for i in moving],
                leaves,
                [v[i] for i in moving],
                retain_graph=keep,
                materialize_grads=True,
            )

    return product


def _linearized(
    batch: Closure, leaves: list[Tensor], loss: Tensor
) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """Forward over reverse, recorded; refused where torch is known to crash."""
    unsafe = sorted({n.name() for n in graph_nodes([loss])} & _UNSAFE)
    if unsafe:
        raise ValueError(
            f"Hessian(scheme='linearize'): torch crashes on {', '.join(unsafe)}; use "
            "'double-backward'."
        )
    place = {id(leaf): i for i, leaf in enumerate(leaves)}

    def gradient(*theta: Tensor) -> tuple[Tensor, ...]:
        full = [theta[place[id(p)]] if id(p) in place else p for p in batch.params]
        every = torch.func.grad(lambda t: batch.program.weighted(t, settle=False)[0])(full)
        return tuple(every[i] for i in kept)

    kept = [i for i, p in enumerate(batch.params) if id(p) in place]
    point = [leaf.detach() for leaf in leaves]
    tangent = recorded_tangent(gradient, point)
    probe = [torch.ones_like(leaf) for leaf in point]
    plain = _through(_gradient(batch, leaves, True)[1], leaves)
    if not recorded_rightly(lambda: tangent(*probe), plain(probe)):
        raise unlike("Hessian", "linearize")
    return lambda v: tangent(*v)


def _differences(
    batch: Closure, leaves: list[Tensor], loss: Tensor
) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """Central differences of gradients, at a step that balances truncation and rounding."""
    eps = torch.finfo(loss.dtype).eps
    size = 1.0 + float(torch.linalg.vector_norm(torch.stack([p.detach().norm() for p in leaves])))

    def product(v: list[Tensor]) -> Sequence[Tensor]:
        length = math.sqrt(sum(float(part.double().square().sum()) for part in v))
        if length == 0.0:
            return [torch.zeros_like(leaf) for leaf in leaves]
        step = eps ** (1 / 3) * size / length
        ends = [_moved(batch, leaves, v, sign * step) for sign in (1, -1)]
        return [(a - b) / (2 * step) for a, b in zip(*ends, strict=True)]

    return product


def _moved(batch: Closure, leaves: list[Tensor], v: list[Tensor], step: float) -> Sequence[Tensor]:
    """The gradient at the point moved by ``step`` along ``v``."""
    ends = {id(p): p.detach() + step * part for p, part in zip(leaves, v, strict=True)}
    theta = [ends.get(id(p), p).detach().requires_grad_() for p in batch.params]
    with torch.enable_grad():
        loss, _ = batch.program.weighted(theta, settle=False)
        where = [t for t, p in zip(theta, batch.params, strict=True) if id(p) in ends]
        return torch.autograd.grad(loss, where, materialize_grads=True)
