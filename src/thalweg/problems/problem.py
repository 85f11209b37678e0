"""What an optimizer is given: a model, a loss, data and a target, fixed and versioned.

A :class:`TestFunction` is the same thing with a formula in the place of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import repeat
from typing import ClassVar, Self, final

import torch
from torch import Tensor, nn

from thalweg.errors import POSITIVE, bad_argument, integer_from
from thalweg.objective import Objective
from thalweg.problems import checks
from thalweg.problems.arguments import check_goal, check_plain, check_source
from thalweg.problems.data import DataField, Pair, is_class_target
from thalweg.problems.fingerprint import fingerprint, name_of
from thalweg.problems.measures import ACCURACY
from thalweg.problems.metric import Metric, Scores, Target
from thalweg.problems.point import Point, floored, value_at
from thalweg.problems.streams import generator, global_stream, minibatches


__all__ = ["Problem", "TestFunction"]

CHUNK = 256  # samples at a time in an evaluation: larger ones of images leave the cache


@final
@dataclass(frozen=True, eq=False)
class Problem:
    """A model, a loss, data and a target: everything that an optimizer does not choose.

    A seed gives two independent streams, one for the initial weights and one for the order of the
    data, so that runs with the same seed are paired over optimizers. Where any ingredient changes,
    so does the :attr:`fingerprint`; results of two fingerprints are not comparable.

    Args:
        name: What files and tables call it.
        model: Builds the untrained model, drawing from torch's global generator.
        loss: From outputs and targets to a scalar tensor, the mean over the batch.
        data: A Data, or inputs and targets to be split by :meth:`Data.split`.
        batch_size: Samples a step. None, or more than there are: all of them.
        metric: Reported beside the loss. Default: accuracy where the targets are class numbers.
        target: The value that counts as solved.
        scale: Multiplies the learning rates that are searched, the same for every optimizer; for
            a loss that is a sum over many outputs, about one over their number.
        steps: Steps of a run where no budget is given.
        version: To be changed when results would change though no ingredient here does.
        title: One line for headings. Default: the name.
        description: A paragraph for reports.
        function: The function, where there is one in the place of data.
        probe: Training samples on which :meth:`evaluate` measures the training loss: the first so
            many. None: all of them.

    Raises:
        ValueError: If an argument is not of the kind above. What shows only when the model runs
            is checked by :meth:`check`.

    Example:
        >>> x = torch.randn(60, 3)
        >>> data = x, (x[:, 0] > 0).long()
        >>> mine = Problem("mine", lambda: nn.Linear(3, 2), nn.functional.cross_entropy, data)
        >>> sorted(mine.check().evaluate(mine.build(seed=1), "validation"))
        ['loss', 'metric']
    """

    name: str
    model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    data: DataField = DataField()  # noqa: RUF009 - a descriptor holds no data of its own
    batch_size: int | None = 64
    metric: Metric | None = None
    target: Target | None = None
    scale: float = 1.0
    steps: int = 400
    version: str = "1"
    title: str = ""
    description: str = ""
    function: TestFunction | None = None
    probe: int | None = None

    def __post_init__(self) -> None:
        check_plain(self.name, self.model, self.batch_size, self.probe)
        integer_from(1).check("Problem", "steps", self.steps)
        POSITIVE.check("Problem", "scale", self.scale)
        check_source(self.name, self.loss, has_data=self.data is not None, function=self.function)
        if self.metric is None and self.data and is_class_target(self.data.train[1]):
            object.__setattr__(self, "metric", ACCURACY)
        check_goal(self.metric, self.target, of_function=self.function is not None)
        object.__setattr__(self, "title", self.title or self.name)

    def build(self, seed: int) -> nn.Module:
        """The untrained model; its initial weights depend on ``seed`` and on nothing else.

        Raises:
            ValueError: If what is built is no module that can be trained.
        """
        with global_stream(seed, "initialisation"):
            return checks.check_model(self._where, self.model())

    def objective(self, model: nn.Module) -> Objective:
        """The loss of ``model`` on this problem, still to be bound to a batch."""
        if self.function is not None:
            return Objective(model, None, forward=partial(value_at, self.function.raced))
        return Objective(model, self.loss)

    def batches(self, seed: int) -> Iterator[Pair]:
        """Training batches without end; their order depends on ``seed`` and on nothing else.

        Every epoch is a new permutation of all training samples. Batches are cut from the epochs
        laid end to end: each has exactly ``batch_size`` samples and none is dropped, so that one
        batch may hold the end of an epoch and the start of the next. A full batch keeps the
        data's own order. A function has nothing to shuffle: its batch is a pair of zeros.
        """
        draws = generator(seed, "order")
        if self.data is None:
            return repeat((torch.zeros(1), torch.zeros(1)))
        inputs, targets = self.data.train
        if self.batch_size is None or self.batch_size >= len(inputs):
            return repeat((inputs, targets))
        return minibatches(inputs, targets, self.batch_size, draws)

    def evaluate(self, model: nn.Module, split: str = "validation") -> Scores:
        """The loss and the metric of ``model`` on a split, in evaluation mode.

        All of it, but of the training data the first ``probe`` samples where that is given.

        No gradient is kept, and every layer's own mode is put back. A function has the same loss
        on every split, and no metric (None).

        Args:
            model: A model that :meth:`build` made.
            split: ``"train"``, ``"validation"``, or ``"test"`` (once, at the end of a run).

        Raises:
            ValueError: If there is no such split.
        """
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            with torch.no_grad():
                return self._scores(model, split)
        finally:
            for module, training in modes.items():
                module.training = training

    def _scores(self, model: nn.Module, split: str) -> Scores:
        inputs, targets = self._pair(split)
        outputs = torch.cat([model(chunk) for chunk in inputs.split(CHUNK)])
        metric = None if self.metric is None else float(self.metric.fn(outputs, targets))
        return {"loss": float(self._criterion(outputs, targets)), "metric": metric}

    def _pair(self, split: str) -> Pair:
        """A split, of the training data the probe; of a function, zeros that stand for data."""
        if self.data is None:
            return torch.zeros(1), torch.zeros(1)
        inputs, targets = self.data.of(split)
        count = self.probe if split == "train" else None
        return inputs[:count], targets[:count]

    @property
    def _criterion(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss; of a function, its value at what the model returns, which is the point."""
        if self.loss is not None:
            return self.loss
        function = self.function
        assert function is not None  # one of the two is given: _check_source
        return lambda outputs, _: function.raced(outputs)

    def reached(self, value: float) -> bool:
        """Whether ``value`` of the target's quantity is at the target, or better; never if NaN.

        Raises:
            ValueError: If the problem has no target.
        """
        if self.target is None:
            raise ValueError(f"Problem {self.name!r}: there is no target.")
        is_metric = self.target.quantity == "validation_metric"
        if is_metric and self.metric is not None and self.metric.higher_is_better:
            return value >= self.target.value
        return value <= self.target.value

    def check(self) -> Self:
        """Run one forward and backward pass at seed 0.

        Returns:
            The problem.

        Raises:
            ValueError: With one message for what is wrong: a model that cannot be trained, is
                shared between calls or not set by its seed; shapes that do not fit; a loss that is
                not a finite scalar or does not depend on the parameters.
        """
        model = self.build(0)
        checks.check_same(self._where, model, self.build(0))
        with global_stream(0, "check"):
            inputs, targets = next(self.batches(0))
            outputs = checks.check_outputs(self._where, model, inputs)
            loss = checks.check_loss(self._where, "loss", self._criterion, outputs, targets)
            if self.metric is not None:
                checks.check_loss(self._where, "metric", self.metric.fn, outputs, targets)
            checks.check_gradient(self._where, model, loss)
        return self

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of every ingredient, worked out once and the same in every process.

        It covers name, version, data, the model's text and its state at seed 0, the names of loss
        and metric, batch size, target, scale, steps, probe, and the first loss to four digits,
        which tells functions of one name apart; not title and description.
        """
        model = self.build(0)
        with global_stream(0, "check"), torch.no_grad():
            inputs, targets = next(self.batches(0))
            first = float(self._criterion(model.eval()(inputs), targets))
        source: object = self.data and self.data.sha256
        if self.function is not None:
            source = (self.function.name, self.function.formula)
        metric = self.metric and (self.metric.name, self.metric.higher_is_better)
        numbers = (self.batch_size, self.target, self.scale, self.steps, f"{first:.4g}")
        numbers += () if self.probe is None else (self.probe,)
        return fingerprint(
            (self.name, self.version, source, name_of(self.loss), metric, *numbers), model
        )

    @property
    def _where(self) -> str:
        return f"Problem {self.name!r}"


@final
@dataclass(frozen=True)
class TestFunction:
    """A function of two variables with what is known about it.

    Args:
        name: What files and tables call it.
        fn: From points of shape ``(..., 2)`` to values of shape ``(...)``.
        start: Where optimizers start.
        box: What is drawn and searched: ``((x low, x high), (y low, y high))``.
        minima: The lowest points with their value, ``(point, value)``. Empty: unbounded below.
        formula: The function in words of mathematics.
        reference: Where it is from.
        saddles: Stationary points that are no extremum.

    Raises:
        ValueError: If ``start`` lies outside ``box``.

    Example:
        >>> from thalweg.problems import BOOTH
        >>> BOOTH(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
        tensor([ 0., 74.])
        >>> x, y, z = BOOTH.grid(resolution=5)
        >>> z.shape
        torch.Size([5, 5])
        >>> BOOTH.problem(steps=10).evaluate(Point((0.0, 0.0)))["loss"]
        74.0
    """

    __test__: ClassVar[bool] = False

    name: str
    fn: Callable[[Tensor], Tensor]
    start: tuple[float, float]
    box: tuple[tuple[float, float], tuple[float, float]]
    minima: tuple[tuple[tuple[float, float], float], ...]
    formula: str
    reference: str
    saddles: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        for value, (low, high) in zip(self.start, self.box, strict=True):
            if not low <= value <= high:
                raise bad_argument("TestFunction", "start", self.start, f"inside {self.box}")

    def __call__(self, points: Tensor) -> Tensor:
        """The values at points of shape ``(..., 2)``."""
        return self.fn(points)

    def grid(self, resolution: int = 101) -> tuple[Tensor, Tensor, Tensor]:
        """The box as a grid, in float64.

        Returns:
            ``x`` and ``y``, each of shape ``(resolution,)``, and ``z``, one row for each ``y``.

        Raises:
            ValueError: If ``resolution`` is no integer >= 2.
        """
        integer_from(2).check("TestFunction.grid", "resolution", resolution)
        x, y = (torch.linspace(*side, resolution, dtype=torch.float64) for side in self.box)
        return x, y, self.fn(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1))

    @cached_property
    def raced(self) -> Callable[[Tensor], Tensor]:
        """What is minimised: ``fn``, cut off at its lowest value in the box if it has no minimum.

        Past that the saddle is left for good, and a larger number would only be a longer fall.
        """
        return self.fn if self.minima else partial(floored, self.fn, self.grid()[2].min().item())

    def problem(self, steps: int = 200, tolerance: float = 1e-3) -> Problem:
        """The function as a problem: full information at each step, and no effect of the seed.

        The target is that all but ``tolerance`` of the way down from the start is done, to the
        minimum or, where there is none, to the lowest value in the box:
        ``f - f* <= tolerance (f(start) - f*)`` (More and Wild 2009).

        Args:
            steps: Steps of a run where no budget is given.
            tolerance: Share of the way that may remain, in (0, 1).

        References:
            J. J. More, S. M. Wild, Benchmarking Derivative-Free Optimization Algorithms, SIAM J.
            Optimization 20(1), 2009.
        """
        if not 0.0 < tolerance < 1.0:
            raise bad_argument("TestFunction.problem", "tolerance", tolerance, "in (0, 1)")
        values = [value for _, value in self.minima] or [self.grid()[2].min().item()]
        first = self.fn(torch.tensor(self.start, dtype=torch.float64)).item()
        target = Target("train_loss", min(values) + tolerance * (first - min(values)))
        return Problem(
            self.name,
            partial(Point, self.start),
            batch_size=None,
            target=target,
            steps=steps,
            title=f"{self.name.replace('-', ' ').capitalize()}, a function of two variables",
            description=f"f(x, y) = {self.formula}. {self.reference}.",
            function=self,
        )
