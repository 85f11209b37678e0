"""The lifecycle of methods that keep matrices beside a parameter: Muon, Shampoo, SOAP.

A parameter of two or more dimensions is read as a matrix: its first dimension by all others, so
that a convolution's kernel is (outputs) x (inputs and places). The method's rule is written once,
for a list of matrices; it is called matrix by matrix or on all that are of one type and age.
What a method does not take as a matrix is moved by its rule for the others.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor

from thalweg.errors import FLAG, NON_NEGATIVE, OPTIONAL_FLAG, Domain
from thalweg.optim.base import AbstractOptimizer
from thalweg.optim.first_order import _counted, _joined, _regularised
from thalweg.optim.metadata import Needs, StructuredCommon
from thalweg.optim.seams import Group, Point, Ray, Scaled, State
from thalweg.vectors import Vector


__all__ = ["AbstractStructured", "Lot", "Member", "add_gram_", "batched", "products", "sides_of"]

_SMALL = 128 * 128  # on a CPU, larger matrices are better moved one by one: caches
_GRAM_BLOCK = 256


class Member(NamedTuple):
    """A parameter that is moved as a matrix.

    Example:
        >>> w = torch.zeros(3, 4)
        >>> Member(w, torch.ones(3, 4), {}, 1.0).grad.shape
        torch.Size([3, 4])
    """

    param: Tensor  # complex ones as pairs of reals
    grad: Tensor  # regularised, rows x columns
    store: dict[str, Any]
    step: float


@final
class Lot:
    """Matrices of one type and age: what a rule is called on.

    Args:
        members: The matrices, of any shapes.

    Example:
        >>> store = {}
        >>> lot = Lot([Member(torch.zeros(2), torch.ones(2, 1), store, 1.0)])
        >>> lot.slot("mean")[0].add_(lot.grads[0]).shape, store["mean"].shape
        (torch.Size([2, 1]), torch.Size([2, 1]))
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members
        self.step = members[0].step
        self.grads = [member.grad for member in members]

    def slot(self, name: str) -> list[Tensor]:
        """A state of each gradient's shape, to be changed in place; new ones are zero."""
        return [self.own(i, name, grad.shape) for i, grad in enumerate(self.grads)]

    def own(self, i: int, name: str, shape: Sequence[int], *, eye: bool = False) -> Tensor:
        """A state of the i-th matrix, to be changed in place; new ones are zero, or identities."""
        _, grad, store, _ = self.members[i]
        held = store.get(name)
        if held is None:
            held = store[name] = torch.zeros(shape, dtype=grad.dtype, device=grad.device)
            if eye:
                held.diagonal(dim1=-2, dim2=-1).fill_(1)
        elif held.dtype is not grad.dtype:
            held = store[name] = held.to(grad.dtype)
        return held if held.shape == shape else held.view(shape)


