r"""Random directions, and the normalisations that make their scale mean something.

A raw random direction has the same length whatever the weights, so that a network with small
weights looks sharp and the same network rescaled looks flat. With filter normalisation, each unit j
of a Gaussian d is given the norm of the weights that it perturbs,

.. math:: d_j \leftarrow \frac{d_j}{\lVert d_j \rVert}\, \lVert \theta_j \rVert .
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from thalweg.errors import integer_from, one_of
from thalweg.landscape.directions import Axes, Weights, as_vector
from thalweg.landscape.directions_layout import Layout, layouts
from thalweg.objective import AbstractClosure
from thalweg.vectors import Vector


__all__ = ["NORMALISATIONS", "normalised", "random_axes"]

NORMALISATIONS = ("filter", "layer", "model", "weight", "unit", "none")
_TREATMENTS = ("zero", "random")
_WORDS = {
    "filter": "random, filter-normalised",
    "layer": "random, layer-normalised",
    "model": "random, of the weights' norm",
    "weight": "random, each entry times its weight",
    "unit": "random, of length 1",
    "none": "random Gaussian",
}


def random_axes(
    closure: AbstractClosure,
    normalisation: str = "filter",
    *,
    count: int = 2,
    biases: str = "zero",
    norms: str = "zero",
    seed: int = 0,
    centre: Weights | None = None,
    output_axes: Mapping[str, int] | None = None,
) -> Axes:
    r"""One or two random directions around a point.

    * ``"filter"``: each output unit gets the norm of its weights (Li et al.);
    * ``"layer"``: each parameter tensor does;
    * ``"model"``: the whole direction gets the norm of all weights;
    * ``"weight"``: each entry is multiplied by its weight;
    * ``"unit"``: length 1; ``"none"``: as drawn. Neither takes the scale of the weights into
      account, and neither can be compared between networks.

    An output unit is a row of a linear layer, an output channel of a convolution (dimension 1 of a
    transposed one), a token of an embedding. Shared weights are one parameter and are perturbed
    once; frozen parameters stay. The two directions are independent and not made orthogonal: in n
    dimensions their cosine is about :math:`1/\sqrt n`, and is in ``Axes.cosine``.

    Args:
        closure: Whose parameters.
        normalisation: One of the six names; default the paper's.
        count: 1 or 2 directions.
        biases: ``"zero"`` leaves biases alone, as in the paper's figures; ``"random"`` perturbs
            them, each tensor as one unit.
        norms: The same for the scales and biases of normalisation layers.
        seed: Of the Gaussian.
        centre: The centre, whose norms are taken; None takes the live parameters.
        output_axes: Name of a parameter to the dimension of its output units, for modules that
            are not torch's own.

    Returns:
        The axes; the window is [-1, 1] where the direction has the scale of the weights.

    Raises:
        ValueError: If an argument is outside its range, or a direction is zero everywhere.

    Example:
        >>> from thalweg.objective import Objective
        >>> model = torch.nn.Linear(3, 2)
        >>> objective = Objective(model, torch.nn.functional.mse_loss)
        >>> closure = objective.closure(torch.zeros(1, 3), torch.zeros(1, 2))
        >>> weight, bias = random_axes(closure).directions[0]
        >>> torch.allclose(weight.norm(dim=1), model.weight.norm(dim=1)), bias.tolist()
        (True, [0.0, 0.0])

    References:
        Li, Xu, Taylor, Studer and Goldstein, Visualizing the loss landscape of neural nets,
        section 4, 2018.
    """
    one_of(*NORMALISATIONS).check("random_axes", "normalisation", normalisation)
    one_of(*_TREATMENTS).check("random_axes", "biases", biases)
    one_of(*_TREATMENTS).check("random_axes", "norms", norms)
    integer_from(1).check("random_axes", "count", count)
    live = closure.params
    start = live.clone() if centre is None else as_vector("random_axes", closure, centre)
    read = layouts(closure, output_axes)
    still = {"bias": biases == "zero", "norm": norms == "zero", "weight": False}
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        parts = [
            torch.zeros_like(p) if still[layout.role] else _gaussian(p, generator)
            for p, layout in zip(start, read, strict=True)
        ]
        made.append(_normalised(Vector(parts), start, normalisation, read))
    words = _WORDS[normalisation]
    scaled = normalisation not in {"unit", "none"}
    meta = {"kind": "random", "normalisation": normalisation, "biases": biases}
    meta |= {"norm_parameters": norms, "seed": seed}
    labels = (f"direction 1 ({words})", f"direction 2 ({words})")[:count]
    return Axes(start, tuple(made), labels, ((-1.0, 1.0),) * count if scaled else None, meta)


def normalised(
    closure: AbstractClosure,
    direction: Weights,
    normalisation: str = "filter",
    *,
    centre: Weights | None = None,
    output_axes: Mapping[str, int] | None = None,
) -> Vector:
    """A direction of the user's own with a normalisation of :func:`random_axes`.

    Args:
        closure: Whose parameters.
        direction: A Vector, a flat tensor or a list of tensors.
        normalisation: One of the six names.
        centre: Where the weights' norms are taken; None takes the live parameters.
        output_axes: As for :func:`random_axes`.

    Returns:
        The normalised direction. Parts that are zero stay zero.

    Raises:
        ValueError: If the name is unknown, or the direction does not fit.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> closure = Objective.of(lambda x: x.square().sum()).closure(x)
        >>> normalised(closure, torch.tensor([0.0, 2.0]), "model")[0]
        tensor([0., 5.])
    """
    one_of(*NORMALISATIONS).check("normalised", "normalisation", normalisation)
    live = closure.params
    at = live.clone() if centre is None else as_vector("normalised", closure, centre)
    given = as_vector("normalised", closure, direction)
    return _normalised(given, at, normalisation, layouts(closure, output_axes))


def _normalised(direction: Vector, at: Vector, how: str, read: list[Layout]) -> Vector:
    if how == "none":
        return direction
    if how == "weight":
        return Vector(d * p for d, p in zip(direction, at, strict=True))
    if how in {"model", "unit"}:
        length = float(direction.norm())
        aim = float(at.norm()) if how == "model" else 1.0
        return direction.mul(aim / length if length else 0.0)
    whole = Layout("weight", None)
    return Vector(
        _unit_by_unit(d, p, layout if how == "filter" else whole)
        for d, p, layout in zip(direction, at, read, strict=True)
    )


def _unit_by_unit(d: Tensor, p: Tensor, layout: Layout) -> Tensor:
    if not d.numel():
        return d
    lengths, aims = _norms(layout.units(d)), _norms(layout.units(p.detach()))
    # A unit without direction, or without weights, stays where it is.
    scale = torch.where(lengths > 0, aims / lengths.clamp_min(torch.finfo(aims.dtype).tiny), 0.0)
    return layout.scaled(d, scale.to(d.real.dtype if d.is_complex() else d.dtype))


def _norms(units: Tensor) -> Tensor:
    real = torch.view_as_real(units).flatten(2) if units.is_complex() else units
    return torch.linalg.vector_norm(real, dim=2, dtype=torch.float64)


def _gaussian(p: Tensor, generator: torch.Generator) -> Tensor:
    """Drawn on the CPU, so that a seed means the same direction on every device."""
    kind = p.dtype if p.dtype in (torch.float64, torch.complex128) else torch.float32
    if p.is_complex() and kind == torch.float32:
        kind = torch.complex64
    return torch.randn(p.shape, generator=generator, dtype=kind).to(p.device, p.dtype)
