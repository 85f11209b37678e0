r"""Losses that know themselves: curvature in output space, and labels drawn from the prediction.

A mean loss is :math:`L(z) = \frac{1}{c}\sum_n \ell(z_n, y_n)` with outputs z, targets y and a
normaliser c: the number of samples, of entries, of counted tokens or the sum of their class
weights. Sums over batches weight each batch by its own c, so that they equal the loss of the
concatenated data exactly.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg.errors import bad_argument


__all__ = [
    "AbstractOutputLoss",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "SquaredError",
    "UnknownLoss",
    "output_loss",
]

Loss = Callable[[Any, Any], Tensor]


class AbstractOutputLoss(ABC):
    """A loss as a function of a model's outputs.

    Args:
        function: The loss as the caller gave it: (outputs, targets) -> scalar.
        reduction: ``"mean"`` or ``"sum"``.
    """

    def __init__(self, function: Loss, reduction: str = "mean") -> None:
        if reduction not in {"mean", "sum"}:
            allowed = "'mean' or 'sum', so that the loss is a scalar"
            raise bad_argument("Objective", "loss_fn.reduction", reduction, allowed)
        self.function = function
        self.reduction = reduction

    @final
    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """The loss, a scalar."""
        return self.function(outputs, targets)

    @final
    def hessian_product(self, outputs: Tensor, targets: Any, vector: Tensor) -> Tensor:
        r"""The product :math:`\nabla^2_z L\, v` in output space, of the shape of the outputs."""
        product = self._hessian_product(outputs, targets, vector)
        return product if self.reduction == "sum" else product / self.count(outputs, targets)

    @abstractmethod
    def count(self, outputs: Any, targets: Any) -> float:
        """The normaliser c of the mean."""

    @abstractmethod
    def _hessian_product(self, outputs: Tensor, targets: Any, vector: Tensor) -> Tensor:
        """The product for the sum over samples."""

    @abstractmethod
    def sample(
        self, outputs: Tensor, targets: Any, generator: torch.Generator | None = None
    ) -> Tensor:
        """Targets drawn from the distribution that the outputs predict."""


@final
class SquaredError(AbstractOutputLoss):
    r"""The mean over all entries of :math:`(z - y)^2`.

    As a negative log-likelihood it is a Gaussian around z: with C entries a sample, the mean over
    entries is :math:`-\log p` for variance C/2, the sum for variance 1/2.

    Example:
        >>> loss = SquaredError(F.mse_loss)
        >>> loss.hessian_product(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2))
        tensor([[1., 1.]])
    """

    def count(self, outputs: Tensor, targets: Tensor) -> float:
        """The number of entries."""
        return float(torch.broadcast_shapes(outputs.shape, targets.shape).numel())

    def _hessian_product(self, outputs: Tensor, targets: Tensor, vector: Tensor) -> Tensor:
        repeats = self.count(outputs, targets) / max(1, outputs.numel())  # where z is broadcast
        return 2.0 * repeats * vector

    def sample(
        self, outputs: Tensor, targets: Any, generator: torch.Generator | None = None
    ) -> Tensor:
        """Targets drawn from the Gaussian around the outputs."""
        del targets
        entries = outputs.numel() / max(1, outputs.shape[0]) if outputs.ndim else 1.0
        deviation = (0.5 if self.reduction == "sum" else 0.5 * entries) ** 0.5
        noise = torch.empty_like(outputs).normal_(generator=generator)
        return outputs.detach() + deviation * noise


@final
class CrossEntropy(AbstractOutputLoss):
    r"""Softmax cross-entropy with class weights, label smoothing and ignored targets.

    With coefficients :math:`q_{nc}` (the class weight at the target, smoothed), the loss of a
    position is :math:`-\sum_c q_{nc}\log p_{nc}` and its Hessian
    :math:`(\sum_c q_{nc})(\mathrm{diag}(p_n) - p_n p_n^\top)`. Classes stand in dimension 1 (0 for
    a single sample), as in torch.

    Args:
        function: The loss as the caller gave it.
        reduction: ``"mean"`` or ``"sum"``.
        weight: A weight for each class.
        ignore_index: The target that does not count.
        label_smoothing: The share of the target spread over all classes.

    Example:
        >>> loss = CrossEntropy(F.cross_entropy)
        >>> loss.count(torch.zeros(3, 5), torch.tensor([1, -100, 2]))
        2.0
    """

    def __init__(
        self,
        function: Loss,
        reduction: str = "mean",
        weight: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(function, reduction)
        self.weight = weight
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def count(self, outputs: Tensor, targets: Tensor) -> float:
        """The positions that count, or the sum of their class weights."""
        if targets.is_floating_point():
            return float(outputs.numel() / outputs.shape[_class_dim(outputs)])
        kept = targets[targets != self.ignore_index]
        return float(
            kept.numel() if self.weight is None else self.weight.to(kept.device)[kept].sum()
        )

    def _hessian_product(self, outputs: Tensor, targets: Tensor, vector: Tensor) -> Tensor:
        dim = _class_dim(outputs)
        probability = outputs.detach().softmax(dim)
        centred = vector - (probability * vector).sum(dim, keepdim=True)
        return self._mass(outputs, targets).unsqueeze(dim) * probability * centred

    def _mass(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sum over classes of the coefficients q, for each position."""
        dim = _class_dim(outputs)
        classes = outputs.shape[dim]
        weight = torch.ones(classes) if self.weight is None else self.weight
        weight = weight.to(outputs)
        smooth = self.label_smoothing
        if targets.is_floating_point():
            soft = (1 - smooth) * targets + smooth / classes
            return (soft * weight.view([-1] + [1] * (outputs.ndim - dim - 1))).sum(dim)
        kept = targets != self.ignore_index
        hard = weight[torch.where(kept, targets, 0)]
        return kept * ((1 - smooth) * hard + smooth / classes * weight.sum())

    def sample(
        self, outputs: Tensor, targets: Any, generator: torch.Generator | None = None
    ) -> Tensor:
        """Classes drawn from the softmax; ignored positions stay ignored."""
        dim = _class_dim(outputs)
        probability = outputs.detach().softmax(dim).movedim(dim, -1)
        rows = probability.reshape(-1, probability.shape[-1])
        labels = torch.multinomial(rows, 1, generator=generator).view(probability.shape[:-1])
        if isinstance(targets, Tensor) and not targets.is_floating_point():
            labels = torch.where(targets == self.ignore_index, self.ignore_index, labels)
        return labels


