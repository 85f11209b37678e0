"""AdaHessian: Adam with the diagonal of the Hessian in the place of the squared gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Unpack, final

import torch
from torch import Tensor

from thalweg.errors import FRACTION, POSITIVE, PROBABILITY, Domain, integer_from, pair_of
from thalweg.optim.diagonal_curvature import AbstractDiagonalCurvature, Samples
from thalweg.optim.metadata import Cost, CurvatureCommon, Range, Reference, Slot
from thalweg.optim.seams import Group, Quotient


__all__ = ["AdaHessian"]


@final
class AdaHessian(AbstractDiagonalCurvature):
    r"""Steps scaled by a running average of the Hessian's diagonal.

    With a Hutchinson sample :math:`D = z \odot H z` (z of random signs), averaged over blocks,

    .. math::
        m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad
        \bar D_u^2 = \frac{(1-\beta_2) \sum_{i \le u} \beta_2^{u-i} D_i^2}{1-\beta_2^u}, \qquad
        \theta \leftarrow \theta - \eta\,
            \frac{m_t / (1-\beta_1^t)}{\max(\bar D_u, \epsilon s)^k} .

    u counts the samples of curvature, t the steps: they differ where ``interval`` is above 1. The
    floor is relative: s is the root mean square of :math:`\bar D` over all parameters, so that a
    coordinate without curvature moves as one of :math:`\epsilon` times the usual curvature would,
    never by a division by zero (where all curvature is zero, by the gradient itself).

    Args:
        params: Parameters, groups or named parameters.
        lr: :math:`\eta` >= 0; default 0.15, the paper's.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1); default (0.9, 0.999), the paper's.
        eps: :math:`\epsilon` > 0, the floor relative to s; default 0.01.
        hessian_power: k in [0, 1]: 0 is gradient descent with momentum, 1 (default) divides by the
            curvature.
        block_size: b >= 1: vectors and matrices share the mean of each b neighbouring samples
            (along the last dimension); default 1. Kernels of convolutions of any dimension share
            the mean over their positions unless b is 0, which averages nothing.
        interval: Steps from one look at the curvature to the next, >= 1; default 1, the paper's. At
            10 a step costs little more than Adam's.
        weight_decay: Decoupled decay, >= 0; with ``decoupled_weight_decay=False`` an L2 penalty,
            whose curvature counts too.
        **common: ``l1``, ``decoupled_weight_decay`` (here True by default), ``maximize``,
            ``foreach``, ``seed`` of the probes (:class:`~thalweg.optim.CurvatureCommon`).

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> from thalweg.objective import Objective
        >>> x = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> optimizer = AdaHessian([x], lr=1.0)
        >>> f = Objective.of(lambda x: 50 * x[0] ** 2 + 2 * x[1] ** 2)
        >>> optimizer.step(f.closure(x)).item()
        52.0
        >>> x.tolist()
        [0.0, 0.0]

    References:
        Yao, Gholami, Shen, Mustafa, Keutzer and Mahoney, AdaHessian: an adaptive second order
        optimizer for machine learning, 2021.
    """

    known_as: ClassVar[str] = "adahessian"
    reference: ClassVar[Reference] = Reference(
        "Yao, Gholami, Shen, Mustafa, Keutzer, Mahoney",
        "AdaHessian: an adaptive second order optimizer for machine learning",
        2021,
    )
    slots: ClassVar[tuple[Slot, ...]] = (Slot("exp_avg"), Slot("exp_hessian_diag_sq"))
    cost: ClassVar[Cost] = Cost(products=1.0)
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-3, 1.0)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "betas": pair_of(FRACTION),
        "eps": POSITIVE,
        "hessian_power": PROBABILITY,
        "block_size": integer_from(0),
    }

    def __init__(
        self,
        params: Any,
        lr: float = 0.15,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-2,
        hessian_power: float = 1.0,
        block_size: int = 1,
        interval: int = 1,
        weight_decay: float = 0.0,
        **common: Unpack[CurvatureCommon],
    ) -> None:
        own = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "hessian_power": hessian_power,
            "block_size": block_size,
            "interval": interval,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": True,
        }
        super().__init__(params, own, common)

    @property
    def curvature_slot(self) -> str:
        """The average of squared samples, its bias corrected."""
        return "exp_hessian_diag_sq"

    def sample(
        self, closure: Callable[[], Any], params: Sequence[Tensor], seed: int
    ) -> tuple[Any, Samples]:
        """One Hutchinson sample."""
        return self.hutchinson(closure, params, seed)

    def absorb(self, sample: Tensor, average: Tensor, count: int, group: Group) -> None:
        """The corrected average moves by the share that a bias-corrected one gives its newest."""
        beta2 = group["betas"][1]
        newest = (1 - beta2) / (1 - beta2**count)
        mean = spatial_mean(sample, group["block_size"])
        if mean.is_complex():
            mean, average = torch.view_as_real(mean), torch.view_as_real(average)
        average.lerp_(mean.square(), newest)

    def looked(self) -> None:
        """Measure the mean of all averages: what "small" is measured by."""
        held = [slots["exp_hessian_diag_sq"] for slots in self.state.values() if "samples" in slots]
        real = [torch.view_as_real(a) if a.is_complex() else a for a in held if a.numel()]
        sums = [a.sum(dtype=torch.promote_types(a.dtype, torch.float32)) for a in real]
        total = float(torch.stack([s.to(sums[0]) for s in sums]).sum()) if sums else 0.0
        for group in self.param_groups:
            group["scale"] = total / max(1, sum(a.numel() for a in real))

    def update(self, grad: Any, param: Any, state: Any, group: Group) -> Quotient:
        """The rule."""
        del param
        mean = state.exp_avg.lerp_(grad, 1 - group["betas"][0])
        floor = group["eps"] * group["scale"] ** 0.5 if group["scale"] else 1.0
        curvature = state.exp_hessian_diag_sq.sqrt().clamp_min_(floor)
        power = group["hessian_power"]
        return Quotient(
            mean,
            curvature if power == 1.0 else curvature.pow(power),
            1 / (1 - group["betas"][0] ** state.step),
        )


def spatial_mean(sample: Tensor, block: int) -> Tensor:
    """The sample with each entry replaced by the mean of its block.

    Args:
        sample: A parameter's samples.
        block: Entries of a block along the last dimension, for vectors and matrices; kernels of
            three dimensions or more are averaged over their positions; 0 averages nothing.

    Returns:
        Of the sample's shape.

    Example:
        >>> spatial_mean(torch.tensor([1.0, 3.0, 5.0]), 2).tolist()
        [2.0, 2.0, 5.0]
    """
    if block == 0 or sample.ndim == 0 or sample.numel() == 0:
        return sample
    if sample.ndim > 2:
        return sample.mean(tuple(range(2, sample.ndim)), keepdim=True).expand_as(sample)
    if block == 1:
        return sample
    parts = sample.split(block, dim=-1)
    return torch.cat([part.mean(-1, keepdim=True).expand_as(part) for part in parts], dim=-1)
