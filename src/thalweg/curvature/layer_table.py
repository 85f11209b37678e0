"""Sharpness layer by layer, and where a direction lies."""

from __future__ import annotations

from collections.abc import Sequence

from rich.progress import track
from torch import Tensor

from thalweg.curvature.batches import How
from thalweg.curvature.eigen import eigsh
from thalweg.curvature.findings import Layer, Share
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.measured import Quantity
from thalweg.curvature.selection import layers
from thalweg.objective import AbstractClosure
from thalweg.vectors import Vector


__all__ = ["layer_table", "shares_of"]


def shares_of(direction: Tensor, domain: Vector, names: Sequence[str]) -> tuple[Share, ...]:
    """The share of a direction's squared length in each parameter, largest first.

    Args:
        direction: n entries.
        domain: A Vector in whose shapes it is read.
        names: The names of its parts.

    Returns:
        The shares, of sum 1.

    Example:
        >>> import torch
        >>> shares_of(torch.tensor([3.0, 4.0]), Vector([torch.ones(1), torch.ones(1)]), "ab")
        (Share(name='b', share=0.64), Share(name='a', share=0.36))
    """
    squares = direction.detach().double().square().cpu()
    whole = float(squares.sum()) or 1.0
    pieces = squares.split([part.numel() for part in domain])
    found = [
        Share(name, float(piece.sum()) / whole) for name, piece in zip(names, pieces, strict=True)
    ]
    return tuple(sorted(found, key=lambda share: -share.share))


def layer_table(
    closure: AbstractClosure,
    gradient: Tensor,
    top: Tensor,
    *,
    how: How,
    seed: int = 0,
    progress: bool = False,
) -> tuple[Layer, ...]:
    """The largest eigenvalue of each layer's own block of the Hessian.

    A layer's block is the Hessian with all else frozen: the stable rate of plain gradient descent
    on that layer alone is two over its largest eigenvalue.

    Args:
        closure: The loss.
        gradient: Its gradient, flat.
        top: The top eigenvector of the whole Hessian, flat.
        how: How products are computed.
        seed: Of the Lanczos starts.
        progress: Show a progress bar.

    Returns:
        A row a layer, in the model's order.
    """
    domain, names = closure.params.detach(), closure.names
    slopes = gradient.double().square().cpu().split([part.numel() for part in domain])
    inside = {share.name: share.share for share in shares_of(top, domain, names)}
    rows = []
    groups = layers(names)
    each = track(groups, description="layers", transient=True) if progress else groups
    for name in each:
        held = groups[name]
        block = Hessian(closure, [_literal(names[i]) for i in held], how)
        pair = eigsh(block, 1, "LA", seed=seed)
        rows.append(
            Layer(
                name,
                block.shape[0],
                Quantity(float(pair.values[0]), float(pair.errors[0]), pair.products, "lanczos"),
                float(sum(float(slopes[i].sum()) for i in held)) ** 0.5,
                sum(inside[names[i]] for i in held),
            )
        )
    return tuple(rows)


def _literal(name: str) -> str:
    """A name that stands for itself where patterns are read."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
