r"""Dinh's rescaling: the same function with other weights, and another curvature.

Where a positively homogeneous activation stands between two layers,
:math:`\phi(\alpha z) = \alpha\,\phi(z)` for :math:`\alpha > 0`, the transformation

.. math:: T_\alpha : (W_1, b_1, W_2) \mapsto (\alpha W_1, \alpha b_1, W_2 / \alpha)

leaves the network's function as it is, while the largest eigenvalue and the trace of its Hessian,
:math:`\epsilon`-flatness and the sharpness of Keskar et al. can be made as large as one likes. A
measure of flatness that moves under it says nothing of generalisation by itself.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from thalweg.errors import POSITIVE, bad_argument, unknown_name


__all__ = ["rescaled"]

Model = TypeVar("Model", bound=nn.Module)

_TOLERANCE = 1e3  # roundings of the largest output


def rescaled(
    model: Model, first: str, second: str, factor: float, *, inputs: Tensor | None = None
) -> Model:
    r"""A copy of a model with one layer multiplied and a later one divided.

    Args:
        model: The model, which stays as it is.
        first: The name of the layer whose weight and bias are multiplied, as in
            ``model.named_modules()``.
        second: The name of the layer whose weight is divided. Between the two there may be ReLU,
            leaky ReLU, pooling, flattening, dropout: whatever is positively homogeneous.
        factor: :math:`\alpha > 0`.
        inputs: A batch on which both models are run, to prove that the function is the same.

    Returns:
        The copy.

    Raises:
        ValueError: If a name is unknown, a layer has no weight, or the function changes on
            ``inputs``.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> x = torch.randn(5, 2)
        >>> other = rescaled(model, "0", "2", 10.0, inputs=x)
        >>> bool((other[0].weight / model[0].weight).min() > 9.9)
        True

    References:
        Dinh, Pascanu, Bengio and Bengio, Sharp minima can generalize for deep nets, 2017.
    """
    POSITIVE.check("rescaled", "factor", factor)
    if first == second:
        raise bad_argument("rescaled", "second", second, "another layer than the first")
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for name, by in ((first, factor), (second, 1.0 / factor)):
            layer = _layer(changed, name)
            layer.weight.mul_(by)
            if name == first and getattr(layer, "bias", None) is not None:
                layer.bias.mul_(by)
    if inputs is not None:
        _check_same(model, changed, inputs)
    return changed


def _layer(model: nn.Module, name: str) -> Any:
    modules = {n: m for n, m in model.named_modules() if isinstance(_weight(m), nn.Parameter)}
    if name not in modules:
        raise unknown_name("rescaled", "layer with a weight", name, modules)
    return modules[name]


def _weight(module: nn.Module) -> Any:
    return module._parameters.get("weight")


@torch.no_grad()
def _check_same(model: nn.Module, changed: nn.Module, inputs: Tensor) -> None:
    before, after = copy.deepcopy(model).eval()(inputs), copy.deepcopy(changed).eval()(inputs)
    allowed = _TOLERANCE * torch.finfo(before.dtype).eps * float(before.abs().max())
    off = float((after - before).abs().max())
    if not off <= allowed:
        raise ValueError(
            f"rescaled(...): the function is not the same, outputs move by {off:.3g}. Is there "
            "something that is not positively homogeneous between the layers, or a layer beside "
            "them that uses the first one's outputs?"
        )
