r"""The lifecycle of methods that scale each coordinate by an estimate of its own curvature.

Every ``interval`` steps the method looks at the curvature and takes one sample of its diagonal into
a running average; in between, its step costs what a first-order step costs. The average has its own
count: its bias is corrected by the samples that it has seen, not by the steps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from thalweg.errors import Domain, NonFiniteError, integer_from
from thalweg.objective import AbstractClosure
from thalweg.optim.first_order import AbstractFirstOrder
from thalweg.optim.metadata import CurvatureCommon, Needs
from thalweg.optim.products import look
from thalweg.optim.seams import Group, Point
from thalweg.vectors import Vector


__all__ = ["AbstractDiagonalCurvature", "hutchinson", "sampled_labels"]

Samples = list[Tensor]


class AbstractDiagonalCurvature(AbstractFirstOrder):
    """A first-order rule beside a slot of curvature, refreshed every ``interval`` steps.

    Args:
        params: Parameters, groups or named parameters, as torch takes them.
        defaults: The method's own hyper-parameters.
        common: Those that every first-order method takes.

    Raises:
        ValueError: If a hyper-parameter is outside its domain.
    """

    needs: ClassVar[Needs] = Needs.CURVATURE
    counts: ClassVar[bool] = True
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "interval": integer_from(1),
        "seed": integer_from(0),
    }

    def __init__(self, params: Any, defaults: Group, common: CurvatureCommon) -> None:
        super().__init__(params, {"seed": 0, "scale": 0.0, **defaults}, common)

    @abstractmethod
    def sample(
        self, closure: Callable[[], Any], params: Sequence[Tensor], seed: int
    ) -> tuple[Any, Samples]:
        """The loss, with gradients left in ``.grad``, and one sample of the diagonal."""

    @abstractmethod
    def absorb(self, sample: Tensor, average: Tensor, count: int, group: Group) -> None:
        """Take the ``count``-th sample of one parameter into its running average, in place."""

    @property
    @abstractmethod
    def curvature_slot(self) -> str:
        """The name of the slot that holds the average."""

    def evaluate(self, closure: Callable[[], Any] | None) -> Point:
        """Call the closure; where it is time, look at the curvature with it."""
        pairs = [(g, p) for g in self.param_groups for p in g["params"] if p.requires_grad]
        if closure is None or not self._due(pairs):
            return Point(self.call(closure), closure, self.param_groups)
        params = [p for _, p in pairs]
        first = self.param_groups[0]
        loss, samples = self.sample(closure, params, first["seed"] + self._samples_seen(pairs))
        if not Vector(samples).isfinite():
            raise NonFiniteError(
                f"{type(self).__name__}.step(): the curvature is NaN or infinite at call "
                f"{self._calls} of step(); the parameters are as they were before it."
            )
        for (group, p), sample in zip(pairs, samples, strict=True):
            self._take(p, sample, group)
        for group in self.param_groups:
            group["scale"] = self._scale(group)
        return Point(loss, closure, self.param_groups)

    @final
    def _due(self, pairs: list[tuple[Group, Tensor]]) -> bool:
        """Whether any parameter has waited for its interval, or has no estimate yet."""
        for group, p in pairs:
            stored = self.state.get(p, {})
            if "samples" not in stored or int(stored["waited"]) + 1 >= group["interval"]:
                return True
        for _, p in pairs:
            self.state[p]["waited"] += 1
        return False

    @final
    def _samples_seen(self, pairs: list[tuple[Group, Tensor]]) -> int:
        return max((int(self.state.get(p, {}).get("samples", 0)) for _, p in pairs), default=0)

    @final
    def _take(self, p: Tensor, sample: Tensor, group: Group) -> None:
        stored = self.state[p]
        if group["weight_decay"] and not group["decoupled_weight_decay"]:
            sample = sample + group["weight_decay"]  # the penalty's own second derivative
        if self.curvature_slot not in stored:
            stored[self.curvature_slot] = torch.zeros_like(p, memory_format=torch.preserve_format)
        count = int(stored.get("samples", 0)) + 1
        stored["samples"] = torch.tensor(float(count))
        stored["waited"] = torch.tensor(0.0)
        self.absorb(sample, stored[self.curvature_slot], count, group)

    @final
    def _scale(self, group: Group) -> float:
        """The mean size of the slot's entries over the group: what "small" is measured by."""
        total, entries = 0.0, 0
        for p in group["params"]:
            average = self.state.get(p, {}).get(self.curvature_slot)
            if average is not None and average.numel():
                total += float(average.abs().sum(dtype=torch.float64))
                entries += average.numel()
        return total / entries if entries else 0.0


def hutchinson(
    name: str,
    closure: Callable[[], Any],
    params: Sequence[Tensor],
    call: Callable[[Any], Any],
    seed: int,
) -> tuple[Any, Samples]:
    r"""One Hutchinson sample :math:`z \odot H z` of the Hessian's diagonal, z of random signs.

    Args:
        name: The method, for messages.
        closure: The closure.
        params: The parameters.
        call: How the optimizer calls a closure.
        seed: Of the signs.

    Returns:
        The loss, and a tensor for each parameter.
    """
    seen = look(name, closure, params, call)
    generator = torch.Generator().manual_seed(seed)
    signs = [_signs(p, generator) for p in params]
    product = seen.product(Vector(signs))
    return seen.loss, [z * hz for z, hz in zip(signs, product, strict=True)]


def sampled_labels(
    closure: AbstractClosure, params: Sequence[Tensor], seed: int
) -> tuple[Samples, float]:
    r"""The gradient at labels drawn from the model's own prediction, and the samples it averages.

    Args:
        closure: One of ours, with a loss of a known kind.
        params: The parameters.
        seed: Of the labels.

    Returns:
        A tensor for each parameter, and the count.
    """
    place = {id(p): i for i, p in enumerate(closure.params)}
    total = [torch.zeros_like(p) for p in params]
    weight = 0.0
    for k, batch in enumerate(closure.still(borrow=True).batches):
        loss_fn = batch.loss_fn
        assert loss_fn is not None
        generator = torch.Generator(params[0].device).manual_seed(seed + 104_729 * k)
        with torch.enable_grad(), batch.ledger.charge(backward=1):
            outputs, targets = batch.outputs()
            labels = loss_fn.sample(outputs, targets, generator)
            leaves = list(batch.params)
            grads = torch.autograd.grad(loss_fn(outputs, labels), leaves, materialize_grads=True)
        count = loss_fn.count(outputs, targets)
        share = 1.0 if loss_fn.reduction == "sum" else count
        weight += count
        for p, sum_ in zip(params, total, strict=True):
            if id(p) in place:
                sum_.add_(grads[place[id(p)]], alpha=share)
    return [part / weight for part in total], weight


def _signs(p: Tensor, generator: torch.Generator) -> Tensor:
    """Random signs, drawn on the CPU: one seed gives the same on every device."""
    drawn = torch.empty(p.shape).bernoulli_(0.5, generator=generator)
    return drawn.mul_(2).sub_(1).to(p)
