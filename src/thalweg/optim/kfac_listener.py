"""Where K-FAC's rows come from: a closure, or the forward passes of a training loop."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from thalweg.curvature.factors import Factors, absorb_rows, cotangents_of, fisher_slopes
from thalweg.curvature.layer_records import (
    Key,
    LayerRecord,
    layer_records,
    records_of,
    slopes_of,
    usable,
)
from thalweg.errors import NonFiniteError
from thalweg.objective import AbstractClosure, output_loss
from thalweg.objective.recorder import Recorder, Use


__all__ = ["Found", "Listener"]

_STEPS = 7919  # between the seeds of two steps' draws: more than a step has batches
_SCALED = 1 / 128  # a gradient this much smaller than what backward brought was not clipped alone


@final
@dataclass
class Found:
    """What was seen of the layers: sums over batches, and means once finished.

    Args:
        factors: Each layer's, of the batches so far.
        refused: Parameters that have no Kronecker form.
        rows: The records themselves with their weights, where they are kept (EKFAC).
        keep: Whether they are.
        total: The sum of the weights.

    Example:
        >>> Found().finished(None).factors
        {}
    """

    factors: dict[Key, Factors] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    rows: list[tuple[LayerRecord, float]] = field(default_factory=list)
    keep: bool = False
    total: float = 0.0

    def add(self, records: list[LayerRecord], refused: set[int], weight: float) -> None:
        """Take in a batch."""
        self.refused |= refused
        self.total += weight
        for record in records:
            absorb_rows(self.factors, record, weight, False)
            if self.keep:
                self.rows.append((record, weight))

    def finished(self, scale: float | None) -> Found:
        """The sums times ``scale``; None makes them means over the weights."""
        share = scale if scale is not None else (1.0 / self.total if self.total else 1.0)
        for factors in self.factors.values():
            factors.finish(share, False)
        self.rows = [(record, weight * share) for record, weight in self.rows]
        return self


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
        owner: The optimizer, held weakly; with it the hooks on the model go.
    """

    def __init__(self, model: nn.Module, owner: Any) -> None:
        self.model = model
        self._attach(owner)

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "owner": self._owner()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.model = state["model"]
        self._attach(state["owner"])

    def _attach(self, owner: Any) -> None:
        self._owner: Callable[[], Any] = weakref.ref(owner)
        self._silent = False
        self._depth = 0
        self._recorder: Recorder | None = None
        self.forget()
        before = self.model.register_forward_pre_hook(_Ear(self._before))
        after = self.model.register_forward_hook(_Ear(self._after), always_call=True)
        for handle in (before, after):
            weakref.finalize(self, handle.remove)

    def forget(self) -> None:
        """Drop what was heard."""
        self._heard: Found | None = None
        self._later: list[_Later] = []
        self._passes = 0
        self._summed = False
        self._broken = False

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
        owner = self._owner()
        (group,) = owner.param_groups
        place = {id(p): i for i, p in enumerate(group["params"])}
        index = [place.get(id(p)) for p in closure.params]
        name = type(owner).__name__
        found = Found(keep=owner.keeps_rows)
        still = closure.still(borrow=True)
        for k, batch in enumerate(still.batches):
            seed = group["seed"] + _STEPS * step + k
            slopes = fisher_slopes(batch, group["fisher"], group["samples"], seed, name)
            records, refused, weight = layer_records(batch, list(still.params), slopes)
            moved = [r for r in (_keyed(record, index) for record in records) if r is not None]
            found.add(moved, {j for i in refused if (j := index[i]) is not None}, weight)
        self.forget()
        return found.finished(1.0 if still.summed else None)

    # ---- plain forward and backward --------------------------------------------------------
    def collected(self) -> Found:
        """Factors from what was heard since the last step."""
        self._close()  # an interrupted forward pass may have left it open
        heard, later = self._heard, [each for each in self._later if each.back]
        broken = self._broken and heard is None
        self.forget()
        owner = self._owner()
        name = type(owner).__name__
        if broken:
            raise NonFiniteError(
                f"{name}.step(): the model's outputs are NaN or infinite; the parameters are as "
                "they were."
            )
        if heard is not None:
            return heard.finished(1.0 if self._summed else None)
        (group,) = owner.param_groups
        found = Found(keep=owner.keeps_rows)
        # The gradient is that of the mean over all rows: times their number it is a row's own.
        rows = sum(each.rows for each in later)
        if later and group["fisher"] != "empirical":
            _say_empirical(owner)
        passes = [each.records() for each in later]
        _check_scale(name, [r for records in passes for r in records], group["params"])
        for each, records in zip(later, passes, strict=True):
            found.add(records, each.refused, float(rows))
        return found.finished(1.0)

    def _before(self, module: nn.Module, inputs: Any) -> None:
        owner = self._owner()
        if owner is None or module is not self.model:  # a copy's forward
            return
        if self._recorder is not None:
            self._depth += 1
        elif self._listens(module) and owner.factors_due():
            self._depth = 1
            self._recorder = Recorder(owner.param_groups[0]["params"])
            self._recorder.__enter__()

    def _listens(self, module: nn.Module) -> bool:
        return module.training and not self._silent and torch.is_grad_enabled()

    def _close(self) -> Recorder | None:
        recorder, self._recorder, self._depth = self._recorder, None, 0
        if recorder is not None:
            recorder.__exit__(None, None, None)
        return recorder

    def _after(self, module: nn.Module, inputs: Any, result: Any) -> None:
        if self._recorder is None or module is not self.model:
            return
        self._depth -= 1
        if self._depth:
            return
        recorder = self._close()
        outputs, owner = _tensor(result), self._owner()
        if recorder is None or outputs is None or owner is None or not outputs.requires_grad:
            return
        uses, refused = usable(recorder)
        if not uses and not refused:  # somebody evaluates the model at other parameters
            return
        (group,) = owner.param_groups
        if owner.loss_fn is None or group["fisher"] == "empirical":
            self._later.append(_Later(uses, refused, len(outputs) if outputs.ndim else 1))
            return
        self._draw(outputs, uses, refused, owner)

    def _draw(self, outputs: Tensor, uses: list[Use], refused: set[int], owner: Any) -> None:
        """Factors of a pass at labels drawn from what it predicted, before its own backward."""
        (group,) = owner.param_groups
        if not bool(outputs.detach().isfinite().all()):  # there is nothing to draw from
            self._broken = True
            return
        loss = output_loss(owner.loss_fn)
        if self._heard is None:
            self._heard = Found(keep=owner.keeps_rows)
            self._summed = loss.reduction == "sum"
        seed = group["seed"] + _STEPS * owner.steps + self._passes
        self._passes += 1
        wide = outputs.detach()
        wide = wide.float() if wide.dtype in {torch.float16, torch.bfloat16} else wide
        made = cotangents_of(loss, group["fisher"], group["samples"], seed, wide, None)
        back = slopes_of(outputs, uses, [c.to(outputs.dtype) for c in made])
        # Where the loss adds up, so do the passes; else each has the weight of its outputs.
        weight = 1.0 if self._summed or not outputs.ndim else float(len(outputs))
        self._heard.add(records_of(uses, back), refused, weight)


