"""Sophia: momentum over a running curvature, each coordinate's step clipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Unpack, final

from torch import Tensor

from thalweg.errors import FRACTION, POSITIVE, Domain, bad_argument, one_of, pair_of
from thalweg.objective import AbstractClosure, UnknownLoss
from thalweg.optim.diagonal_curvature import (
    AbstractDiagonalCurvature,
    Samples,
    squared_scores,
)
from thalweg.optim.metadata import Cost, CurvatureCommon, Range, Reference, Slot
from thalweg.optim.seams import Group


__all__ = ["Sophia"]

_WEIGHTS = ("weight", "pos_weight")


@final
class Sophia(AbstractDiagonalCurvature):
    r"""A clipped step along momentum over curvature.

    .. math::
        m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad
        h \leftarrow \beta_2 h + (1-\beta_2) \hat h \text{ every } k \text{ steps}, \qquad
        \theta \leftarrow \theta - \eta\,
            \operatorname{clip}\Bigl(\frac{m_t}{\max(\gamma h, \epsilon)}, 1\Bigr) .

    The estimate is Hutchinson's, :math:`\hat h = z \odot H z` (Sophia-H), or Gauss-Newton-Bartlett,
    :math:`\hat h = B\, \hat g \odot \hat g` with the gradient at labels that the model itself draws
    (Sophia-G): the labels are drawn here, from the objective; nothing has to be called between
    steps. Where curvature is small or negative, the step is the sign of the momentum: no step is
    longer than the learning rate in any coordinate.

    Args:
        params: Parameters, groups or named parameters.
        lr: :math:`\eta` >= 0; default 1e-3.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1); default (0.965, 0.99), the paper's.
        gamma: :math:`\gamma` > 0: the larger, the fewer coordinates are clipped; default 0.01, the
            paper's for Hutchinson's estimate (0.05 for the other).
        eps: :math:`\epsilon` > 0; default 1e-12, the paper's.
        estimator: ``"hutchinson"`` (default) or ``"gauss-newton-bartlett"``.
        interval: k >= 1; default 10, the paper's.
        weight_decay: Decoupled decay, >= 0; default 0.
        **common: ``l1``, ``decoupled_weight_decay`` (here True by default), ``maximize``,
            ``foreach``, ``seed`` of probes and labels (:class:`~thalweg.optim.CurvatureCommon`).

    Raises:
        ValueError: If a value is outside its range.
        TypeError: At a step, if the Gauss-Newton-Bartlett estimate is asked for and the closure is
            not ``objective.closure`` with a loss of a known kind: there are no labels to draw.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> optimizer = Sophia([x], lr=0.1, betas=(0.0, 0.0), gamma=1.0)
        >>> f = Objective.of(lambda x: 2 * x[0] ** 2 - x[1] ** 2)
        >>> optimizer.step(f.closure(x)).item()
        1.0
        >>> x.tolist()
        [0.9, 1.1]

    References:
        Liu, Li, Hall, Liang and Ma, Sophia: a scalable stochastic second-order optimizer for
        language model pre-training, 2023.
    """

    reference: ClassVar[Reference] = Reference(
        "Liu, Li, Hall, Liang, Ma",
        "Sophia: a scalable stochastic second-order optimizer for language model pre-training",
        2023,
    )
    slots: ClassVar[tuple[Slot, ...]] = (Slot("exp_avg"), Slot("hessian"))
    cost: ClassVar[Cost] = Cost(products=0.1)
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-4, 0.1)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "betas": pair_of(FRACTION),
        "gamma": POSITIVE,
        "eps": POSITIVE,
        "estimator": one_of("hutchinson", "gauss-newton-bartlett"),
    }

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.965, 0.99),
        gamma: float = 0.01,
        eps: float = 1e-12,
        estimator: str = "hutchinson",
        interval: int = 10,
        weight_decay: float = 0.0,
        **common: Unpack[CurvatureCommon],
    ) -> None:
        own = {
            "lr": lr,
            "betas": betas,
            "gamma": gamma,
            "eps": eps,
            "estimator": estimator,
            "interval": interval,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": True,
        }
        super().__init__(params, own, common)

    @property
    def curvature_slot(self) -> str:
        """The running average of estimates."""
        return "hessian"

    def sample(
        self, closure: Callable[[], Any], params: Sequence[Tensor], seed: int
    ) -> tuple[Any, Samples]:
        """One estimate."""
        if len(kinds := {group["estimator"] for group in self.param_groups}) > 1:
            raise bad_argument("Sophia", "estimator", sorted(kinds), "the same in all groups")
        if kinds == {"hutchinson"}:
            return self.hutchinson(closure, params, seed)
        known = _drawable(closure)
        loss = self.call(known)
        return loss, squared_scores(known, params, seed)

    def absorb(self, sample: Tensor, average: Tensor, count: int, group: Group) -> None:
        """The plain average of the paper, which starts at zero."""
        average.lerp_(sample, 1 - group["betas"][1])

    def looked(self) -> None:
        """Nothing: what counts as small curvature is absolute here."""

    def update(self, grad: Any, param: Any, state: Any, group: Group) -> Any:
        """The rule."""
        del param
        mean = state.exp_avg.lerp_(grad, 1 - group["betas"][0])
        curvature = (state.hessian * group["gamma"]).clamp_min_(group["eps"])
        return curvature.reciprocal_().mul_(mean).clamp_(-1.0, 1.0)  # in place: no more memory


def _drawable(closure: Callable[[], Any]) -> AbstractClosure:
    """The closure, if labels can be drawn from what its model predicts."""
    given = [b.loss_fn for b in closure.batches] if isinstance(closure, AbstractClosure) else []
    if (
        not isinstance(closure, AbstractClosure)
        or any(isinstance(loss, UnknownLoss | None) for loss in given)
        or any(getattr(loss, name, None) is not None for loss in given for name in _WEIGHTS)
    ):
        raise TypeError(
            "Sophia(estimator='gauss-newton-bartlett').step(): labels are drawn from the "
            "model's prediction, so pass objective.closure(x, y) with a loss of a known kind and "
            "without weights (cross-entropy, binary cross-entropy, squared error), or use "
            "estimator='hutchinson'."
        )
    return closure
