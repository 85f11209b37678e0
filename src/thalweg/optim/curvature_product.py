"""Products with the curvature matrix of a Hessian-free method's choice, and a preconditioner."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from thalweg.curvature import GGN, How
from thalweg.curvature.sample_gradients import SampleGradients
from thalweg.objective import AbstractClosure
from thalweg.optim.ground import Ground


__all__ = ["curvature_product", "difference_product", "preconditioner_of"]

Product = Callable[[Tensor], Tensor]
Weights = Callable[[float, float], Product]


def curvature_product(point: Ground, curvature: str, products: str) -> Product:
    """V -> B v on flat tensors.

    Args:
        point: Where the optimizer stands.
        curvature: ``"ggn"``, ``"hessian"``, or ``"auto"``: the first where the closure has outputs.
        products: ``"exact"``, or ``"forward"`` or ``"central"`` differences of gradients, which
            give the Hessian.

    Returns:
        The product.

    Raises:
        TypeError: If the Gauss-Newton matrix is asked for and the closure has no outputs.
        ValueError: If it is asked for by differences.
    """
    if products != "exact":
        if curvature == "ggn":
            raise ValueError(
                f"HessianFree(products={products!r}): differences of gradients give the Hessian; "
                "use curvature='auto' or 'hessian' with them."
            )
        return difference_product(point, central=products == "central")
    closure = point.closure
    if curvature == "hessian" or (curvature == "auto" and not _has_outputs(closure)):
        return point.product
    if not _has_outputs(closure):
        raise TypeError(
            "HessianFree(curvature='ggn'): the model's outputs are needed; pass "
            "objective.closure(x, y) of a model and a loss, or use curvature='hessian'."
        )
    assert isinstance(closure, AbstractClosure)
    place = {id(p): i for i, p in enumerate(closure.params)}
    where = [place.get(id(p)) for p in point.params]
    names = [closure.names[i] for i in where if i is not None]
    how = How(scheme="reverse", borrow=True, check=False)  # no tracing, which a step does not repay
    matrix = GGN(closure, params=names, how=how)
    return _Placed(point, matrix, where)


@final
class _Placed:
    """A matrix over the closure's parameters, as one over the optimizer's."""

    def __init__(self, point: Ground, matrix: GGN, where: list[int | None]) -> None:
        self._point, self._matrix, self._where = point, matrix, where
        order = sorted(i for i in where if i is not None)
        self._rank = {i: k for k, i in enumerate(order)}

    def __call__(self, v: Tensor) -> Tensor:
        """The product; zeros for parameters that the closure does not use."""
        point = self._point
        point.counts.nhvp += 1
        parts = point.split(v)
        inside: list[Tensor] = [parts[0]] * len(self._rank)
        for i, part in zip(self._where, parts, strict=True):
            if i is not None:
                inside[self._rank[i]] = part.reshape(-1)
        sizes = [part.numel() for part in inside]
        found = (self._matrix @ torch.cat(inside)).split(sizes)
        return torch.cat(
            [
                (torch.zeros_like(part) if i is None else found[self._rank[i]]).reshape(-1).to(v)
                for i, part in zip(self._where, parts, strict=True)
            ]
        )


def difference_product(point: Ground, *, central: bool) -> Product:
    r"""The Hessian's products as differences of gradients.

    .. math:: H v \approx \frac{g(x + h v) - g(x)}{h} \quad\text{or}\quad
        \frac{g(x + h v) - g(x - h v)}{2 h},

    with :math:`h \|v\| = \epsilon^{1/2} (1 + \|x\|)` and :math:`\epsilon^{1/3} (1 + \|x\|)`, which
    balance truncation and rounding.

    Args:
        point: Where the optimizer stands.
        central: Whether both sides are asked.

    Returns:
        The product; each costs one gradient, or two.
    """
    eps = torch.finfo(point.x.dtype).eps
    size = eps ** (1 / 3 if central else 1 / 2) * (1.0 + float(point.x.norm()))

    def product(v: Tensor) -> Tensor:
        length = float(v.norm())
        if length == 0.0:
            return torch.zeros_like(v)
        h = size / length
        ahead = point.value_and_grad(point.x + h * v)[1]
        if not central:
            return (ahead - point.grad) / h
        return (ahead - point.value_and_grad(point.x - h * v)[1]) / (2 * h)

    return product


def preconditioner_of(point: Ground, kind: str) -> Weights | None:
    """(damping, exponent) -> the preconditioner, from gradients of single samples.

    Args:
        point: Where the optimizer stands.
        kind: ``"none"`` or ``"fisher"``.

    Returns:
        What makes it; None for none.

    Raises:
        TypeError: If the closure has no samples to take apart.
    """
    if kind == "none":
        return None
    if not _has_outputs(point.closure):
        raise TypeError(
            "HessianFree(preconditioner='fisher'): gradients of single samples are needed; pass "
            "objective.closure(x, y) of a model and a loss."
        )
    closure = point.closure
    assert isinstance(closure, AbstractClosure)
    total = torch.zeros(closure.params.numel(), dtype=point.x.dtype, device=point.x.device)
    for _, gradients in SampleGradients(closure):
        total += gradients.to(total).square().sum(0)
    pieces = dict(
        zip(map(id, closure.params), total.split([p.numel() for p in closure.params]), strict=True)
    )
    mine = [pieces.get(id(p), torch.zeros(p.numel()).to(total)) for p in point.params]
    squares = torch.cat(mine)

    def weights(damping: float, exponent: float) -> Product:
        floor = max(damping, 1e-12 * float(squares.max())) or 1.0
        scale = (squares + floor) ** exponent
        return lambda v: v / scale

    return weights


def _has_outputs(closure: object) -> bool:
    if not isinstance(closure, AbstractClosure):
        return False
    return all(batch.loss_fn is not None for batch in closure.batches)
