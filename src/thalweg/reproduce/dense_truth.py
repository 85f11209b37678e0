r"""Curvature of a small network with nothing but dense matrices: what estimates are held against.

The Hessian is stacked double backward, a row a parameter; the Jacobian of the outputs gives the
Gauss-Newton matrix of cross-entropy, :math:`\frac1n\sum_n J_n^\top(\operatorname{diag} p_n - p_n
p_n^\top) J_n`, and the samples' gradients :math:`J_n^\top (p_n - y_n)`, whose covariance is the
noise. No code of the curvature room is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


__all__ = ["DenseCurvature", "dense_curvature", "dense_hessian"]


@final
@dataclass(frozen=True)
class DenseCurvature:
    """A loss at a point, its derivatives and the noise of its gradient, as matrices.

    Args:
        loss: The loss.
        gradient: Its gradient, flat.
        hessian: Its Hessian.
        values: The eigenvalues of the Hessian, ascending.
        vectors: Its eigenvectors, in columns.
        ggn: The Gauss-Newton matrix.
        covariance: Of the samples' gradients, centred.
        parameters: The length of the parameters.
    """

    loss: float
    gradient: Tensor
    hessian: Tensor
    values: Tensor
    vectors: Tensor
    ggn: Tensor
    covariance: Tensor
    parameters: float

    def count_below(self, tolerance: float) -> int:
        """The eigenvalues below minus ``tolerance`` times the largest magnitude."""
        return int((self.values < -tolerance * self.values.abs().max()).sum())

    def kind(self, tolerance: float, critical: float) -> str:
        r"""What kind of point this is, by the whole saddle-free Newton step :math:`-|H|^{-1}g`."""
        zero = tolerance * float(self.values.abs().max())
        parts = self.vectors.T @ self.gradient
        step = -parts / self.values.abs().clamp_min(zero)
        gain = -float((parts * step + 0.5 * self.values * step**2).sum())
        length = max(self.parameters, 1.0)
        slope, bend = float(self.gradient.norm()), float(self.values.abs().max())
        if max(slope * length, 0.5 * bend * length**2) <= critical * self.loss:
            return "plateau"
        if float(step.norm()) > critical * length and gain > critical * self.loss:
            return "not a critical point"
        if float(self.values[0]) < -zero:
            return "maximum" if float(self.values[-1]) <= zero else "saddle"
        return "minimum"


def dense_hessian(loss: Tensor, params: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The gradient and the Hessian of a loss, by one double backward a row.

    Example:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> dense_hessian(x[0] ** 2 * x[1], [x])[1].tolist()
        [[4.0, 2.0], [2.0, 0.0]]
    """
    slopes = torch.autograd.grad(loss, params, create_graph=True)
    gradient = torch.cat([slope.reshape(-1) for slope in slopes])
    rows = [
        torch.cat([part.reshape(-1) for part in parts])
        for entry in gradient
        for parts in [torch.autograd.grad(entry, params, retain_graph=True)]
    ]
    return gradient.detach(), torch.stack(rows)


def dense_curvature(model: nn.Module, x: Tensor, y: Tensor) -> DenseCurvature:
    """All of it for the mean cross-entropy of a small network."""
    params = list(model.parameters())
    loss = F.cross_entropy(model(x), y)
    gradient, hessian = dense_hessian(loss, params)
    values, vectors = torch.linalg.eigh((hessian + hessian.T) / 2)
    outputs = model(x).detach()
    rows = _jacobian(model, x)
    likely = outputs.softmax(1)
    bent = likely[:, :, None] * (rows - (likely[:, None, :] @ rows))
    ggn = torch.einsum("nci,ncj->ij", rows, bent) / len(x)
    slopes = torch.einsum("nc,nci->ni", likely - F.one_hot(y, outputs.shape[1]), rows)
    apart = slopes - slopes.mean(0)
    size = float(torch.cat([p.detach().reshape(-1) for p in params]).norm())
    covariance = apart.T @ apart / len(x)
    found = float(loss.detach())
    return DenseCurvature(found, gradient, hessian, values, vectors, ggn, covariance, size)


def _jacobian(model: nn.Module, x: Tensor) -> Tensor:
    """The outputs' derivatives by sample, output and parameter: first derivatives alone."""
    point = {name: p.detach() for name, p in model.named_parameters()}

    def outputs(theta: dict[str, Tensor], sample: Tensor) -> Tensor:
        return torch.func.functional_call(model, theta, (sample[None],))[0]

    found = torch.func.vmap(torch.func.jacrev(outputs), in_dims=(None, 0))(point, x)
    return torch.cat([part.flatten(2) for part in found.values()], dim=2)
