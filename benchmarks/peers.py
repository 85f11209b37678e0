"""Products with the Hessian and the Gauss-Newton matrix, by this package and by its peers.

A scheme is built for a case and then maps a flat vector (or n x K columns, where it takes them) to
the product. Peers are called as their own documentation calls them, each on a copy of the model,
without their optional checks.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from networks import Case
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.curvature import GGN, Hessian, How
from thalweg.objective import Objective


Product = Callable[[Tensor], Tensor]
CURVLINOPS, EIGENTHINGS = "curvlinops", "hessian_eigenthings"
PYHESSIAN, BACKPACK = "pyhessian", "backpack"
PIP = "curvlinops-for-pytorch hessian-eigenthings pyhessian backpack-for-pytorch"


@dataclass(frozen=True)
class Scheme:
    """A way to multiply.

    Args:
        name: For the tables.
        make: A case -> the product.
        module: The peer's package; empty for our own and for plain torch.
        columns: Whether it takes n x K columns.
    """

    name: str
    make: Callable[[Case], Product]
    module: str = ""
    columns: bool = False

    @property
    def installed(self) -> bool:
        """Whether it can be run here."""
        return not self.module or importlib.util.find_spec(self.module) is not None


def closure_of(case: Case) -> Any:
    """The case's loss on its batch."""
    return Objective(case.model, F.cross_entropy).closure(case.x, case.y)


def parts_of(params: Sequence[Tensor], flat: Tensor) -> list[Tensor]:
    """A flat vector in the shapes of the parameters."""
    pieces = flat.split([p.numel() for p in params])
    return [piece.view(p.shape) for piece, p in zip(pieces, params, strict=True)]


def flat_of(parts: Sequence[Tensor]) -> Tensor:
    """Parts as one flat vector."""
    return torch.cat([part.detach().reshape(-1) for part in parts])


def copied(case: Case) -> Case:
    """The case with a model of its own."""
    return Case(case.name, copy.deepcopy(case.model), case.x, case.y, case.draw)


# ---- plain torch ----------------------------------------------------------------------------
def true_hessian(case: Case) -> Product:
    """Double backward by hand."""
    gradient = torch.autograd.grad(case.loss(), case.params, create_graph=True)

    def product(v: Tensor) -> Tensor:
        v_parts = parts_of(case.params, v)
        return flat_of(torch.autograd.grad(gradient, case.params, v_parts, retain_graph=True))

    return product


def true_ggn(case: Case) -> Product:
    """By hand: J by backward through backward, the loss's Hessian by double backward."""
    outputs = case.model(case.x)
    dummy = torch.zeros_like(outputs, requires_grad=True)
    pulled = torch.autograd.grad(outputs, case.params, dummy, create_graph=True)
    z = outputs.detach().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(z, case.y), z, create_graph=True)

    def product(v: Tensor) -> Tensor:
        v_parts = parts_of(case.params, v)
        (forward,) = torch.autograd.grad(pulled, dummy, v_parts, retain_graph=True)
        (between,) = torch.autograd.grad(slope, z, forward, retain_graph=True)
        return flat_of(torch.autograd.grad(outputs, case.params, between, retain_graph=True))

    return product


# ---- ours -----------------------------------------------------------------------------------
def ours(kind: Callable[..., Any], **how: Any) -> Callable[[Case], Product]:
    """Our operator, made as ``how`` says."""

    def make(case: Case) -> Product:
        operator = kind(closure_of(case), how=How(check=False, **how))
        return lambda v: operator @ v

    return make


# ---- peers ----------------------------------------------------------------------------------
def curvlinops_operator(case: Case, name: str) -> Any:
    """The operator of that name in curvlinops."""
    import curvlinops

    kind = getattr(curvlinops, name)
    loss = nn.CrossEntropyLoss()
    data = [(case.x, case.y)]
    return kind(case.model, loss, case.params, data, check_deterministic=False)


def curvlinops_product(name: str) -> Callable[[Case], Product]:
    """Its product."""

    def make(case: Case) -> Product:
        operator = curvlinops_operator(copied(case), name)
        return lambda v: operator @ v

    return make


