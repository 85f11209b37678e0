r"""BatchNorm's running statistics at other weights than those that they were gathered at.

A network between two others, or anywhere on a path or plane, has activations of its own. With the
averages of other weights in its BatchNorm layers its loss says little: they have to be gathered
again from data. Over batches b with :math:`n_b` values a channel,

.. math:: \mu = \frac{\sum_b n_b \mu_b}{\sum_b n_b}, \qquad
    \sigma^2 = \frac{\sum_b n_b (\sigma_b^2 + (\mu_b - \mu)^2)}{\sum_b n_b - 1},

which are the mean and the unbiased variance of all values together, ragged last batch included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from thalweg.objective import AbstractClosure, Closure
from thalweg.objective.program import ModelProgram
from thalweg.vectors import Vector


__all__ = ["averaging_layers", "batch_statistics", "bound_to", "recalibrated"]


def averaging_layers(closure: AbstractClosure, *, in_use: bool = False) -> list[_BatchNorm]:
    """The BatchNorm layers of a closure's model that keep running statistics.

    Args:
        closure: The closure.
        in_use: Only those in evaluation mode, which normalise by their running statistics.

    Example:
        >>> from thalweg.objective import Objective
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
        >>> objective = Objective(model, nn.functional.mse_loss)
        >>> len(averaging_layers(objective.closure(torch.zeros(2, 2), torch.zeros(2, 3))))
        1
    """
    program = closure.batches[0].program
    if not isinstance(program, ModelProgram):
        return []
    return [
        m
        for m in program.modules()
        if isinstance(m, _BatchNorm)
        and m.track_running_stats
        and m.running_mean is not None
        and not (in_use and m.training)
    ]


def bound_to(closure: AbstractClosure, data: AbstractClosure | Iterable[Any]) -> list[Closure]:
    """The batches to gather statistics from, as closures of the same model.

    Args:
        closure: A closure over the model.
        data: Another closure, or batches of the form that the objective takes.

    Raises:
        TypeError: If the closure is of a plain function, which has no data.
        ValueError: If there is no batch.
    """
    if isinstance(data, AbstractClosure):
        return data.batches
    program = closure.batches[0].program
    if not isinstance(program, ModelProgram):
        raise TypeError("recalibrate=...: a plain function has no BatchNorm layers.")
    found = [Closure(program.bound(batch), closure.ledger) for batch in data]
    if not found:
        raise ValueError("recalibrate=...: the loader gave no batch.")
    return found


@contextmanager
def recalibrated(
    closure: AbstractClosure,
    theta: Vector | Tensor | None = None,
    *,
    data: AbstractClosure | Iterable[Any] | None = None,
    exact: bool = False,
) -> Iterator[None]:
    r"""Inside, the model's BatchNorm layers hold the statistics of the weights ``theta``.

    They normalise by them (evaluation mode), whatever their mode was. Afterwards statistics,
    counters and modes are as before, also after an exception. Nothing else of the model is changed;
    other layers run in the modes that they have, without dropout if the model is in evaluation.

    Args:
        closure: A closure over the model; over no BatchNorm layer this does nothing.
        theta: The weights; default: the live ones.
        data: What the statistics are gathered from: a closure, or batches of its form. Default:
            the closure's own batches.
        exact: In one pass (the default, as is usual), earlier layers normalise by each batch's own
            statistics. Exact, the layers are done one by one, each over all data behind finished
            ones: as many passes as there are layers, and the same result however the data are cut
            into batches.

    Raises:
        ValueError: If a batch has a single value a channel and ``exact`` is False.

    Example:
        >>> from thalweg.objective import Objective
        >>> model = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1)).eval()
        >>> objective = Objective(model, nn.functional.mse_loss)
        >>> closure = objective.closure(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1))
        >>> with recalibrated(closure):
        ...     model[0].running_mean, model[0].running_var
        (tensor([2.]), tensor([2.]))
        >>> model[0].running_mean
        tensor([0.])

    References:
        Garipov, Izmailov, Podoprikhin, Vetrov and Wilson, Loss surfaces, mode connectivity, and
        fast ensembling of DNNs, 2018, section 3.3.
    """
    layers = averaging_layers(closure)
    if not layers:
        yield
        return
    batches = closure.batches if data is None else bound_to(closure, data)
    with _restored(layers):
        gather = _gather_by_layer if exact else _gather_at_once
        gather(layers, [_runner(batch, theta) for batch in batches])
        for layer in layers:
            layer.training = False
        yield


@contextmanager
def batch_statistics(closure: AbstractClosure) -> Iterator[None]:
    """Inside, BatchNorm layers normalise by each batch, and their running statistics stay still.

    So a path of networks is trained: the running statistics belong to none of its points.

    Example:
        >>> from thalweg.objective import Objective
        >>> model = nn.Sequential(nn.BatchNorm1d(1)).eval()
        >>> closure = Objective(model, nn.functional.mse_loss).closure(
        ...     torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)
        ... )
        >>> with batch_statistics(closure):
        ...     closure.value()
        tensor(1.0000)
    """
    layers = averaging_layers(closure)
    with _restored(layers):
        for layer in layers:
            layer.training, layer.track_running_stats = True, False
        yield


@final
class _Moments:
    """Count, mean and sum of squared deviations of a channel's values, batch by batch (Chan)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor = torch.zeros(())
        self.squares: Tensor = torch.zeros(())

    def add(self, values: Tensor) -> int:
        """Take in the input of a layer, channels in dimension 1; the values a channel."""
        wide = values.detach()
        wide = wide.float() if wide.dtype in (torch.float16, torch.bfloat16) else wide
        dims = [d for d in range(wide.ndim) if d != 1]
        count = wide.numel() // wide.shape[1]
        if not count:
            return 0
        variance, mean = torch.var_mean(wide, dims, correction=0)
        variance, mean = variance.double(), mean.double()
        if not self.count:
            self.count, self.mean, self.squares = count, mean, variance * count
            return count
        total, off = self.count + count, mean - self.mean
        self.squares += variance * count + off.square() * (self.count * count / total)
        self.mean = self.mean + off * (count / total)
        self.count = total
        return count

    def write(self, layer: _BatchNorm) -> None:
        """Make them the running statistics of the layer; a layer that did not run keeps its own."""
        mean, variance = layer.running_mean, layer.running_var
        if not self.count or mean is None or variance is None:
            return
        mean.copy_(self.mean)
        variance.copy_(self.squares / max(self.count - 1, 1))


