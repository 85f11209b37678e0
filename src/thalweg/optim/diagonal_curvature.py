"""First-order rules that also keep an average of the curvature's diagonal.

Every ``interval`` steps such a method looks at the curvature and takes one sample of its diagonal
into a running average; in between, its step costs what a first-order step costs. The average has
its own count: its bias is corrected by the samples that it has seen, not by the steps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from thalweg.errors import FLAG, Domain, NonFiniteError, integer_from
from thalweg.objective import AbstractClosure, Closure, CrossEntropy
from thalweg.optim.first_order import AbstractFirstOrder
from thalweg.optim.metadata import CurvatureCommon, Needs
from thalweg.optim.products import look
from thalweg.optim.seams import Group, Point
from thalweg.vectors import Vector


__all__ = ["AbstractDiagonalCurvature", "hutchinson", "random_signs", "squared_scores"]

Samples = list[Tensor]
Pairs = list[tuple[Group, Tensor]]

# The index that torch's cross-entropy leaves out by default: no class has it.
_LEFT_OUT = -100


class AbstractDiagonalCurvature(AbstractFirstOrder):
    """A first-order rule beside a slot of curvature, refreshed every ``interval`` steps.

    A group keeps the steps since its last look; a parameter keeps the count of its samples. One
    that has none yet when its first gradient comes (it was frozen, or no loss used it) brings the
    next look forward.

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
        "differences": FLAG,
    }

    def __init__(self, params: Any, defaults: Group, common: CurvatureCommon) -> None:
        super().__init__(params, {"seed": 0, "differences": False, **defaults}, common)

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

    @abstractmethod
    def looked(self) -> None:
        """What else there is to do after a look."""

    def evaluate(self, closure: Callable[[], Any] | None) -> Point:
        """Call the closure; where it is time, look at the curvature with it."""
        pairs = [(g, p) for g in self.param_groups for p in g["params"] if p.requires_grad]
        due = any(g.get("waited", g["interval"]) + 1 >= g["interval"] for g, _ in pairs)
        loss = None if due else self.call(closure)
        if closure is None or not (due or self._unsampled(pairs)):
            for group in self.param_groups:
                group["waited"] = group.get("waited", 0) + 1
            return Point(loss, closure, self.param_groups)
        seen = [int(self.state[p]["samples"]) for _, p in pairs if "samples" in self._of(p)]
        seed = self.param_groups[0]["seed"] + max(seen, default=0)
        loss, samples = self.sample(closure, [p for _, p in pairs], seed)
        if any(p.grad is not None and p.grad.is_sparse for _, p in pairs):
            return Point(loss, closure, self.param_groups)  # which is refused there
        self._check(samples)
        for (group, p), sample in zip(pairs, samples, strict=True):
            if p.grad is not None:
                self._take(p, sample, group)
        for group in self.param_groups:
            group["waited"] = 0
        self.looked()
        return Point(loss, closure, self.param_groups)

    def _of(self, p: Tensor) -> Group:
        return self.state.get(p, {})  # where indexing would make it

    def _unsampled(self, pairs: Pairs) -> bool:
        """Whether a parameter that has a gradient now has no estimate yet."""
        return any(p.grad is not None and "samples" not in self._of(p) for _, p in pairs)

    def _check(self, samples: Samples) -> None:
        """Refuse curvature that is not finite, or whose square is not."""
        filled = [torch.view_as_real(s) if s.is_complex() else s for s in samples if s.numel()]
        squares = [_squared_length(s) for s in filled]
        # Their sum is asked of each device once.
        together = [torch.stack(alike).sum() for alike in _by_place(squares)]
        if not all(bool(total.isfinite()) for total in together):
            raise NonFiniteError(
                f"{type(self).__name__}.step(): the curvature is NaN, infinite or too large to be "
                f"squared in {filled[0].dtype} at call {self._calls} of step(); the parameters are "
                "as they were before it."
            )

    def _take(self, p: Tensor, sample: Tensor, group: Group) -> None:
        stored = self.state[p]
        if group["weight_decay"] and not group["decoupled_weight_decay"]:
            # The penalty's own second derivative, the same in both parts of a complex number.
            unit = complex(1, 1) if sample.is_complex() else 1.0
            sample = sample + group["weight_decay"] * unit
        if self.curvature_slot not in stored:
            stored[self.curvature_slot] = torch.zeros_like(p, memory_format=torch.preserve_format)
        # A number: torch would round a tensor to the parameter's type when a checkpoint is loaded.
        stored["samples"] = int(stored.get("samples", 0)) + 1
        self.absorb(sample, stored[self.curvature_slot], stored["samples"], group)

    @final
    def hutchinson(
        self, closure: Callable[[], Any], params: Sequence[Tensor], seed: int
    ) -> tuple[Any, Samples]:
        """The loss, and one Hutchinson sample of what is minimised (where maximising, of -f)."""
        name, one_sided = type(self).__name__, self.param_groups[0]["differences"]
        loss, samples = hutchinson(name, closure, params, self.call, seed, one_sided)
        climbs = {id(p) for g in self.param_groups if g["maximize"] for p in g["params"]}
        return loss, [-s if id(p) in climbs else s for p, s in zip(params, samples, strict=True)]