def eigenthings_hessian(case: Case, **options: Any) -> Any:
    """The Hessian of hessian-eigenthings."""
    import hessian_eigenthings as peer

    loss = peer.supervised_loss(F.cross_entropy)
    return peer.HessianOperator(case.model, [(case.x, case.y)], loss, **options)


def eigenthings_ggn(case: Case) -> Product:
    """hessian-eigenthings' Gauss-Newton product."""
    import hessian_eigenthings as peer

    case = copied(case)
    loss = peer.supervised_loss_of_output(F.cross_entropy)
    data = [(case.x, case.y)]
    return peer.GGNOperator(case.model, data, peer.supervised_forward, loss).matvec


def pyhessian_operator(case: Case) -> Any:
    """PyHessian's Hessian of one batch; it changes the model that it is given."""
    from pyhessian import hessian

    return hessian(copied(case).model, F.cross_entropy, data=(case.x, case.y), cuda=False)


def pyhessian_batch(case: Case) -> Product:
    """Its product with the graph of one batch kept."""
    from pyhessian.utils import hessian_vector_product

    held = pyhessian_operator(case)
    return lambda v: flat_of(
        hessian_vector_product(held.gradsH, held.params, parts_of(held.params, v))
    )


def pyhessian_loader(case: Case) -> Product:
    """Its product over a loader."""
    from pyhessian import hessian

    data = [(case.x, case.y)]
    held = hessian(copied(case).model, F.cross_entropy, dataloader=data, cuda=False)
    for p in held.model.parameters():  # it reads gradients only where there are some
        p.requires_grad_()
    return lambda v: flat_of(held.dataloader_hv_product(parts_of(held.params, v))[1])


def backpack_hessian(case: Case) -> Product:
    """BackPACK's Hessian product, which needs no extension of layers."""
    from backpack.hessianfree.hvp import hessian_vector_product

    case = copied(case)
    return lambda v: flat_of(
        hessian_vector_product(case.loss(), case.params, parts_of(case.params, v))
    )


def backpack_ggn(case: Case) -> Product:
    """BackPACK's Gauss-Newton product."""
    from backpack.hessianfree.ggnvp import ggn_vector_product

    case = copied(case)

    def product(v: Tensor) -> Tensor:
        outputs = case.model(case.x)
        loss = F.cross_entropy(outputs, case.y)
        return flat_of(ggn_vector_product(loss, outputs, case.model, parts_of(case.params, v)))

    return product


def eigenthings_product(**options: Any) -> Callable[[Case], Product]:
    """hessian-eigenthings' Hessian product."""
    return lambda case: eigenthings_hessian(copied(case), **options).matvec


HESSIANS = [
    Scheme("thalweg, kept", ours(Hessian), columns=True),
    Scheme("thalweg, recomputed", ours(Hessian, memory=0), columns=True),
    Scheme("thalweg, linearize", ours(Hessian, scheme="linearize"), columns=True),
    Scheme("curvlinops", curvlinops_product("HessianLinearOperator"), CURVLINOPS, True),
    Scheme("eigenthings, autograd", eigenthings_product(), EIGENTHINGS),
    Scheme(
        "eigenthings, differences", eigenthings_product(method="finite_difference"), EIGENTHINGS
    ),
    Scheme("PyHessian, batch", pyhessian_batch, PYHESSIAN),
    Scheme("PyHessian, loader", pyhessian_loader, PYHESSIAN),
    Scheme("BackPACK", backpack_hessian, BACKPACK),
]
GGNS = [
    Scheme("thalweg, recorded", ours(GGN, scheme="linearize"), columns=True),
    Scheme("thalweg, dual", ours(GGN, scheme="dual"), columns=True),
    Scheme("thalweg, reverse", ours(GGN, scheme="reverse"), columns=True),
    Scheme("thalweg, recomputed", ours(GGN, memory=0), columns=True),
    Scheme("curvlinops", curvlinops_product("GGNLinearOperator"), CURVLINOPS, True),
    Scheme("eigenthings", eigenthings_ggn, EIGENTHINGS),
    Scheme("BackPACK", backpack_ggn, BACKPACK),
]