@final
class BinaryCrossEntropy(AbstractOutputLoss):
    r"""Cross-entropy of independent yes/no targets, from logits or from probabilities.

    From logits with weight w and positive weight a, an entry's second derivative is
    :math:`w\,(1 + (a - 1) y)\,p(1-p)`; from probabilities :math:`w\,(y/p^2 + (1-y)/(1-p)^2)`.

    Args:
        function: The loss as the caller gave it.
        reduction: ``"mean"`` or ``"sum"``.
        weight: A weight for each entry, broadcast.
        pos_weight: A weight for the positive targets, broadcast (from logits only).
        logits: Whether the outputs are logits or probabilities.

    Example:
        >>> loss = BinaryCrossEntropy(F.binary_cross_entropy_with_logits)
        >>> loss.hessian_product(torch.zeros(1), torch.ones(1), torch.ones(1))
        tensor([0.2500])
    """

    def __init__(
        self,
        function: Loss,
        reduction: str = "mean",
        weight: Tensor | None = None,
        pos_weight: Tensor | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__(function, reduction)
        self.weight = weight
        self.pos_weight = pos_weight
        self.logits = logits

    def count(self, outputs: Tensor, targets: Tensor) -> float:
        """The number of entries."""
        del targets
        return float(outputs.numel())

    def _hessian_product(self, outputs: Tensor, targets: Tensor, vector: Tensor) -> Tensor:
        outputs = outputs.detach()
        if self.logits:
            probability = outputs.sigmoid()
            second = probability * (1 - probability)
            if self.pos_weight is not None:
                second = second * (1 + (self.pos_weight.to(outputs) - 1) * targets)
        else:
            second = targets / outputs**2 + (1 - targets) / (1 - outputs) ** 2
        if self.weight is not None:
            second = second * self.weight.to(outputs)
        return second * vector

    def sample(
        self, outputs: Tensor, targets: Any, generator: torch.Generator | None = None
    ) -> Tensor:
        """Yes and no drawn for each entry."""
        del targets
        probability = outputs.detach().sigmoid() if self.logits else outputs.detach()
        return torch.bernoulli(probability, generator=generator)


@final
class UnknownLoss(AbstractOutputLoss):
    """Any other mean loss: curvature through autograd, no distribution to draw labels from.

    Example:
        >>> loss = UnknownLoss(lambda z, y: (z - y).pow(4).mean())
        >>> loss.hessian_product(torch.ones(2), torch.zeros(2), torch.ones(2))
        tensor([6., 6.])
    """

    def count(self, outputs: Any, targets: Any) -> float:
        """The number of samples."""
        for value in (targets, outputs):
            if isinstance(value, Tensor):
                return float(value.shape[0]) if value.ndim else 1.0
        raise TypeError(
            "Objective(loss_fn=...): the number of samples in a batch is unknown, because neither "
            "outputs nor targets are tensors; pass Objective(..., count=batch -> number)."
        )

    def _hessian_product(self, outputs: Tensor, targets: Any, vector: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self(leaf, targets), leaf, create_graph=True)
            if not gradient.requires_grad:
                return torch.zeros_like(vector)
            (product,) = torch.autograd.grad(gradient, leaf, vector, materialize_grads=True)
        # The caller divides a mean by its count; this product is of the mean already.
        return product * (1.0 if self.reduction == "sum" else self.count(outputs, targets))

    def sample(
        self, outputs: Tensor, targets: Any, generator: torch.Generator | None = None
    ) -> Tensor:
        """Refused: there is no distribution to draw from."""
        del outputs, targets, generator
        name = getattr(self.function, "__name__", type(self.function).__name__)
        raise TypeError(
            f"Labels cannot be drawn from the loss {name!r}: it names no distribution of targets. "
            "Use mean squared error, cross-entropy or binary cross-entropy, or an empirical Fisher."
        )


_KINDS: dict[Any, tuple[type[AbstractOutputLoss], dict[str, Any]]] = {
    nn.MSELoss: (SquaredError, {}),
    F.mse_loss: (SquaredError, {}),
    nn.CrossEntropyLoss: (CrossEntropy, {}),
    F.cross_entropy: (CrossEntropy, {}),
    nn.BCEWithLogitsLoss: (BinaryCrossEntropy, {}),
    F.binary_cross_entropy_with_logits: (BinaryCrossEntropy, {}),
    nn.BCELoss: (BinaryCrossEntropy, {"logits": False}),
    F.binary_cross_entropy: (BinaryCrossEntropy, {"logits": False}),
}
_OPTIONS: dict[type[AbstractOutputLoss], tuple[str, ...]] = {
    SquaredError: ("reduction",),
    CrossEntropy: ("reduction", "weight", "ignore_index", "label_smoothing"),
    BinaryCrossEntropy: ("reduction", "weight", "pos_weight"),
}


def output_loss(function: Loss) -> AbstractOutputLoss:
    """Recognise a loss of torch's, as a module, a function or a ``functools.partial`` of one.

    Args:
        function: (outputs, targets) -> scalar.

    Returns:
        The loss with what is known of it; :class:`UnknownLoss` for any other callable.

    Raises:
        ValueError: If the loss does not reduce to a scalar.

    Example:
        >>> output_loss(nn.CrossEntropyLoss(label_smoothing=0.1)).label_smoothing
        0.1
    """
    if isinstance(function, AbstractOutputLoss):
        return function
    given: dict[str, Any] = {}
    base: Any = function
    if isinstance(function, functools.partial) and not function.args:
        base, given = function.func, function.keywords
    elif isinstance(function, nn.Module):
        base, given = type(function), vars(function) | function._buffers
    if base not in _KINDS:
        return UnknownLoss(function)
    kind, fixed = _KINDS[base]
    if base is not type(function) and not set(given) <= set(_OPTIONS[kind]):
        return UnknownLoss(function)  # with an option that its curvature here knows nothing of
    options: dict[str, Any] = {name: given[name] for name in _OPTIONS[kind] if name in given}
    return kind(function, **options, **fixed)


def _class_dim(outputs: Tensor) -> int:
    return 0 if outputs.ndim == 1 else 1