class _Reached(Exception):
    """The layer that is being looked at has run."""


def _runner(batch: Closure, theta: Vector | Tensor | None) -> Callable[[], Any]:
    return lambda: batch.value(theta)


def _gather_at_once(layers: Sequence[_BatchNorm], runs: Sequence[Callable[[], Any]]) -> None:
    moments = {layer: _Moments() for layer in layers}

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        if moments[layer].add(inputs[0]) == 1:
            raise ValueError(
                "recalibrated: a batch has a single value a channel, so no variance of its own; "
                "use larger batches or exact=True."
            )

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(look).remove)
            stack.callback(setattr, layer, "track_running_stats", layer.track_running_stats)
            layer.training, layer.track_running_stats = True, False
        for run in runs:
            run()
    for layer in layers:
        moments[layer].write(layer)


def _gather_by_layer(layers: Sequence[_BatchNorm], runs: Sequence[Callable[[], Any]]) -> None:
    for layer in layers:
        layer.training = False
    for layer, once in _order(layers, runs[0]):
        moments = _Moments()

        def look(
            _: nn.Module, inputs: tuple[Tensor, ...], seen: _Moments = moments, last: bool = once
        ) -> None:
            seen.add(inputs[0])
            if last:
                raise _Reached

        hook = layer.register_forward_pre_hook(look)
        try:
            for run in runs:
                try:
                    run()
                except _Reached:
                    continue
        finally:
            hook.remove()
        moments.write(layer)


def _order(layers: Sequence[_BatchNorm], run: Callable[[], Any]) -> list[tuple[_BatchNorm, bool]]:
    """The layers in the order in which they first run, and whether they run once."""
    calls: dict[_BatchNorm, int] = {}

    def count(layer: nn.Module, _: Any) -> None:
        assert isinstance(layer, _BatchNorm)
        calls[layer] = calls.get(layer, 0) + 1

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(count).remove)
        run()
    return [(layer, number == 1) for layer, number in calls.items()]


@contextmanager
def _restored(layers: Sequence[_BatchNorm]) -> Iterator[None]:
    """Modes, statistics and counters of layers are put back at the end, in the same tensors."""
    before = [
        (m, m.training, m.track_running_stats, {n: b.clone() for n, b in m.named_buffers()})
        for m in layers
    ]
    try:
        yield
    finally:
        for m, training, tracks, buffers in before:
            m.training, m.track_running_stats = training, tracks
            for name, buffer in m.named_buffers():
                with torch.no_grad():
                    buffer.copy_(buffers[name])
