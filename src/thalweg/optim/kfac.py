"""K-FAC: a natural gradient whose Fisher matrix is a Kronecker product for each layer."""

from __future__ import annotations

from typing import ClassVar, final

from thalweg.optim.kfac_factors import take_factors
from thalweg.optim.kfac_listener import Found
from thalweg.optim.kronecker import AbstractKronecker
from thalweg.optim.metadata import Reference
from thalweg.optim.seams import Group


__all__ = ["KFAC"]


@final
class KFAC(AbstractKronecker):
    r"""Precondition each layer's gradient by the inverses of its two Kronecker factors.

    .. math::
        F_l \approx A_l \otimes G_l, \qquad
        \Delta W_l = -\eta\,
            \bigl(G_l + \tfrac{\sqrt\lambda}{\pi_l} I\bigr)^{-1} \nabla_{W_l} L\,
            \bigl(A_l + \pi_l\sqrt\lambda\, I\bigr)^{-1},

    with A the second moment of the layer's inputs and G that of its output gradients, both running
    averages, and :math:`\pi_l^2` the ratio of their mean eigenvalues. Linear layers, convolutions,
    attention projections, embeddings and the scale and shift of LayerNorm and BatchNorm are
    factored, wherever the model uses them; what is left (``uncovered``, said once) is moved by
    AdamW at ``fallback_lr``.

    It works after plain ``loss.backward()``, with gradient accumulation (the forward passes of
    training mode are listened to), and with ``step(objective.closure(x, y))``. The Fisher matrix is
    that of labels drawn from the model's own prediction, which needs the loss: taken from the
    closure, or given in ``options``; without either, the labels of the data are used (empirical
    Fisher), and this is said once.

    Args:
        model: The module; its trainable parameters make one group.
        lr: :math:`\eta` >= 0; default 0.03.
        momentum: In [0, 1); default 0.9.
        damping: :math:`\lambda` > 0; default 0.003.
        decay: Of the factors' averages, in [0, 1); default 0.95.
        intervals: Steps between looks at the factors, and between inversions (before the first
            of these, also after 1, 2, 4, ... looks); default (10, 100).
        weight_decay: Decoupled decay, >= 0.
        options: Everything else (:class:`KFACOptions`).

    Raises:
        ValueError: If a value is outside its range.
        TypeError: If ``model`` is not a module.

    Example:
        >>> import torch
        >>> from thalweg.objective import Objective
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = KFAC(model, lr=0.5)
        >>> objective = Objective(model, torch.nn.functional.mse_loss)
        >>> closure = objective.closure(torch.randn(8, 2), torch.randn(8, 1))
        >>> bool(optimizer.step(closure) > closure.value())
        True

    References:
        Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate
        curvature, 2015; Grosse and Martens, A Kronecker-factored approximate Fisher matrix for
        convolution layers, 2016.
    """

    known_as: ClassVar[str] = "kfac"
    reference: ClassVar[Reference] = Reference(
        "Martens, Grosse; Grosse, Martens (convolutions)",
        "Optimizing neural networks with Kronecker-factored approximate curvature",
        2015,
    )
    kept: ClassVar[str] = "last, two factors and their inverses a layer"

    def learn(self, found: Found, group: Group, renew: bool) -> set[int]:
        """The running averages of the factors; inverses are renewed from them when they are due."""
        del renew
        params = group["params"]
        return take_factors(self.state, params, found.factors, found.refused, group["decay"])
