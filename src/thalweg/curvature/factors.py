r"""The factors of one layer's block: how rows enter them, and products and solves with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from thalweg.curvature.fisher import counted, likelihood
from thalweg.curvature.layer_records import Key, LayerRecord, Slopes
from thalweg.curvature.outputs import output_gradient
from thalweg.objective import AbstractOutputLoss, Closure, CrossEntropy, UnknownLoss


__all__ = [
    "Factors",
    "absorb_rows",
    "cotangents_of",
    "fisher_slopes",
    "product",
    "second_moments",
    "solve",
]

Parts = tuple[Tensor, Tensor | None]  # a weight, and its bias


@final
@dataclass
class Factors:
    r"""A layer's factors.

    Args:
        kind: ``"linear"``, ``"embedding"`` or ``"affine"``.
        inputs: A, in x in; for an embedding its diagonal; unused for an affine layer.
        outputs: G, out x out; for an affine layer the 2 x 2 blocks, d x 2 x 2.
        rows: Positions seen.
        scales: The corrected eigenvalues, out x in, where they are asked for.
        basis: Eigenvalues and eigenvectors of G and A, once they are needed.

    Example:
        >>> f = Factors("linear", 2 * torch.eye(2), 3 * torch.eye(1))
        >>> product(f, (torch.ones(1, 2), None))[0].tolist()
        [[6.0, 6.0]]
    """

    kind: str
    inputs: Tensor
    outputs: Tensor
    rows: int = 0
    scales: Tensor | None = None
    basis: list[Tensor] = field(default_factory=list)

    def finish(self, scale: float, correcting: bool) -> None:
        """Turn sums into means once all batches are in."""
        if correcting:
            if self.scales is not None:
                self.scales *= scale
            return
        self.outputs *= scale
        if self.rows:
            self.inputs /= self.rows

    def eigenbasis(self) -> list[Tensor]:
        """Eigenvalues and eigenvectors of G, then of A; of an embedding's A the diagonal itself."""
        if not self.basis:
            self.basis = [*_eigh(self.outputs)]
            self.basis += [self.inputs] if self.kind == "embedding" else [*_eigh(self.inputs)]
        return self.basis


def absorb_rows(
    held: dict[Key, Factors], record: LayerRecord, weight: float, correcting: bool
) -> None:
    """Take one use of a layer into its factors.

    Args:
        held: The factors so far.
        record: The use.
        weight: The batch's weight.
        correcting: Take second moments along the eigenvectors instead, for EKFAC.
    """
    if correcting:
        _absorb_scales(held[record.key], record, weight)
        return
    a = record.inputs
    if record.kind == "affine":
        biased = float(record.key[1] is not None)
        pairs = [torch.stack([s * a, s * biased], -1) for s in record.slopes]
        g = sum(torch.einsum("rdi,rdj->dij", pair, pair) for pair in pairs)
        inputs = a.new_zeros(0)
    elif record.kind == "embedding":
        inputs = torch.bincount(a, minlength=record.table).to(record.slopes[0])
        g = sum(s.T @ s for s in record.slopes)
    else:
        inputs = a.T @ a
        g = sum(s.T @ s for s in record.slopes)
    assert isinstance(g, Tensor)
    if record.key not in held:
        held[record.key] = Factors(record.kind, inputs, g * weight, record.rows)
        return
    factors = held[record.key]
    factors.inputs = factors.inputs + inputs
    factors.outputs += g * weight
    factors.rows += record.rows


def second_moments(record: LayerRecord, left: Tensor, right: Tensor) -> Tensor:
    """The squares of the rows' gradients along eigenvectors, summed over rows.

    Args:
        record: A use of a layer.
        left: Eigenvectors of G.
        right: Eigenvectors of A; of an embedding the diagonal of A, for its length.

    Returns:
        out x in; for an embedding rows of the table x out.
    """
    if record.kind == "embedding":
        made = left.new_zeros(len(right), left.shape[1])
        for s in record.slopes:
            made.index_add_(0, record.inputs, (s @ left).square())
        return made
    turned = (record.inputs @ right).square()
    return sum(((s @ left).square().T @ turned for s in record.slopes), turned.new_zeros(()))


def _absorb_scales(factors: Factors, record: LayerRecord, weight: float) -> None:
    if factors.kind == "affine":
        return
    basis = factors.eigenbasis()
    right = factors.inputs if factors.kind == "embedding" else basis[3]
    made = second_moments(record, basis[1], right) * weight
    factors.scales = made if factors.scales is None else factors.scales + made


def product(factors: Factors, parts: Parts) -> Parts:
    """The block times a weight and its bias."""
    weight, bias = parts
    if factors.kind == "affine":
        return _affine(factors.outputs, weight, bias)
    if factors.kind == "embedding":
        if factors.scales is None:
            return factors.inputs[:, None] * (weight @ factors.outputs), None
        turn = factors.eigenbasis()[1]
        return (weight @ turn * factors.scales) @ turn.T, None
    v = _joined(weight, bias)
    if factors.scales is not None:
        _, left, _, right = factors.eigenbasis()
        made = left @ (left.T @ v @ right * factors.scales) @ right.T
    else:
        made = factors.outputs @ v @ factors.inputs
    return _split(made, weight, bias)


