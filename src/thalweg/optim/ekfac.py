"""EKFAC: K-FAC in its own eigenbasis, with the second moments that gradients have there."""

from __future__ import annotations

from typing import ClassVar, final

from thalweg.optim.kfac_factors import take_factors, take_scales
from thalweg.optim.kfac_listener import Found
from thalweg.optim.kronecker import AbstractKronecker
from thalweg.optim.metadata import Reference
from thalweg.optim.seams import Group


__all__ = ["EKFAC"]


@final
class EKFAC(AbstractKronecker):
    r"""K-FAC with a variance of its own for each direction of the factors' eigenvectors.

    With the eigenvectors :math:`A_l = V \Lambda_A V^\top`, :math:`G_l = U \Lambda_G U^\top` of a
    layer's two factors,

    .. math::
        F_l \approx (V \otimes U) \operatorname{diag}(s) (V \otimes U)^\top, \qquad
        s_{ij} = \mathbb E\bigl[(U^\top \nabla_{W_l} \ell\, V)_{ij}^2\bigr], \qquad
        \Delta W_l = -\eta\, U \Bigl(\frac{U^\top \nabla_{W_l} L\, V}{s + \lambda}\Bigr) V^\top .

    K-FAC takes products of eigenvalues in the place of the second moments s, which are the best
    diagonal in that basis (in the Frobenius norm) and are cheap to keep up to date: they are a
    running average that moves at every look, while the eigenvectors are computed again only at the
    second interval. The damping is added to s itself, not to the two factors.

    Everything else is as :class:`KFAC` has it: layers, closures, plain ``loss.backward()``, labels,
    arguments and their defaults. Looks, at the first interval, are at factors and s;
    eigendecompositions are at the second.

    Args:
        model: The module; its trainable parameters make one group.
        lr: :math:`\eta` >= 0; default 0.03.
        **rest: ``momentum``, ``damping``, ``decay``, ``intervals``, ``weight_decay`` and
            ``options``, by place or name: :class:`KFAC`'s.

    Raises:
        ValueError: If a value is outside its range.
        TypeError: If ``model`` is not a module.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = EKFAC(model, lr=0.5)
        >>> objective = Objective(model, torch.nn.functional.mse_loss)
        >>> closure = objective.closure(torch.randn(8, 2), torch.randn(8, 1))
        >>> bool(optimizer.step(closure) > closure.value())
        True

    References:
        George, Laurent, Bouthillier, Ballas and Vincent, Fast approximate natural gradient descent
        in a Kronecker-factored eigenbasis, 2018.
    """

    known_as: ClassVar[str] = "ekfac"
    keeps_rows: ClassVar[bool] = True
    reference: ClassVar[Reference] = Reference(
        "George, Laurent, Bouthillier, Ballas, Vincent",
        "Fast approximate natural gradient descent in a Kronecker-factored eigenbasis",
        2018,
    )
    kept: ClassVar[str] = "last, two factors, their eigenvectors and scales a layer"

    def learn(self, found: Found, group: Group, renew: bool) -> set[int]:
        """The factors, and with their eigenvectors the second moments of the same batch."""
        params, decay = group["params"], group["decay"]
        covered = take_factors(self.state, params, found.factors, found.refused, decay)
        take_scales(self.state, params, found.rows, decay, renew)
        return covered
