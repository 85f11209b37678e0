"""Axes along eigenvectors of the Hessian: the directions of most, or least, curvature."""

from __future__ import annotations

from thalweg.curvature import Hessian, How, eigsh
from thalweg.errors import one_of
from thalweg.landscape.directions import Axes, Weights, as_vector
from thalweg.landscape.evaluation_ground import standing_at
from thalweg.objective import AbstractClosure


__all__ = ["hessian_axes"]

_ORDERS = {"LA": "largest", "SA": "smallest", "LM": "largest in magnitude", "BE": "both ends"}


def hessian_axes(
    closure: AbstractClosure,
    which: str = "LA",
    *,
    count: int = 2,
    tol: float = 0.01,
    seed: int = 0,
    centre: Weights | None = None,
    progress: bool = False,
) -> Axes:
    r"""One or two eigenvectors of the Hessian, of length 1 and at a right angle.

    Args:
        closure: A closure or a risk.
        which: ``"LA"`` largest eigenvalues, ``"SA"`` smallest, ``"LM"`` largest in magnitude,
            ``"BE"`` the largest and the smallest: the most convex and the most concave direction.
        count: 1 or 2.
        tol: Relative residual of each pair, > 0 (:func:`thalweg.curvature.eigsh`).
        seed: Of the starting vector.
        centre: Where the Hessian is taken; None takes the live parameters.
        progress: Show a progress bar.

    Returns:
        The axes; ``meta`` has the eigenvalues and their errors.

    Raises:
        ValueError: If an argument is outside its range.
        NonFiniteError: If the Hessian has a NaN or an infinite entry.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> x = torch.zeros(3, requires_grad=True)
        >>> scale = torch.tensor([1.0, -2.0, 5.0])
        >>> closure = Objective.of(lambda x: (scale * x.square()).sum() / 2).closure(x)
        >>> axes = hessian_axes(closure, "BE")
        >>> [abs(direction[0]).round().tolist() for direction in axes.directions]
        [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    one_of(*_ORDERS).check("hessian_axes", "which", which)
    live = closure.params
    at = live.clone() if centre is None else as_vector("hessian_axes", closure, centre)
    with standing_at(closure, at):
        hessian = Hessian(closure, how=How(check=False))
        pairs = eigsh(hessian, count, which, tol=tol, seed=seed, progress=progress, copies=False)
    columns = pairs.vectors.T.contiguous()
    directions = tuple(as_vector("hessian_axes", live, column) for column in columns)
    values = pairs.values.tolist()
    labels = tuple(f"eigenvector {i + 1} (λ = {value:.3g})" for i, value in enumerate(values))
    meta = {
        "kind": "hessian",
        "which": _ORDERS[which],
        "eigenvalues": values,
        "eigenvalue_errors": pairs.errors.tolist(),
        "converged": pairs.converged,
        "seed": seed,
    }
    return Axes(at, directions, labels, None, meta)
