r"""How many probes, and what to do with them: shared by the estimators of traces and their like.

Hutchinson's estimate from m products has an error of about :math:`\|A\|_F\sqrt{2/m}`. The
leave-one-out estimate pays two products a probe and has the error of what its basis leaves over:
far less where few eigenvalues carry the spectrum, as in a trained network, and more where it is
flat, as near initialisation. ``"auto"`` looks at how much of the squared Frobenius norm the basis
of 10 probes leaves over, and that of 5, and goes on with the estimator that will be the better one
when the budget or the target is reached.

A target is the relative standard error. With one, probes are added until it is reached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from rich.progress import Progress
from torch import Tensor

from thalweg.curvature.estimate import Estimate
from thalweg.curvature.operator import AbstractOperator
from thalweg.errors import POSITIVE, bad_argument, integer_from, one_of
from thalweg.numerics.probes import DISTRIBUTIONS, Probes
from thalweg.numerics.sketch import Form, Sketch, spread


__all__ = ["Plan", "Quantity", "Scalar", "check_square", "gather", "sketch_of"]

_PILOT = 10  # probes after which "auto" decides
_PRODUCTS = 60  # spent where neither probes nor a target are given
_MOST = 1000  # products after which a target is given up


class Quantity(Protocol):
    """What is estimated from a sketch."""

    def relative(self, kind: str) -> float:
        """The standard error over the estimate, by one kind of estimator."""
        ...


@final
@dataclass(frozen=True)
class Plan:
    """What the caller of an estimator asked for, checked."""

    where: str
    method: str
    methods: tuple[str, ...]
    probes: int | None
    target: float | None
    max_products: int | None
    distribution: str | None = None
    seed: int | torch.Generator = 0
    progress: bool = False

    def __post_init__(self) -> None:
        one_of(*self.methods).check(self.where, "method", self.method)
        if self.probes is not None:
            integer_from(2).check(self.where, "probes", self.probes)
        if self.target is not None:
            POSITIVE.check(self.where, "target", self.target)
        if self.max_products is not None:
            integer_from(4).check(self.where, "max_products", self.max_products)
        if self.distribution is not None:
            one_of(*DISTRIBUTIONS).check(self.where, "distribution", self.distribution)
        if self.probes is not None and self.target is not None:
            raise bad_argument(self.where, "probes", self.probes, "None where a target is given")

    @property
    def limit(self) -> int:
        """The largest number of products."""
        if self.max_products is not None:
            return self.max_products
        if self.target is not None:
            return _MOST
        if self.probes is None:
            return _PRODUCTS
        return {"hutchinson": 1, "hutch++": 2}.get(self.method, 2) * self.probes


@final
class Scalar:
    """A number made of traces tr(F'G): one of them, or a smooth function of several.

    Args:
        sketch: Where probes and images come from.
        forms: The traces.
        function: Traces -> number; None is the first trace itself.
    """

    def __init__(
        self,
        sketch: Sketch,
        forms: Sequence[Form],
        function: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._sketch = sketch
        self._forms = list(forms)
        self._function = function or (lambda traces: traces[0])
        self._plain: list[Tensor] = []
        self._last: tuple[tuple[str, int], tuple[Tensor, Tensor | None]] | None = None
        sketch.watchers.append(self._watch)

    def _watch(self, probes: Tensor, images: list[Tensor]) -> None:
        both = [probes, *images]
        places = [tuple(0 if j is None else j + 1 for j in form) for form in self._forms]
        dots = [(both[a].double() * both[b]).sum(0) for a, b in places]
        self._plain.append(torch.stack(dots, dim=1).cpu())

    def relative(self, kind: str) -> float:
        """The standard error over the estimate."""
        value, stderr, _ = self._measured(kind, self._function)
        return stderr / abs(value) if value else (math.inf if stderr else 0.0)

    def _measured(
        self, kind: str, function: Callable[[Tensor], Tensor]
    ) -> tuple[float, float, int]:
        """The value, its standard error by the delta method, and the number of samples."""
        samples, changes = self._samples(kind)
        means = samples.mean(0).requires_grad_()
        with torch.enable_grad():
            value = function(means)
            (slope,) = torch.autograd.grad(value, means)
        number = float(value.detach())
        line = samples @ slope
        stderr = spread(line, changes @ slope if changes is not None else None)
        rounding = 4 * torch.finfo(self._sketch.source.dtype).eps * abs(number)
        return number, math.hypot(stderr, rounding), len(line)

    def estimate(self, kind: str, function: Callable[[Tensor], Tensor] | None = None) -> Estimate:
        """The estimate after all probes."""
        value, stderr, samples = self._measured(kind, function or self._function)
        products = self._sketch.products * len(self._sketch.maps)
        return Estimate(value, stderr, products, kind, samples)

    def _samples(self, kind: str) -> tuple[Tensor, Tensor | None]:
        """One row a probe, one column a trace; for leave-one-out, how they share the probes."""
        state = kind, self._sketch.products
        if self._last is not None and self._last[0] == state:
            return self._last[1]
        changes: Tensor | None
        if kind == "hutchinson":
            samples, changes = torch.cat(self._plain), None
        elif kind == "hutch++":
            traces = [self._sketch.held_out(form) for form in self._forms]
            samples, changes = torch.stack(traces, dim=1).cpu(), None
        else:
            estimators = self._sketch.leave_one_out()
            pairs = [estimators.traces(form) for form in self._forms]
            samples = torch.stack([x for x, _ in pairs], dim=1).cpu()
            changes = torch.stack([d for _, d in pairs], dim=2).cpu()
        self._last = state, (samples, changes)
        return samples, changes


def sketch_of(operators: Sequence[AbstractOperator], plan: Plan) -> Sketch:
    """A sketch of operators on one space."""
    first = operators[0]
    plain = plan.method in {"hutchinson", "auto", "hutch++"}
    distribution = plan.distribution or ("rademacher" if plain else "sphere")
    probes = Probes(first.shape[1], distribution, plan.seed, first.dtype, first.device)
    return Sketch([a.apply for a in operators], probes, keep=plan.method != "hutchinson")


def check_square(where: str, operator: Any) -> None:
    """Raise unless the operator is one, is square and has entries."""
    if not isinstance(operator, AbstractOperator):
        raise TypeError(f"{where}(A={type(operator).__name__}): a curvature operator is needed.")
    if operator.shape[0] != operator.shape[1] or not operator.shape[0]:
        raise bad_argument(where, "A", operator, "a square operator with at least one row")


def gather(sketch: Sketch, quantity: Quantity, plan: Plan) -> str:
    """Draw probes as planned.

    Args:
        sketch: Draws and multiplies.
        quantity: What is estimated; it says how well it is known.
        plan: The method, and when to stop.

    Returns:
        The kind of estimator that was settled on; ``"exact"`` where n products are cheaper.
    """
    n, limit = sketch.source.n, plan.limit
    with _shown(sketch, plan):
        if plan.method == "hutchinson":
            return _hutchinson(sketch, quantity, plan)
        if plan.method == "hutch++":
            return _hutch(sketch, quantity, plan)
        if plan.method != "auto":
            return _leave_one_out(sketch, quantity, plan, plan.method)
        if n <= 2 * _PILOT or (plan.target is None and n <= limit):
            return "exact"
        kind, need = _decision(sketch, quantity, plan)
        if kind == "hutchinson":
            if n <= min(need, limit):
                return "exact"
            sketch.forget()
            return _hutchinson(sketch, quantity, plan)
        return _leave_one_out(sketch, quantity, plan, kind)


def _decision(sketch: Sketch, quantity: Quantity, plan: Plan) -> tuple[str, float]:
    """The better estimator at the end of the budget, and Hutchinson's products to the target."""
    limit, better = plan.limit, plan.methods[-1]  # the leave-one-out method of the quantity
    pilot = min(_PILOT, limit // 2)
    sketch.sample(pilot)
    plain = quantity.relative("hutchinson")
    need = math.inf if plan.target is None else pilot * (plain / plan.target) ** 2
    if need <= 2 * pilot or pilot < 4:
        return "hutchinson", need
    sketch.complete()
    left = sketch.leave_one_out().left_over()
    before = sketch.leave_one_out(pilot // 2).left_over()
    if left <= 0.0:
        return better, need
    rate = min(2.0, max(0.25, math.log2(max(before, left) / left)))
    end = min(need, limit)
    # With m products the one has variance 2 |A|^2 / m, the other 2 |rest of A|^2 / (m / 2).
    ahead = left * max(1.0, end / (2 * pilot)) ** -rate
    return (better if ahead < 0.5 else "hutchinson"), need


def _hutchinson(sketch: Sketch, quantity: Quantity, plan: Plan) -> str:
    limit = plan.limit
    if plan.target is None:
        sketch.sample(limit - sketch.products)
        return "hutchinson"
    drawn = _PILOT if sketch.products else 0
    if not drawn:
        drawn = min(_PILOT, limit)
        sketch.sample(drawn)
    while (error := quantity.relative("hutchinson")) > plan.target and sketch.products < limit:
        need = drawn * (error / plan.target) ** 2
        more = math.ceil(min(need * 1.05, 2 * drawn) - drawn) or 1
        more = max(1, min(more, limit - sketch.products))
        sketch.sample(more)
        drawn += more
    return "hutchinson"


def _leave_one_out(sketch: Sketch, quantity: Quantity, plan: Plan, kind: str) -> str:
    drawn, most = sketch.products // 2, min(sketch.source.n, plan.limit // 2)
    while drawn < most:
        wanted = most if plan.target is None else max(_PILOT, math.ceil(1.5 * drawn))
        if plan.target is not None and drawn and quantity.relative(kind) <= plan.target:
            break
        more = min(wanted, most) - drawn
        sketch.sample(more)
        sketch.complete()
        drawn += more
    return kind


def _hutch(sketch: Sketch, quantity: Quantity, plan: Plan) -> str:
    """A third of the products for images, a third for the basis, a third for the rest."""
    n, limit = sketch.source.n, plan.limit
    part = limit // 3 if plan.target is None else min(_PILOT, limit // 3)
    sketch.sample(min(part, n))
    while True:
        sketch.complete()
        basis = sketch.products // 2
        sketch.sample(min(max(2, basis), limit - sketch.products))
        if plan.target is None or quantity.relative("hutch++") <= plan.target:
            return "hutch++"
        # The next basis takes in the probes that were held out.
        if 3 * 2 * basis > limit or 2 * basis > n:
            return "hutch++"


@contextmanager
def _shown(sketch: Sketch, plan: Plan) -> Iterator[None]:
    if not plan.progress:
        yield
        return
    with Progress(transient=True) as bar:
        task = bar.add_task(plan.where, total=plan.limit)
        sketch.after = lambda products: bar.advance(task, products)
        yield
        sketch.after = None