def hutchinson(
    name: str,
    closure: Callable[[], Any],
    params: Sequence[Tensor],
    call: Callable[[Any], Any],
    seed: int,
    differences: bool = False,
) -> tuple[Any, Samples]:
    r"""One Hutchinson sample :math:`z \odot H z` of the Hessian's diagonal, z of random signs.

    Args:
        name: The method, for messages.
        closure: The closure.
        params: The parameters.
        call: How the optimizer calls a closure.
        seed: Of the signs.
        differences: Whether H z is taken as one difference of gradients.

    Returns:
        The loss, and a tensor for each parameter.
    """
    seen = look(name, closure, params, call, differences)
    signs = random_signs(params, seed)
    product = seen.product(Vector(signs))
    samples = [
        torch.view_as_complex(torch.view_as_real(z) * torch.view_as_real(hz))
        if z.is_complex()
        else z * hz
        for z, hz in zip(signs, product, strict=True)
    ]
    return seen.loss, samples


def random_signs(params: Sequence[Tensor], seed: int) -> list[Tensor]:
    """Entries of +1 and -1 for each parameter, both parts of a complex number apart.

    The bits are drawn on the CPU, eight to a byte: one seed gives the same signs on every device,
    and little is carried there.

    Args:
        params: The parameters.
        seed: Of the bits.

    Returns:
        A tensor like each parameter.

    Example:
        >>> random_signs([torch.zeros(4)], seed=3)[0].abs()
        tensor([1., 1., 1., 1.])
    """
    generator = torch.Generator().manual_seed(seed)
    real = [torch.view_as_real(p.detach()) if p.is_complex() else p for p in params]
    counts = [(p.numel() + 63) // 64 for p in real]  # words of 64 bits
    words = torch.empty(sum(counts), dtype=torch.int64)
    chosen = words.random_(-(2**63), None, generator=generator).view(torch.uint8)
    table = 2.0 * ((torch.arange(256)[:, None] >> torch.arange(8)) & 1) - 1.0
    rows: dict[Any, Tensor] = {}  # of all, once for each type and device
    signs: list[Tensor] = []
    first = 0
    for p, like, count in zip(params, real, counts, strict=True):
        place = (like.device, like.dtype)
        if place not in rows:
            rows[place] = F.embedding(chosen.to(like.device).int(), table.to(*place)).view(-1)
        drawn = rows[place][64 * first : 64 * first + like.numel()].view(like.shape)
        signs.append(torch.view_as_complex(drawn) if p.is_complex() else drawn)
        first += count
    return signs


def _squared_length(sample: Tensor) -> Tensor:
    """The sum of squares: not finite where an entry is not, or where its square is not."""
    if sample.dtype in {torch.float32, torch.float64}:
        flat = sample.reshape(-1)
        return torch.dot(flat, flat)
    return sample.abs().amax().square().float()  # the sum of many would leave a half type's range


def _by_place(scalars: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    alike: dict[Any, list[Tensor]] = {}
    for scalar in scalars:
        alike.setdefault((scalar.device, scalar.dtype), []).append(scalar)
    return alike.values()


def squared_scores(closure: AbstractClosure, params: Sequence[Tensor], seed: int) -> Samples:
    r"""One Gauss-Newton-Bartlett sample of the diagonal of the generalised Gauss-Newton matrix.

    With g the gradient at labels drawn from the model's own prediction it is :math:`c\, g \odot g`
    for a mean over c, and :math:`g \odot g` for a sum: labels are independent and g has mean zero,
    so that nothing but the diagonal remains on average.

    Args:
        closure: One of ours, with a loss of a known kind and without weights.
        params: The parameters.
        seed: Of the labels.

    Returns:
        A tensor for each parameter; zeros where the closure does not have it.
    """
    place = {id(p): i for i, p in enumerate(closure.params)}
    total = [torch.zeros_like(p) for p in params]
    counted = 0.0
    for k, batch in enumerate(closure.still(borrow=True).batches):
        generator = torch.Generator(params[0].device).manual_seed(seed + 104_729 * k)
        gradient, count = _score(batch, generator)
        counted += count
        for p, sum_ in zip(params, total, strict=True):
            if id(p) in place and count:
                sum_.add_(gradient[place[id(p)]], alpha=1.0 if closure.summed else count)
    scale = 1.0 if closure.summed else 1.0 / max(counted, 1.0)
    return [scale * part.square() for part in total]


def _score(batch: Closure, generator: torch.Generator) -> tuple[Sequence[Tensor], float]:
    """The gradient at drawn labels, and the count over which it is a mean."""
    with torch.enable_grad(), batch.ledger.charge(backward=1):
        outputs, targets = batch.outputs()
        loss = batch.loss_fn
        assert loss is not None
        score = loss
        if isinstance(loss, CrossEntropy):  # smoothing is no part of a likelihood
            score = CrossEntropy(partial(F.cross_entropy, reduction=loss.reduction), loss.reduction)
        labels = score.sample(outputs, None, generator)
        if isinstance(loss, CrossEntropy) and not targets.is_floating_point():
            # The index that the loss leaves out may be a class, and may be drawn.
            labels = labels.masked_fill(targets == loss.ignore_index, _LEFT_OUT)
        leaves = list(batch.params)
        gradient = torch.autograd.grad(score(outputs, labels), leaves, materialize_grads=True)
    return gradient, loss.count(outputs, targets)