def solve(factors: Factors, parts: Parts, damping: float, factored: bool) -> Parts:
    """The damped block's inverse times a weight and its bias."""
    weight, bias = parts
    if factors.kind == "affine":
        d = factors.outputs.shape[-1]
        eye = torch.eye(d, dtype=weight.dtype, device=weight.device)
        return _affine(torch.linalg.inv(factors.outputs + damping * eye), weight, bias)
    g, left, a, *right = factors.eigenbasis()
    if right:
        v = left.T @ _joined(weight, bias) @ right[0]
    else:  # of an embedding the rows are the eigenvectors of A
        v, g, a = weight @ left, a, g
    if factors.scales is not None:
        v = v / (factors.scales + damping)
    elif factored:
        pi = float((a.mean() / g.mean()).clamp(1e-12, 1e12)) ** 0.5 if g.mean() > 0 else 1.0
        v = v / ((g + damping**0.5 / pi)[:, None] * (a + damping**0.5 * pi))
    else:
        v = v / (g[:, None] * a + damping)
    return _split(left @ v @ right[0].T, weight, bias) if right else (v @ left.T, None)


def fisher_slopes(batch: Closure, fisher: str, samples: int, seed: int, where: str) -> Slopes:
    r"""Cotangents whose outer products sum to the curvature of the batch's outputs.

    Args:
        batch: The batch.
        fisher: ``"exact"``, ``"monte-carlo"`` or ``"empirical"``.
        samples: Draws of labels.
        seed: Of the draws.
        where: Who asks, for messages.

    Raises:
        TypeError: If the loss is of no known kind and labels have to be drawn.
    """
    loss = batch.loss_fn
    if loss is None or (isinstance(loss, UnknownLoss) and fisher != "empirical"):
        raise TypeError(
            f"{where}(fisher={fisher!r}): the loss is not of a known kind, so there is no "
            "distribution to draw labels from; use fisher='empirical', or a loss of torch.nn."
        )
    return lambda outputs, targets: cotangents_of(loss, fisher, samples, seed, outputs, targets)


def cotangents_of(
    loss: AbstractOutputLoss, fisher: str, samples: int, seed: int, outputs: Tensor, targets: Any
) -> list[Tensor]:
    """The cotangents themselves; without targets (None) every output counts."""
    fixed = outputs.detach()
    generator = torch.Generator(outputs.device).manual_seed(seed)
    score = loss if getattr(loss, "weight", None) is not None else likelihood(loss)
    if fisher == "exact":
        known = targets if targets is not None else loss.sample(fixed, None, generator)
        return output_roots(loss, fixed, known)
    if fisher == "empirical":
        rows = len(fixed) if fixed.ndim and loss.reduction != "sum" else 1
        return [output_gradient(loss, fixed, targets)[1] * rows**0.5]
    drawn = [score.sample(fixed, targets, generator) for _ in range(samples)]
    if targets is not None:
        drawn = [counted(loss, targets, labels) for labels in drawn]
    known = drawn[0] if targets is None else targets
    count = 1.0 if loss.reduction == "sum" else loss.count(fixed, known)
    return [output_gradient(score, fixed, y)[1] * (count / samples) ** 0.5 for y in drawn]


def output_roots(loss: AbstractOutputLoss, outputs: Tensor, targets: Any) -> list[Tensor]:
    """Roots of the loss's Hessian in output space, a cotangent for each entry of a sample's output.

    Positions of one sample are apart: together they would meet in the layers below.
    """
    if not isinstance(loss, CrossEntropy):
        diagonal = loss.hessian_product(outputs, targets, torch.ones_like(outputs))
        root = diagonal.clamp_min(0.0).sqrt()
        if outputs.ndim < 2:
            return [root]
        units = torch.eye(root[0].numel(), dtype=root.dtype, device=root.device)
        return [root * unit.view(root.shape[1:]) for unit in units]
    across = 0 if outputs.ndim == 1 else 1
    width = outputs.shape[across]
    columns = []
    for k in range(width):
        unit = torch.zeros_like(outputs)
        unit.select(across, k).fill_(1.0)
        columns.append(loss.hessian_product(outputs, targets, unit).movedim(across, -1))
    blocks = torch.stack(columns, -1)  # samples x positions x width x width
    values, vectors = torch.linalg.eigh(blocks)
    roots = vectors * values.clamp_min(0.0).sqrt().unsqueeze(-2)
    whole = [roots[..., k].movedim(-1, across) for k in range(width)]
    if outputs.ndim < 3:
        return whole
    places = torch.eye(outputs[0, 0].numel(), dtype=outputs.dtype, device=outputs.device)
    return [root * place.view(outputs.shape[2:]) for root in whole for place in places]


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, not below 0, and eigenvectors, computed in float64."""
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.clamp_min(0.0).to(matrix), vectors.to(matrix)


def _affine(blocks: Tensor, weight: Tensor, bias: Tensor | None) -> Parts:
    flat = weight.reshape(-1)
    other = torch.zeros_like(flat) if bias is None else bias.reshape(-1)
    made = torch.einsum("dij,dj->di", blocks, torch.stack([flat, other], -1))
    new_bias = None if bias is None else made[:, 1].view(bias.shape)
    return made[:, 0].view(weight.shape), new_bias


def _joined(weight: Tensor, bias: Tensor | None) -> Tensor:
    flat = weight.reshape(weight.shape[0], -1)
    return flat if bias is None else torch.cat([flat, bias[:, None]], 1)


def _split(made: Tensor, weight: Tensor, bias: Tensor | None) -> Parts:
    if bias is None:
        return made.view(weight.shape), None
    return made[:, :-1].reshape(weight.shape), made[:, -1]
