r"""Fisher matrices: of the model's own predictions, and of the labels it was given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from thalweg.curvature.batches import AbstractBatchOperator, How, Prepared
from thalweg.curvature.outputs import (
    OutputCurvature,
    loss_hessian,
    output_gradient,
    prepare_sandwich,
)
from thalweg.curvature.tangents import SCHEMES
from thalweg.errors import bad_argument
from thalweg.objective import (
    AbstractClosure,
    AbstractOutputLoss,
    BinaryCrossEntropy,
    Closure,
    CrossEntropy,
    UnknownLoss,
)


__all__ = ["EmpiricalFisher", "Fisher", "counted", "likelihood"]

_IGNORED = -100  # torch's own choice of a target that does not count


@final
class Fisher(AbstractBatchOperator):
    r"""The Fisher matrix :math:`F = \mathbb E_{x}\,\mathbb E_{y \sim p(y | x)}[g g^\top]`.

    g is the gradient of one sample's loss at a label drawn from the model's own prediction:
    categories for cross-entropy, coins for binary cross-entropy, normal targets for squared error
    (of the variance that makes the loss a negative log-likelihood). The expectation over labels is
    taken exactly, which gives the generalised Gauss-Newton matrix of these losses (from logits), or
    from a fixed number of draws, which is unbiased for it. Smoothing and soft labels do not enter:
    the labels are the model's own.

    Args:
        closure: ``objective.closure(x, y)``, or ``objective.over(loader)``, with a loss of a known
            kind.
        samples: Draws of labels; None takes the expectation exactly.
        seed: Of the draws; the same draws serve every product of one operator.
        params: Names of parameters to restrict to; None takes all.
        how: Scheme of tangents, memory, self-check, process group.

    Raises:
        ValueError: If ``samples`` is not positive, or the loss to draw for has weights.
        TypeError: If the loss is not of a known kind: it gives no distribution to draw from.

    Example:
        >>> from thalweg.objective import Objective
        >>> objective = Objective(torch.nn.Linear(1, 2), torch.nn.functional.cross_entropy)
        >>> F = Fisher(objective.closure(torch.ones(3, 1), torch.tensor([0, 1, 1])), samples=8)
        >>> bool((torch.linalg.eigvalsh(F.to_dense()) > -1e-6).all())
        True

    References:
        Martens, New insights and perspectives on the natural gradient method, 2020.
    """

    schemes: ClassVar[tuple[str, ...]] = SCHEMES

    def __init__(
        self,
        closure: AbstractClosure,
        samples: int | None = None,
        seed: int = 0,
        params: Sequence[str] | str | None = None,
        how: How | None = None,
    ) -> None:
        if samples is not None and not (isinstance(samples, int) and samples > 0):
            raise bad_argument("Fisher", "samples", samples, "an integer >= 1, or None")
        super().__init__(closure, params, how)
        if isinstance(self.still.batches[0].loss_fn, UnknownLoss | None):
            raise TypeError(
                "Fisher: the loss is not of a known kind, so there is no distribution to draw "
                "labels from. Use GGN or EmpiricalFisher, or a loss of torch.nn."
            )
        if samples is not None and _weights(self.still.batches[0].loss_fn):
            raise ValueError(
                f"Fisher(samples={samples}): the loss has weights, so it is not minus the "
                "logarithm of a probability to draw labels from; use samples=None or GGN."
            )
        self.samples = samples
        self.seed = seed

    def prepare(self, batch: Closure, index: int) -> Prepared:
        """Run the forward pass, and draw the labels."""
        between = self._expected(batch) if self.samples is None else self._drawn(batch, index)
        return prepare_sandwich(batch, self.leaves, self.how.scheme, between)

    def normaliser(self, weight: float, samples: int) -> float:
        """A mean over the weights, or a sum."""
        return 1.0 if self.still.summed else 1.0 / weight

    def _expected(self, batch: Closure) -> OutputCurvature:
        loss = batch.loss_fn
        if not (isinstance(loss, BinaryCrossEntropy) and not loss.logits):
            return loss_hessian(batch)
        # From probabilities the second derivative depends on the label: its mean is at y = p.
        return lambda p, _: lambda u: loss.hessian_product(p.detach(), p.detach(), u)

    def _drawn(self, batch: Closure, index: int) -> OutputCurvature:
        loss = batch.loss_fn
        draws = self.samples or 1
        assert loss is not None

        def curvature(outputs: Tensor, targets: Any) -> Callable[[Tensor], Tensor]:
            generator = torch.Generator(outputs.device).manual_seed(self.seed + 7919 * index)
            score = likelihood(loss)
            drawn = [counted(loss, targets, score.sample(outputs, None, generator))
                     for _ in range(draws)]  # fmt: skip
            slopes = [output_gradient(score, outputs, labels)[1] for labels in drawn]
            scale = (1.0 if loss.reduction == "sum" else loss.count(outputs, targets)) / draws
            return lambda u: sum((_rank_one(g, u, _fibre(loss, g)) for g in slopes), 0 * u) * scale

        return curvature


@final
class EmpiricalFisher(AbstractBatchOperator):
    r"""The uncentred second moment :math:`\frac1N\sum_n g_n g_n^\top` of the samples' gradients.

    g is the gradient of one sample's loss at its own label, a sample being an entry of the outputs'
    first dimension. It is not a Fisher matrix: it vanishes where the model fits its labels. Samples
    must not know each other (no BatchNorm in train mode). For a loss that sums, the sum is not
    divided.

    Args:
        closure: ``objective.closure(x, y)``, or ``objective.over(loader)``, with a loss function.
        params: Names of parameters to restrict to; None takes all.
        how: Scheme of tangents, memory, self-check, process group.

    Raises:
        TypeError: If the objective's outputs are not known.

    Example:
        >>> from thalweg.objective import Objective
        >>> objective = Objective(torch.nn.Linear(1, 1, bias=False), torch.nn.functional.mse_loss)
        >>> objective.model.weight.data.fill_(1.0)
        tensor([[1.]])
        >>> E = EmpiricalFisher(objective.closure(torch.ones(2, 1), torch.tensor([[0.0], [3.0]])))
        >>> E.to_dense().item()
        10.0

    References:
        Kunstner, Balles and Hennig, Limitations of the empirical Fisher approximation, 2019.
    """

    schemes: ClassVar[tuple[str, ...]] = SCHEMES

    def __init__(
        self,
        closure: AbstractClosure,
        params: Sequence[str] | str | None = None,
        how: How | None = None,
    ) -> None:
        super().__init__(closure, params, how)

    def prepare(self, batch: Closure, index: int) -> Prepared:
        """Run the forward pass; a sample's gradient enters through the outputs."""
        loss = batch.loss_fn
        weights: list[float] = []

        def curvature(outputs: Tensor, targets: Any) -> Callable[[Tensor], Tensor]:
            assert loss is not None
            _, slope = output_gradient(loss, outputs, targets)
            rest = tuple(range(1, slope.ndim))
            # The batch's weight enters squared: here once, and once in the sum over batches.
            return lambda u: _rank_one(slope, u, rest) * weights[0]

        prepared = prepare_sandwich(batch, self.leaves, self.how.scheme, curvature)
        weights.append(prepared.weight)
        return prepared

    def normaliser(self, weight: float, samples: int) -> float:
        """N over the squared sum of weights: the mean loss is a sum of s_n divided by it."""
        return 1.0 if self.still.summed else samples / weight**2