class AbstractStructured(AbstractOptimizer):
    """A rule for matrices with matrices as state, and a rule for the other parameters.

    Args:
        params: Parameters, groups or named parameters, as torch takes them.
        defaults: The method's own hyper-parameters.
        common: Those that every such method takes.

    Raises:
        ValueError: If a hyper-parameter is outside its domain.
    """

    needs: ClassVar[Needs] = Needs.GRADIENT
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "lr": NON_NEGATIVE,
        "weight_decay": NON_NEGATIVE,
        "l1": NON_NEGATIVE,
        "decoupled_weight_decay": FLAG,
        "maximize": FLAG,
        "foreach": OPTIONAL_FLAG,
    }
    kept: ClassVar[str]  # the state, in words, for the catalogue
    widens: ClassVar[bool] = True  # half precision to float32: second moments of it are none

    def __init__(self, params: Any, defaults: Group, common: StructuredCommon) -> None:
        shared = {"l1": 0.0, "decoupled_weight_decay": True, "maximize": False, "foreach": None}
        super().__init__(params, {**shared, **defaults, **common})

    @abstractmethod
    def takes(self, shape: torch.Size, group: Group, name: str | None) -> bool:
        """Whether a parameter of that shape (and name, where names are known) is a matrix here."""

    @abstractmethod
    def directions(self, lot: Lot, group: Group) -> Sequence[Tensor] | Sequence[Scaled]:
        """The rule for matrices.

        Args:
            lot: The gradients, rows x columns each, not to be changed; and the state.
            group: The hyper-parameters.

        Returns:
            For each matrix the direction u of the step -lr u, with a factor where it has one.
        """

    @abstractmethod
    def elementwise(self, grad: Any, state: State, group: Group) -> Any:
        """The rule for the others, on ``exp_avg`` and ``exp_avg_sq``; a direction."""

    @final
    def descend(self, point: Point) -> Ray:
        """The ray along the directions, computed as it is walked."""
        for group in point.groups:
            for p in group["params"]:
                if p.grad is not None and p.grad.is_sparse:
                    name = type(self).__name__
                    raise TypeError(
                        f"{name}.step(): sparse gradients are not supported; densify them."
                    )
        return Ray(self._pieces(point.groups))

    @final
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint; state that is kept in float32 beside smaller parameters stays so."""
        super().load_state_dict(state_dict)
        ids = [i for group in state_dict["param_groups"] for i in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for i, p in zip(ids, params, strict=True):
            for name, value in state_dict["state"].get(i, {}).items():
                small = isinstance(value, Tensor) and p.element_size() < value.element_size()
                if small and value.dtype is torch.float32 and name != "step":
                    self.state[p][name] = value.to(p.device, copy=True)

    def _pieces(self, groups: Iterable[Group]) -> Iterator[tuple[Group, Any, Any]]:
        for group in groups:
            members, others = self._parted(group)
            foreach = _foreach(group, members or others)
            for param, grad, state in others if foreach is False else _joined(others):
                yield group, param, self.elementwise(grad, state, group)
            for lot in _lots(members, foreach):
                found = self.directions(lot, group)
                yield from _walked(group, lot, found)

    def _parted(self, group: Group) -> tuple[list[Member], list[Any]]:
        """The matrices, and all others as a first-order method would have them; none empty."""
        params = group["params"]
        names = group.get("param_names") or [None] * len(params)
        found = [
            (p, name)
            for p, name in zip(params, names, strict=True)
            if p.grad is not None and p.numel()
        ]
        stores = [self.state[p] for p, _ in found]
        steps = _counted(stores) if found else []
        plain = not (group["maximize"] or group["weight_decay"] or group["l1"])
        members: list[Member] = []
        others: list[Any] = []
        for (p, name), store, step in zip(found, stores, steps, strict=True):
            param, grad = ((torch.view_as_real(t) if t.is_complex() else t) for t in (p, p.grad))
            if not plain:
                grad = _regularised(grad, param, group)
            if self.takes(param.shape, group, name):
                small = self.widens and grad.element_size() < 4
                matrix = (
                    (grad.float() if small else grad)
                    .contiguous()
                    .view(param.shape[0] if param.ndim else 1, -1)
                )
                members.append(Member(param, matrix, store, step))
            else:
                others.append((param, grad, _pair(param, store, step)))
        return members, others


def sides_of(shape: torch.Size) -> tuple[int, int]:
    """Rows and columns of a parameter read as a matrix.

    Example:
        >>> sides_of(torch.Size([64, 32, 3, 3]))
        (64, 288)
    """
    return shape[0] if shape else 1, math.prod(shape[1:])


def add_gram_(total: Tensor, matrix: Tensor, keep: float, weight: float) -> None:
    r"""Take :math:`w\, M M^\top` into a running sum of symmetric matrices, in place.

    Args:
        total: n x n, or batch x n x n.
        matrix: n x k, or batch x n x k.
        keep: The factor of what is there.
        weight: w.

    Example:
        >>> total = torch.ones(2, 2)
        >>> add_gram_(total, torch.ones(2, 3), 0.5, 1.0)
        >>> total[0, 0].item()
        3.5
    """
    if total.ndim == 3 and len(total) == 1:
        total, matrix = total[0], matrix[0]
    n = total.shape[-1]
    if total.ndim == 3:
        total.baddbmm_(matrix, matrix.mT, beta=keep, alpha=weight)
    elif min(matrix.shape) < 2 * _GRAM_BLOCK or total.is_cuda:
        total.addmm_(matrix, matrix.T, beta=keep, alpha=weight)
    else:  # by symmetry, a quarter of the products is saved, and more of larger ones
        for i in range(0, n, _GRAM_BLOCK):
            j = min(n, i + _GRAM_BLOCK)
            total[i:j, :j].addmm_(matrix[i:j], matrix[:j].T, beta=keep, alpha=weight)
            total[:i, i:j] = total[i:j, :i].T


def products(left: Sequence[Tensor], right: Sequence[Tensor]) -> list[Tensor]:
    """The product of each pair of matrices; on accelerators, those of one shape at once.

    Example:
        >>> products([torch.eye(2)], [torch.ones(2, 1)])[0].shape
        torch.Size([2, 1])
    """
    if not left or not left[0].is_cuda:
        return [a @ b for a, b in zip(left, right, strict=True)]
    return batched(torch.matmul, left, right)


def batched(
    function: Callable[..., Any], *lists: Sequence[Tensor], stacked: bool | None = None
) -> list[Any]:
    """``function``, which takes batches, of each tuple of tensors.

    Args:
        function: Batches of matrices to one batch, or to a tuple of batches.
        *lists: As many tensors in each.
        stacked: Whether those of one shape are taken at once (None: on accelerators).

    Returns:
        What it gives for each tuple.

    Example:
        >>> batched(torch.add, [torch.ones(2), torch.ones(3)], [torch.ones(2), torch.ones(3)])
        [tensor([2., 2.]), tensor([2., 2., 2.])]
    """
    alike: dict[Any, list[int]] = {}
    for i, tensors in enumerate(zip(*lists, strict=True)):
        together = tensors[0].is_cuda if stacked is None else stacked
        own = tuple(t.shape for t in tensors) if together else i
        alike.setdefault(own, []).append(i)
    found: list[Any] = [None] * len(lists[0])
    for places in alike.values():
        if len(places) == 1:
            stacks = [tensors[places[0]].unsqueeze(0) for tensors in lists]
        else:
            stacks = [torch.stack([tensors[i] for i in places]) for tensors in lists]
        images = function(*stacks)
        parts = images.unbind() if isinstance(images, Tensor) else list(zip(*images, strict=True))
        for i, part in zip(places, parts, strict=True):
            found[i] = part
    return found


def _walked(group: Group, lot: Lot, found: Sequence[Any]) -> Iterator[tuple[Group, Any, Any]]:
    """The pieces: all of one factor at once; with factors, on a CPU, each (to torch's own bits)."""
    alike: dict[Any, list[tuple[Tensor, Tensor]]] = {}
    for k, (member, u) in enumerate(zip(lot.members, found, strict=True)):
        direction, factor = u if isinstance(u, Scaled) else (u, 1.0)
        own = k if isinstance(u, Scaled) and not direction.is_cuda else None
        pair = member.param, direction.reshape(member.param.shape)
        alike.setdefault((factor, own), []).append(pair)
    for (factor, _), pairs in alike.items():
        one = len(pairs) == 1
        param, direction = pairs[0] if one else map(Vector, zip(*pairs, strict=True))
        yield group, param, direction if factor == 1.0 else Scaled(direction, factor)


def _foreach(group: Group, entries: Sequence[Any]) -> bool | None:
    """Whether to batch: always, never, or (None) where matrices are small."""
    if group["foreach"] is None and entries and entries[0][0].is_cuda:
        return True
    return group["foreach"]


def _lots(members: Iterable[Member], foreach: bool | None) -> Iterator[Lot]:
    """What is moved together: all that share type, device, age and what state they have."""
    alike: dict[Any, list[Member]] = {}
    for k, member in enumerate(members):
        _, grad, store, step = member
        together = foreach or (foreach is None and grad.numel() <= _SMALL)
        own = (grad.dtype, grad.device, step, "exp_avg" in store) if together else k
        alike.setdefault(own, []).append(member)
    return map(Lot, alike.values())


def _pair(param: Tensor, store: dict[str, Any], step: float) -> State:
    for name in ("exp_avg", "exp_avg_sq"):
        if name not in store:
            store[name] = torch.zeros_like(param, memory_format=torch.preserve_format)
    return State({name: store[name] for name in ("exp_avg", "exp_avg_sq")}, step)