@final
class _Later:
    """A pass whose backward has not run yet: the graph holds its layers, and frees them."""

    def __init__(self, uses: list[Use], refused: set[int], rows: int) -> None:
        self.refused, self.rows = refused, rows
        self.back: dict[int, tuple[Use, Tensor]] = {}
        for place, use in enumerate(uses):
            assert use.edge is not None
            # Without its edge: the node would hold itself.
            hook = _catcher(self.back, place, replace(use, edge=None), use.edge.output_nr)
            use.edge.node.register_prehook(hook)

    def records(self) -> list[LayerRecord]:
        """A record of each layer that a gradient came to."""
        pairs = list(self.back.values())
        return records_of([use for use, _ in pairs], [[slope] for _, slope in pairs])


def _catcher(
    back: dict[int, tuple[Use, Tensor]], place: int, use: Use, number: int
) -> Callable[[tuple[Tensor | None, ...]], None]:
    """Keep the gradient of a use's output when the user's own backward passes by."""

    def passing(grads: tuple[Tensor | None, ...]) -> None:
        found = grads[number]
        if found is not None:
            known = back[place][1] if place in back else torch.zeros_like(found)
            back[place] = (use, known + found.detach())

    return passing


def _check_scale(name: str, records: list[LayerRecord], params: list[Tensor]) -> None:
    """Refuse slopes that a gradient scaler has multiplied: their square is not the curvature."""
    whole = [r for r in records if r.kind == "linear" and not r.key[3]]
    for key in dict.fromkeys(r.key for r in whole):
        weight = params[key[0]]
        if weight.grad is None or not weight.numel():
            continue
        parts = [r.slopes[0].double().T @ r.inputs.double() for r in whole if r.key == key]
        brought = sum(parts, torch.zeros_like(parts[0]))[:, : weight[0].numel()]
        own = weight.grad.reshape(brought.shape).double()
        size, inner = float(brought.square().sum()), float((brought * own).sum())
        straight = inner > 0.9 * (size * float(own.square().sum())) ** 0.5
        if straight and inner < _SCALED * size:
            raise RuntimeError(
                f"{name}.step(): the gradients were divided by a large number between backward() "
                "and step(), as GradScaler does, so what the layers saw is not the loss's own. "
                "Pass options=KFACOptions(loss_fn=...): labels are then drawn, without the scale."
            )
        if straight:
            return


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
    if isinstance(result, (tuple, list)) and result and isinstance(result[0], Tensor):
        return result[0]
    found = result.get("logits") if isinstance(result, Mapping) else getattr(result, "logits", None)
    return found if isinstance(found, Tensor) else None


def _say_empirical(owner: Any) -> None:
    if not owner.said_empirical:
        owner.said_empirical = True
        warnings.warn(
            f"{type(owner).__name__}: no loss is known after a plain backward(), so the Fisher "
            "matrix is that of the data's labels (empirical). Pass "
            "options=KFACOptions(loss_fn=...), or step with objective.closure(x, y), for labels "
            "drawn from the prediction.",
            UserWarning,
            stacklevel=2,
        )