def _weights(loss: Any) -> bool:
    return any(getattr(loss, name, None) is not None for name in ("weight", "pos_weight"))


def likelihood(loss: AbstractOutputLoss) -> AbstractOutputLoss:
    """Minus the logarithm of the probability of a label, reduced as the loss is."""
    if not isinstance(loss, CrossEntropy):
        return loss
    return CrossEntropy(partial(F.cross_entropy, reduction=loss.reduction), loss.reduction)


def counted(loss: AbstractOutputLoss, targets: Any, drawn: Tensor) -> Tensor:
    """Drawn labels, where the loss counts; the index that it ignores may be a class as well."""
    if not isinstance(loss, CrossEntropy) or targets.is_floating_point():
        return drawn
    return drawn.masked_fill(targets == loss.ignore_index, _IGNORED)


def _fibre(loss: Any, slope: Tensor) -> tuple[int, ...]:
    """The dimensions over which one draw's gradient is one vector: a position's classes, say.

    Draws in different places are independent with mean gradient zero, so what lies between them
    has expectation zero and is left out: less noise, the same mean.
    """
    if isinstance(loss, CrossEntropy):
        return (1,) if slope.ndim > 1 else (0,)
    if isinstance(loss, BinaryCrossEntropy):
        return ()
    return tuple(range(1, slope.ndim))


def _rank_one(g: Tensor, u: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Each fibre's g (g'u)."""
    inner = (g * u).sum(dims, keepdim=True) if dims else g * u
    return g * inner
