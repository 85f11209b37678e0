r"""Below the cost of a forward pass: the first layer of a plane is known from three products.

On a plane :math:`\theta_0 + a\,\delta + b\,\eta`, a layer that is affine in its own weights and is
given the same input at every point returns

.. math:: h(a, b) = h_0 + a\,h_\delta + b\,h_\eta

exactly: its outputs for the weights of the centre and of each direction. Three products are
computed once, and each point takes one addition. For a perceptron on images the first layer is most
of the work.

Whether a layer's input is the same everywhere is found by looking at it at several points; that the
whole is right, by comparing the metrics with plain evaluations (:mod:`evaluation_choice`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from thalweg.curvature.graphs import free_memory
from thalweg.landscape.evaluation import Evaluation
from thalweg.landscape.evaluation_guard import modules_of
from thalweg.vectors import Vector


__all__ = ["Reuse", "affine_layers"]

_AFFINE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Embedding,
)
_SHARE = 8  # the part of the free memory that kept outputs may take


@contextmanager
def _listening(
    evaluation: Evaluation, layers: Sequence[nn.Module], hear: Callable[[int, int, Any], None]
) -> Iterator[None]:
    """Inside, ``hear(layer, batch, inputs)`` is told what each layer is given."""
    batch = [0]

    def at(i: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            del module
            hear(i, batch[0], None if kwargs or len(args) != 1 else args[0])

        return hook

    handles = [m.register_forward_pre_hook(at(i), with_kwargs=True) for i, m in enumerate(layers)]
    evaluation.watch = lambda k: batch.__setitem__(0, k)
    try:
        yield
    finally:
        evaluation.watch = None
        for handle in handles:
            handle.remove()


def affine_layers(
    evaluation: Evaluation, stands: Sequence[Callable[[], None]]
) -> list[tuple[nn.Module, list[Tensor]]]:
    """The affine layers that are given the same input wherever the model stands.

    Args:
        evaluation: What is evaluated.
        stands: Calls that make the live model stand at some points.

    Returns:
        Each layer with its input for each batch.
    """
    layers = [m for m in modules_of(evaluation.closure) if _plain(m)]
    seen: dict[tuple[int, int], Any] = {}
    out: set[int] = set()

    def compare(i: int, k: int, x: Any) -> None:
        print_of = _fingerprint(x)
        if print_of is None or seen.setdefault((i, k), print_of) != print_of:
            out.add(i)

    with _listening(evaluation, layers, compare):
        for stand in stands:
            stand()
            evaluation()
    batches = range(len(evaluation.samples))
    fixed = [
        m for i, m in enumerate(layers) if i not in out and all((i, k) in seen for k in batches)
    ]
    inputs: dict[tuple[int, int], Tensor] = {}
    if fixed:
        with _listening(evaluation, fixed, lambda i, k, x: inputs.update({(i, k): x.clone()})):
            evaluation()
    return [(m, [inputs[i, k] for k in batches]) for i, m in enumerate(fixed)]


def _plain(module: nn.Module) -> bool:
    """Whether a module is one of torch's own affine layers and nobody has changed what it does."""
    if type(module) not in _AFFINE or "forward" in module.__dict__:
        return False
    if getattr(module, "max_norm", None) is not None:
        return False
    return not (module._forward_hooks or module._forward_pre_hooks)


def _fingerprint(x: Any) -> tuple[Any, ...] | None:
    if not isinstance(x, Tensor) or x.is_complex():
        return None
    flat = x.detach().reshape(-1)
    sums = flat.sum(dtype=torch.float64), flat.double().square().sum(), flat[1::3].double().sum()
    return x.shape, x.dtype, *(float(total) for total in sums)


@final
@dataclass
class _Kept:
    """One layer's outputs on one batch: at the centre and along each direction."""

    centre: Tensor
    first: Tensor
    second: Tensor | None
    row: Tensor
    out: Tensor


@final
class Reuse:
    """Stands in for affine layers whose input is the same everywhere.

    Args:
        layers: The layers, each with its input for each batch.
        params: The live parameters.
        centre: The centre of the plane.
        directions: One or two directions.
        owners: Every module of the model.
    """

    def __init__(
        self,
        layers: list[tuple[nn.Module, list[Tensor]]],
        params: Vector,
        centre: Vector,
        directions: Sequence[Vector],
        owners: Sequence[nn.Module],
    ) -> None:
        self._place = {id(p): i for i, p in enumerate(params)}
        self.layers = [layer for layer, _ in layers]
        first, second = directions[0], directions[1] if len(directions) > 1 else None
        self._kept: list[list[_Kept]] = []
        for layer, inputs in layers:
            at = [self._outputs(layer, inputs, v, v is not centre) for v in (centre, first)]
            across = None if second is None else self._outputs(layer, inputs, second, True)
            self._kept.append(
                [
                    _Kept(h, d, None if across is None else across[k], h.clone(), h.clone())
                    for k, (h, d) in enumerate(zip(*at, strict=True))
                ]
            )
        uses: dict[int, int] = {}
        for module in owners:
            for p in module._parameters.values():
                uses[id(p)] = uses.get(id(p), 0) + 1
        held = {id(p) for m in self.layers for p in m._parameters.values() if p is not None}
        self.alone = {self._place[i] for i in held if i in self._place and uses[i] == 1}
        self._batch, self._along = 0, 0.0

    @torch.no_grad()
    def _outputs(
        self, layer: nn.Module, inputs: list[Tensor], at: Vector, direction: bool
    ) -> list[Tensor]:
        values = {}
        for name, p in layer._parameters.items():
            if p is not None and id(p) in self._place:
                values[name] = at[self._place[id(p)]].detach()
            elif p is not None:
                values[name] = torch.zeros_like(p) if direction else p.detach()
        return [functional_call(layer, values, (x,)) for x in inputs]

    def fits(self) -> bool:
        """Whether there is room for what is kept."""
        kept = [batch.out for layer in self._kept for batch in layer]
        return 5 * sum(h.nbytes for h in kept) < free_memory(kept[0].device) // _SHARE

    def row(self, across: float) -> None:
        """Stand on the row ``b`` of the plane."""
        for layer in self._kept:
            for kept in layer:
                if kept.second is not None:
                    torch.add(kept.centre, kept.second, alpha=across, out=kept.row)

    def point(self, along: float) -> None:
        """Stand at the coordinate ``a`` of the row."""
        self._along = along

    @contextmanager
    def installed(self, evaluation: Evaluation) -> Iterator[None]:
        """Inside, the layers return what is known of them."""
        evaluation.watch = lambda k: setattr(self, "_batch", k)
        try:
            for layer, kept in zip(self.layers, self._kept, strict=True):
                layer.forward = self._stand_in(kept)
            yield
        finally:
            evaluation.watch = None
            for layer in self.layers:
                layer.__dict__.pop("forward", None)

    def _stand_in(self, kept: list[_Kept]) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            del x
            known = kept[self._batch]
            # Written anew for each call: what follows may work in place on it.
            return torch.add(known.row, known.first, alpha=self._along, out=known.out)

        return forward
