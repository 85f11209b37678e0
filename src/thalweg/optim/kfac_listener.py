"""Where K-FAC's rows come from: a closure, or the forward passes of a training loop."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn

from thalweg.curvature.factors import Factors, absorb_rows, fisher_slopes
from thalweg.curvature.layer_records import (
    Key,
    LayerRecord,
    layer_records,
    records_of,
    slopes_of,
    usable,
)
from thalweg.curvature.outputs import output_gradient
from thalweg.objective import AbstractClosure, output_loss
from thalweg.objective.recorder import Recorder


__all__ = ["Found", "Listener"]

Found = tuple[dict[Key, Factors], set[int], list[tuple[LayerRecord, float]]]


@final
class _Ear:
    """A hook on the model that hears for a listener; a copy of the model hears nothing."""

    def __init__(self, method: Callable[..., None] | None = None) -> None:
        self._method = None if method is None else weakref.WeakMethod(method)

    def __call__(self, *arguments: Any) -> None:
        heard = None if self._method is None else self._method()
        if heard is not None:
            heard(*arguments)

    def __deepcopy__(self, memo: Any) -> _Ear:
        return _Ear()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Ear, ()


@final
class Listener:
    """Records layers while the model runs in train mode and the factors are due.

    Args:
        model: Whose forward passes are heard.
        owner: The optimizer.
    """

    def __init__(self, model: nn.Module, owner: Any) -> None:
        self.model = model
        self._attach(owner)

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.model = state["model"]
        self._attach(None)

    def _attach(self, owner: Any) -> None:
        self._owner = None if owner is None else weakref.ref(owner)
        self._silent = False
        self._recorder: Recorder | None = None
        self._heard: list[tuple[list[LayerRecord], set[int], float]] = []
        self.model.register_forward_pre_hook(_Ear(self._before))
        self.model.register_forward_hook(_Ear(self._after), always_call=True)

    def belongs_to(self, owner: Any) -> None:
        """Hear for this optimizer (a copy hears for itself from its first step on)."""
        self._owner = weakref.ref(owner)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Hear nothing inside."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    # ---- a closure ------------------------------------------------------------------------
    def from_closure(self, closure: AbstractClosure, step: int) -> Found:
        """Factors from a forward pass of each batch of a closure, and backward passes."""
        owner = self._owner() if self._owner else None
        assert owner is not None
        (group,) = owner.param_groups
        place = {id(p): i for i, p in enumerate(owner.listed)}
        index = [place.get(id(p)) for p in closure.params]
        held: list[tuple[list[LayerRecord], set[int], float]] = []
        still = closure.still(borrow=True)
        for k, batch in enumerate(still.batches):
            seed = group["seed"] + 7919 * step + k
            slopes = fisher_slopes(batch, group["fisher"], group["samples"], seed)
            with batch.ledger.charge(forward=1, backward=group["samples"]):
                records, refused, weight = layer_records(batch, list(still.params), slopes)
            moved = [_keyed(r, index) for r in records]
            own = {j for i in refused if (j := index[i]) is not None}
            held.append(([r for r in moved if r is not None], own, weight))
        return _summed(held, 1.0 if still.summed else None)

    # ---- plain forward and backward --------------------------------------------------------
    def collected(self) -> Found:
        """Factors from what was heard since the last step."""
        heard, self._heard = self._heard, []
        return _summed(heard, None)

    def _before(self, module: nn.Module, inputs: Any) -> None:
        owner = self._owner() if self._owner else None
        hears = owner is not None and module is self.model and not self._silent
        if not hears or self._recorder is not None or not module.training:
            return
        if torch.is_grad_enabled() and owner.factors_due():
            self._recorder = Recorder(owner.listed)
            self._recorder.__enter__()

    def _after(self, module: nn.Module, inputs: Any, result: Any) -> None:
        if self._recorder is None or module is not self.model:
            return
        recorder, self._recorder = self._recorder, None
        recorder.__exit__(None, None, None)
        outputs = _tensor(result)
        owner = self._owner() if self._owner else None
        if outputs is None or owner is None or not outputs.requires_grad:
            return
        uses, refused = usable(recorder)
        (group,) = owner.param_groups
        if owner.loss_fn is None or group["fisher"] == "empirical":
            if owner.loss_fn is None and group["fisher"] != "empirical":
                _say_empirical(owner)
            back: list[list[Tensor]] = [[] for _ in uses]
            for use, made in zip(uses, back, strict=True):
                _catch(use, made, len(outputs) ** 0.5)
            self._heard.append((_Later(uses, back), refused, 1.0))  # type: ignore[arg-type]
            return
        loss = output_loss(owner.loss_fn)
        generator = torch.Generator(outputs.device).manual_seed(
            group["seed"] + 7919 * owner.info_steps + len(self._heard)
        )
        fixed = outputs.detach()
        drawn = [loss.sample(fixed, None, generator) for _ in range(group["samples"])]
        count = loss.count(fixed, drawn[0]) if loss.reduction == "mean" else 1.0
        share = (count / len(drawn)) ** 0.5
        cotangents = [output_gradient(loss, fixed, labels)[1] * share for labels in drawn]
        made = slopes_of(outputs, uses, cotangents)
        self._heard.append((records_of(uses, made), refused, 1.0))


@final
class _Later:
    """Records of a pass whose backward has not run yet; read as a list when it has."""

    def __init__(self, uses: Any, back: Any) -> None:
        self._uses, self._back = uses, back

    def __iter__(self) -> Iterator[LayerRecord]:
        ready = [(u, b) for u, b in zip(self._uses, self._back, strict=True) if b]
        return iter(records_of([u for u, _ in ready], [b for _, b in ready]))


def _catch(use: Any, made: list[Tensor], scale: float) -> None:
    """Keep the gradient of the use's output when the user's own backward passes by."""
    edge = use.edge

    def passing(grads: tuple[Tensor | None, ...]) -> None:
        found = grads[edge.output_nr]
        if found is not None:
            made.append(found.detach() * scale)

    edge.node.register_prehook(passing)


def _summed(held: list[Any], scale: float | None) -> Found:
    factors: dict[Key, Factors] = {}
    refused: set[int] = set()
    rows: list[tuple[LayerRecord, float]] = []
    total = 0.0
    for records, missed, weight in held:
        refused |= missed
        total += weight
        for record in records:
            absorb_rows(factors, record, weight, False)
            rows.append((record, weight))
    share = scale if scale is not None else (1.0 / total if total else 1.0)
    for found in factors.values():
        found.finish(share, False)
    return factors, refused, [(record, weight * share) for record, weight in rows]


def _keyed(record: LayerRecord, index: list[int | None]) -> LayerRecord | None:
    """The record with the optimizer's numbers for its parameters."""
    weight, bias, first, rows = record.key
    w = index[weight]
    b = None if bias is None else index[bias]
    if w is None or (bias is not None and b is None):
        return None
    return replace(record, key=(w, b, first, rows))


def _tensor(result: Any) -> Tensor | None:
    if isinstance(result, Tensor):
        return result
    found = result.get("logits") if isinstance(result, Mapping) else getattr(result, "logits", None)
    return found if isinstance(found, Tensor) else None


def _say_empirical(owner: Any) -> None:
    if not owner.said_empirical:
        owner.said_empirical = True
        warnings.warn(
            "KFAC: no loss is known after a plain backward(), so the Fisher matrix is that of the "
            "data's labels (empirical). Pass options=KFACOptions(loss_fn=...), or step with "
            "objective.closure(x, y), for labels drawn from the prediction.",
            UserWarning,
            stacklevel=2,
        )
