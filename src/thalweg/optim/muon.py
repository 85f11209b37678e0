"""Muon: momentum made orthonormal for matrices, AdamW for everything else."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, ClassVar, Unpack, final

import torch
from torch import Tensor, nn

from thalweg.errors import (
    FLAG,
    FRACTION,
    NON_NEGATIVE,
    OPTIONAL_FLAG,
    POSITIVE,
    Domain,
    bad_argument,
    integer_from,
    one_of,
    pair_of,
)
from thalweg.numerics.newton_schulz import QUINTIC, orthogonalized
from thalweg.optim.adam import adam_direction
from thalweg.optim.metadata import MuonCommon, Range, Reference, Slot
from thalweg.optim.seams import Group, Scaled, State
from thalweg.optim.structured import AbstractStructured, Lot, batched, sides_of


__all__ = ["Muon", "muon_groups"]

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "parameter": None}
_SCALINGS = one_of("original", "match_rms_adamw")
_THREE = Domain(
    "three finite numbers",
    lambda value: len(value) == 3 and all(math.isfinite(v) for v in value),  # type: ignore[arg-type]
)
_EMBEDDING = re.compile(
    r"(^|[._])(embed\w*|\w*embedding\w*|\w*embeddings|wte|wpe|\w*_embed)([._]|$)"
)
_HEAD = re.compile(r"(^|[._])(head|unembed\w*|classifier|logits)$")


@final
class Muon(AbstractStructured):
    r"""Steps whose singular values are all alike, for matrices; AdamW for the other parameters.

    .. math::
        B_t = \mu B_{t-1} + (1-\mu)\, G_t, \qquad
        O_t = \mathrm{NewtonSchulz}\bigl((1-\mu)\, G_t + \mu B_t\bigr), \qquad
        \theta_{t+1} = (1 - \eta\lambda)\,\theta_t - \eta\, s\, O_t

    (without Nesterov, the iteration is on :math:`B_t`). For an m x n matrix s is
    :math:`\sqrt{\max(1, m/n)}` (``"original"``) or :math:`0.2\sqrt{\max(m, n)}`
    (``"match_rms_adamw"``), which gives the step the root mean square of a typical AdamW step, so
    that one learning rate serves matrices and the rest. On matrices the numbers are those of
    ``torch.optim.Muon``, bit for bit; convolutions are read as (outputs) x (inputs and places).

    Embeddings, heads, vectors and scalars are for AdamW. What is which is known

    * of plain ``model.parameters()`` by dimension alone: two or more is a matrix, heads and
      embeddings included;
    * of ``model.named_parameters()`` also by name (``embed``, ``wte``, ``wpe``, ``head``,
      ``lm_head``, ``classifier``, ...);
    * of groups with ``use_muon`` True or False as they say;
    * of :func:`muon_groups`, from the model's own modules: the sure way.

    :meth:`roles` says which parameter went where.

    Beside a matrix one entry is kept for each of its own (4 bytes a parameter in float32), beside
    other parameters two (8 bytes).

    Args:
        params: Parameters, groups or named parameters.
        lr: :math:`\eta` >= 0; default 1e-3, torch's.
        momentum: :math:`\mu` in [0, 1); default 0.95, the published one.
        nesterov: Whether to look ahead; default True.
        ns_steps: Newton-Schulz iterations, from 1 to 99; default 5.
        adjust_lr_fn: ``"match_rms_adamw"`` (default, as matrices and the rest share ``lr``),
            ``"original"``, or None, which is torch's default and means the original.
        weight_decay: Decoupled decay, of all parameters, >= 0; default 0.1, torch's.
        betas: AdamW's, each in [0, 1); default (0.9, 0.95), the published code's.
        **common: ``ns_coefficients``, ``eps`` (of the norm, default 1e-7), ``ns_dtype``
            (``"bfloat16"``, default; ``"float32"`` or ``"parameter"`` where that is slow or too
            coarse), ``adamw_eps`` (default 1e-8), ``use_muon``; ``l1``, ``decoupled_weight_decay``
            (here True by default), ``maximize``, ``foreach``: many matrices at once (None: small
            ones, and all on accelerators).

    Raises:
        ValueError: If a value is outside its range, or a group with ``use_muon=True`` has a
            parameter of fewer than two dimensions.

    Example:
        >>> w, b = torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.zeros(2))
        >>> optimizer = Muon([("w", w), ("b", b)], lr=0.1)
        >>> optimizer.roles()
        {'w': 'Muon, 2 x 2', 'b': 'AdamW: fewer than two dimensions'}

    References:
        Jordan, Jin, Boza, You, Cesista, Newhouse and Bernstein, Muon: an optimizer for hidden
        layers in neural networks, 2024; Liu et al., Muon is scalable for LLM training, 2025 (the
        second scaling).
    """

    reference: ClassVar[Reference] = Reference(
        "Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein",
        "Muon: an optimizer for hidden layers in neural networks",
        2024,
    )
    slots: ClassVar[tuple[Slot, ...]] = ()
    widens: ClassVar[bool] = False
    kept: ClassVar[str] = "momentum_buffer of a matrix; exp_avg, exp_avg_sq of the others"
    space: ClassVar[dict[str, Range]] = {"lr": Range(1e-4, 0.1)}
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "momentum": FRACTION,
        "nesterov": FLAG,
        "ns_steps": Domain(
            "an integer from 1 to 99",
            lambda v: integer_from(1).contains(v) and v < 100,  # type: ignore[operator]
        ),
        "adjust_lr_fn": Domain(
            f"{_SCALINGS.allowed} or None", lambda v: v is None or _SCALINGS.contains(v)
        ),
        "betas": pair_of(FRACTION),
        "ns_coefficients": _THREE,
        "ns_dtype": one_of(*_DTYPES),
        "eps": POSITIVE,
        "adamw_eps": NON_NEGATIVE,
        "use_muon": OPTIONAL_FLAG,
    }

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = "match_rms_adamw",
        weight_decay: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.95),
        **common: Unpack[MuonCommon],
    ) -> None:
        own = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
            "weight_decay": weight_decay,
            "betas": betas,
            "ns_coefficients": QUINTIC,
            "ns_dtype": "bfloat16",
            "eps": 1e-7,
            "adamw_eps": 1e-8,
            "use_muon": None,
        }
        super().__init__(params, own, common)

    def takes(self, shape: torch.Size, group: Group, name: str | None) -> bool:
        """Whether the parameter is for Muon."""
        return _why_not(shape, group, name) is None

    def elementwise(self, grad: Any, state: State, group: Group) -> Any:
        """AdamW."""
        return adam_direction(grad, state, {**group, "eps": group["adamw_eps"], "amsgrad": False})

    def directions(self, lot: Lot, group: Group) -> list[Scaled]:
        """The rule."""
        momentum, grads = group["momentum"], lot.grads
        means = lot.slot("momentum_buffer")
        torch._foreach_lerp_(means, grads, 1 - momentum)
        looked = torch._foreach_lerp(grads, means, momentum) if group["nesterov"] else means
        how = (group["ns_steps"], group["ns_coefficients"], group["eps"])
        dtype = _DTYPES[group["ns_dtype"]]
        if grads[0].is_cuda:
            found = batched(lambda m: orthogonalized(m, *how, dtype), looked)
        else:
            found = [orthogonalized(m, *how, dtype) for m in looked]
        return [Scaled(u, _factor(u.shape, group["adjust_lr_fn"])) for u in found]

    def roles(self) -> dict[str, str]:
        """What moves each parameter, and why, by its name (or its place, where there is none).

        Returns:
            "Muon, rows x columns", or "AdamW: " and the reason.
        """
        found: dict[str, str] = {}
        for i, group in enumerate(self.param_groups):
            names = group.get("param_names") or [None] * len(group["params"])
            for k, (p, name) in enumerate(zip(group["params"], names, strict=True)):
                shape = torch.view_as_real(p).shape if p.is_complex() else p.shape
                reason = _why_not(shape, group, name)
                sides = " x ".join(map(str, sides_of(shape)))
                shown = f"Muon, {sides}" if reason is None else f"AdamW: {reason}"
                found[name or f"group {i}, parameter {k}"] = shown
        return found


def muon_groups(model: nn.Module, **options: Any) -> list[Group]:
    """Parameter groups by the role that each parameter has in its model.

    The weights of ``nn.Embedding`` and ``nn.EmbeddingBag``, of the last ``nn.Linear`` in the order
    of registration (the head) and what is tied to one of them, vectors and scalars go to AdamW; all
    other parameters go to Muon.

    Args:
        model: The model.
        **options: Hyper-parameters of both groups; those named ``adamw_...`` are for AdamW's group
            alone, without the prefix (``adamw_lr=3e-4``).

    Returns:
        Two groups with names, for :class:`Muon`; one without parameters is left out.

    Raises:
        ValueError: If the model has no parameters.

    Example:
        >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9))
        >>> for group in muon_groups(model, lr=0.02, adamw_lr=3e-4):
        ...     print(group["use_muon"], [name for name, _ in group["params"]], group["lr"])
        True ['1.weight'] 0.02
        False ['0.weight', '1.bias', '2.weight', '2.bias'] 0.0003
    """
    special = {id(p) for p in _special(model)}
    named = list(model.named_parameters())
    if not named:
        raise bad_argument("muon_groups", "model", type(model).__name__, "a model with parameters")
    chosen = [len(p.shape) > 1 and id(p) not in special for _, p in named]
    prefix = "adamw_"
    shared = {k: v for k, v in options.items() if not k.startswith(prefix) or k == "adamw_eps"}
    apart = {k.removeprefix(prefix): v for k, v in options.items() if k not in shared}
    groups = [
        {"params": [n for n, c in zip(named, chosen, strict=True) if c is use], "use_muon": use}
        for use in (True, False)
    ]
    groups = [{**group, **shared, **({} if group["use_muon"] else apart)} for group in groups]
    return [group for group in groups if group["params"]]


def _factor(shape: torch.Size, scaling: str | None) -> float:
    """The published scalings of the learning rate."""
    rows, columns = shape
    if scaling == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))


def _special(model: nn.Module) -> Iterator[Tensor]:
    """The weights of embeddings and of the head; what is tied to them is the same tensor."""
    head = None
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            yield module.weight
        elif isinstance(module, nn.Linear):
            head = module
    if head is not None:
        yield head.weight


def _why_not(shape: torch.Size, group: Group, name: str | None) -> str | None:
    """Why a parameter is not for Muon; None: it is."""
    if len(shape) < 2:
        return "fewer than two dimensions"
    if group["use_muon"] is not None:
        return None if group["use_muon"] else "use_muon is False"
    module = (name or "").removesuffix(".weight")
    if _EMBEDDING.search(module):
        return "an embedding by its name"
    return "a head by its name" if _HEAD.search(module) else None
