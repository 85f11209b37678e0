r"""The hidden units of one network renumbered to be like those of another (weight matching).

Two networks that learned the same units in another order are far apart, with a hump between them,
though they are the same function. Weight matching renumbers the second,

.. math:: \max_{\pi} \sum_i \bigl\langle W_i^A,\ \pi(W_i^B) \bigr\rangle,

over one renumbering for each group of units, which all tensors follow. One group at a time is a
linear assignment; the groups are gone through until nothing is gained.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from thalweg.errors import bad_argument, integer_from
from thalweg.landscape.alignment_spec import PermutationSpec
from thalweg.landscape.alignment_tracing import traced_spec


__all__ = ["Aligned", "align"]

SWEEPS = 100


@final
@dataclass(frozen=True, eq=False)
class Aligned:
    """A network with renumbered units: the same function as before.

    Args:
        model: The renumbered copy.
        permutations: For each group of units, by the first tensor and axis that has it, the unit
            that took the place of each.
        similarity: The cosine between its weights and those that it was to be like.
        before: That of the network as it was.
        sweeps: How often the groups were gone through.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> other = copy.deepcopy(model)
        >>> order = torch.tensor([2, 0, 1])
        >>> other[0].weight.data, other[0].bias.data = model[0].weight[order], model[0].bias[order]
        >>> other[2].weight.data = model[2].weight[:, order]
        >>> round(align(model, other).similarity, 6)
        1.0
    """

    model: nn.Module
    permutations: dict[str, Tensor]
    similarity: float
    before: float
    sweeps: int


def align(
    a: nn.Module,
    b: nn.Module,
    spec: PermutationSpec | Mapping[str, Sequence[str | None]] | None = None,
    *,
    inputs: Any = None,
    restarts: int = 2,
    seed: int = 0,
) -> Aligned:
    """Renumber the hidden units of ``b`` so that its weights are like those of ``a``.

    The units are found by following the forward pass of ``a``: linear layers, convolutions,
    BatchNorm and other normalisation, activations, pooling, flattening, sums (residual networks),
    padding with zero channels, concatenations. What is not known is refused in words; then say it
    yourself. BatchNorm's statistics are renumbered too; between two networks they have to be
    gathered again (:func:`~thalweg.landscape.recalibrated`).

    Weight matching finds a local maximum. It is begun from the networks' own order, from one that
    is built layer by layer from the inputs on (which recovers a renumbered copy), and from
    ``restarts`` random ones; the best is taken.

    Args:
        a: The network that ``b`` is to be like.
        b: A network of the same architecture; it is not changed.
        spec: Which axes belong to the same units: a specification, or its form by names
            (:meth:`PermutationSpec.of`). None: found by following the forward pass.
        inputs: An input of the network, to check that the function is the same.
        restarts: Random beginnings, at least 0.
        seed: Of the random beginnings, and of the order of the groups.

    Returns:
        A renumbered copy of ``b``.

    Raises:
        TypeError: If the forward pass cannot be followed.
        ValueError: If the networks have different tensors, or the function has changed at
            ``inputs``: then the specification is wrong.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> a, b = (nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)) for _ in range(2))
        >>> found, x = align(a, b), torch.randn(5, 2)
        >>> found.similarity > found.before, torch.allclose(found.model(x), b(x))
        (True, True)

    References:
        Ainsworth, Hayase and Srinivasa, Git Re-Basin: merging models modulo permutation
        symmetries, 2023.
    """
    integer_from(0).check("align", "restarts", restarts)
    target, source = _floats(a), _floats(b)
    _check_same(target, source)
    if spec is None:
        spec = traced_spec(a)
    elif not isinstance(spec, PermutationSpec):
        spec = PermutationSpec.of(a, spec)
    weights = [name for name, _ in a.named_parameters()]
    matcher = _Matcher(spec, *({n: held[n] for n in weights} for held in (target, source)))
    draws = np.random.default_rng(seed)
    starts = [spec.identity(), matcher.forward()]
    starts += [matcher.random(draws) for _ in range(restarts)]
    found = [matcher.improved(start, draws) for start in starts]
    numbering, sweeps = max(found, key=lambda one: matcher.value(one[0]))
    model = copy.deepcopy(b)
    moved = spec.permuted(model.state_dict(), numbering)
    model.load_state_dict({name: tensor.clone() for name, tensor in moved.items()})
    if inputs is not None:
        _check_function(b, model, inputs)
    norm = matcher.norms
    return Aligned(
        model,
        _named(spec, numbering),
        matcher.value(numbering) / norm,
        matcher.value(spec.identity()) / norm,
        sweeps,
    )


@final
class _Matcher:
    """Two sets of tensors, and how alike they are for a numbering of the second."""

    def __init__(
        self, spec: PermutationSpec, target: dict[str, Tensor], source: dict[str, Tensor]
    ) -> None:
        self.spec, self.target, self.source = spec, target, source
        self.norms = _norm(target) * _norm(source)
        # Where each group of units occurs: (tensor, axis).
        self.uses: list[list[tuple[str, int]]] = []
        for cell in spec.cells:
            uses = [
                (name, i)
                for name in target
                for i, labels in enumerate(spec.axes.get(name, ()))
                if labels is not None and bool(torch.isin(cell, labels).any())
            ]
            self.uses.append(uses)

    def value(self, numbering: Tensor, names: Sequence[str] | None = None) -> float:
        """The sum of inner products, over all tensors or some."""
        chosen = self.source if names is None else {name: self.source[name] for name in names}
        moved = self.spec.permuted(chosen, numbering)
        return sum(float((self.target[n] * tensor).sum()) for n, tensor in moved.items())

    def improved(self, numbering: Tensor, draws: np.random.Generator) -> tuple[Tensor, int]:
        """Go through the groups until nothing is gained; the numbering and the sweeps."""
        for sweep in range(1, SWEEPS + 1):
            gained = False
            for k in draws.permutation(len(self.spec.cells)):
                names = sorted({name for name, _ in self.uses[k]})
                before = self.value(numbering, names)
                trial = self.assigned(numbering, int(k), self.uses[k])
                if self.value(trial, names) > before + 1e-12 * (abs(before) + self.norms):
                    numbering, gained = trial, True
            if not gained:
                return numbering, sweep
        return numbering, SWEEPS

    def assigned(self, numbering: Tensor, k: int, uses: Sequence[tuple[str, int]]) -> Tensor:
        """The best numbering of one group, with the others as they are."""
        cell = self.spec.cells[k]
        gains = torch.zeros(len(cell), len(cell), dtype=torch.float64)
        for name, axis in uses:
            labels = self.spec.axes[name][axis]
            assert labels is not None
            (mine,) = self.spec.permuted(
                {name: self.source[name]}, numbering, but=(name, axis)
            ).values()
            gains += (
                _rows(self.target[name], axis, labels, cell) @ _rows(mine, axis, labels, cell).T
            )
        _, best = linear_sum_assignment(gains.numpy(), maximize=True)
        found = numbering.clone()
        found[cell] = cell[torch.as_tensor(best)]
        return found

    def forward(self) -> Tensor:
        """A numbering built group by group, from tensors whose other axes are settled."""
        numbering, settled = self.spec.identity(), set()
        for k, uses in enumerate(self.uses):
            ready = [use for use in uses if self._others(use) <= settled]
            if ready:
                numbering = self.assigned(numbering, k, ready)
            settled.add(k)
        return numbering

    def random(self, draws: np.random.Generator) -> Tensor:
        """A numbering drawn at random."""
        numbering = self.spec.identity()
        for cell in self.spec.cells:
            numbering[cell] = cell[torch.as_tensor(draws.permutation(len(cell)))]
        return numbering

    def _others(self, use: tuple[str, int]) -> set[int]:
        """The groups on the other axes of a tensor."""
        name, axis = use
        return {k for k, uses in enumerate(self.uses) for n, i in uses if n == name and i != axis}


def _rows(tensor: Tensor, axis: int, labels: Tensor, cell: Tensor) -> Tensor:
    """(units, rest) the entries of each unit of a group, its positions in their order."""
    places = torch.stack([(labels == unit).nonzero().flatten() for unit in cell])
    return tensor.movedim(axis, 0)[places].reshape(len(cell), -1)


def _floats(model: nn.Module) -> dict[str, Tensor]:
    """Tensors of a network on the CPU, in float64."""
    held = model.state_dict()
    return {n: t.detach().cpu().double() for n, t in held.items() if t.is_floating_point()}


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return sum(float(tensor.square().sum()) for tensor in tensors.values()) ** 0.5


def _check_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    shapes = [{name: tuple(tensor.shape) for name, tensor in held.items()} for held in (a, b)]
    if shapes[0] != shapes[1]:
        differ = sorted({n for n, _ in set(shapes[0].items()) ^ set(shapes[1].items())})
        raise bad_argument("align", "b", differ[:3], "a network with the same tensors as a")


def _check_function(before: nn.Module, after: nn.Module, inputs: Any) -> None:
    modes = {m: m.training for model in (before, after) for m in model.modules()}
    try:
        with torch.no_grad():
            one, other = (model.eval()(inputs) for model in (before, after))
    finally:
        for m, training in modes.items():
            m.training = training
    off = float((one - other).abs().max() / one.abs().max().clamp_min(1e-30))
    if not off < 1e-3:
        raise ValueError(
            f"align(spec=...): the renumbered network is another function (outputs differ by "
            f"{off:.1%}): the specification ties wrong axes together, or leaves some out."
        )


def _named(spec: PermutationSpec, numbering: Tensor) -> dict[str, Tensor]:
    """Each group by the first axis that has it; numbers within the group."""
    found: dict[str, Tensor] = {}
    for cell in spec.cells:
        name = next(
            f"{name}[{i}]"
            for name, axes in spec.axes.items()
            for i, labels in enumerate(axes)
            if labels is not None and bool(torch.isin(cell, labels).any())
        )
        name = name if name not in found else f"{name} ({len(found)})"
        found[name] = torch.searchsorted(cell, numbering[cell])
    return found
