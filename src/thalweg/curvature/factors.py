r"""The factors of one layer's block: how rows enter them, and products and solves with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from thalweg.curvature.layer_records import Key, LayerRecord, Slopes
from thalweg.curvature.outputs import output_gradient
from thalweg.objective import Closure, UnknownLoss


__all__ = ["Factors", "absorb_rows", "fisher_slopes", "product", "second_moments", "solve"]

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
        pairs = [torch.stack([s * a, s], -1) for s in record.slopes]
        g = sum(torch.einsum("rdi,rdj->dij", pair, pair) for pair in pairs)
        inputs = a.new_zeros(0)
    elif record.kind == "embedding":
        # The number of rows of the table is not known here: the counts grow with the indices.
        inputs = torch.bincount(a).to(record.slopes[0])
        g = sum(s.T @ s for s in record.slopes)
    else:
        inputs = a.T @ a
        g = sum(s.T @ s for s in record.slopes)
    assert isinstance(g, Tensor)
    if record.key not in held:
        held[record.key] = Factors(record.kind, inputs, g * weight, record.rows)
        return
    factors = held[record.key]
    factors.inputs = _longer_sum(factors.inputs, inputs)
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
        made = torch.zeros(len(right), left.shape[1]).to(left)
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
        if factors.scales is not None:
            turn = factors.eigenbasis()[1]
            known = weight[: len(factors.scales)]
            return _padded((known @ turn * factors.scales) @ turn.T, weight), None
        known = weight[: len(factors.inputs)]
        return _padded(factors.inputs[:, None] * (known @ factors.outputs), weight), None
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
    if factors.kind == "embedding":
        g, turn, *_ = factors.eigenbasis()
        table = factors.scales
        if table is None:
            table = factors.inputs[:, None] * g
        seen = weight[: len(table)]
        solved = (seen @ turn / (table + damping)) @ turn.T
        rest = weight / damping
        return torch.cat([solved, rest[len(table) :]]), None
    g, left, a, right = factors.eigenbasis()
    v = left.T @ _joined(weight, bias) @ right
    if factors.scales is not None:
        v = v / (factors.scales + damping)
    elif factored:
        pi = float((a.mean() / g.mean()).clamp(1e-12, 1e12)) ** 0.5 if g.mean() > 0 else 1.0
        v = v / ((g + damping**0.5 / pi)[:, None] * (a + damping**0.5 * pi))
    else:
        v = v / (g[:, None] * a + damping)
    return _split(left @ v @ right.T, weight, bias)


def fisher_slopes(batch: Closure, fisher: str, samples: int, seed: int) -> Slopes:
    r"""Cotangents whose outer products sum to the curvature of the batch's outputs.

    Raises:
        TypeError: If the loss is of no known kind and labels have to be drawn.
    """
    loss = batch.loss_fn
    if loss is None or (isinstance(loss, UnknownLoss) and fisher != "empirical"):
        raise TypeError(
            f"KroneckerFactors(fisher={fisher!r}): the loss is not of a known kind, so there is no "
            "distribution to draw labels from; use fisher='empirical', or a loss of torch.nn."
        )

    def slopes(outputs: Tensor, targets: Any) -> list[Tensor]:
        fixed = outputs.detach()
        if fisher == "exact":
            return output_roots(batch, fixed, targets)
        count = 1.0 if loss.reduction == "sum" else loss.count(fixed, targets)
        if fisher == "empirical":
            return [output_gradient(loss, fixed, targets)[1] * count**0.5]
        generator = torch.Generator(outputs.device).manual_seed(seed)
        drawn = [loss.sample(fixed, targets, generator) for _ in range(samples)]
        return [output_gradient(loss, fixed, y)[1] * (count / samples) ** 0.5 for y in drawn]

    return slopes


def output_roots(batch: Closure, outputs: Tensor, targets: Any) -> list[Tensor]:
    """Roots of the loss's Hessian in output space: as many cotangents as an output has entries."""
    loss = batch.loss_fn
    assert loss is not None
    across = 0 if outputs.ndim == 1 else 1
    width = outputs.shape[across]
    columns = []
    for k in range(width):
        unit = torch.zeros_like(outputs)
        unit.select(across, k).fill_(1.0)
        columns.append(loss.hessian_product(outputs, targets, unit).movedim(across, -1))
    blocks = torch.stack(columns, -1)  # positions x width x width
    values, vectors = torch.linalg.eigh(blocks)
    roots = vectors * values.clamp_min(0.0).sqrt().unsqueeze(-2)
    return [roots[..., k].movedim(-1, across) for k in range(width)]


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, not below 0, and eigenvectors, computed in float64."""
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.clamp_min(0.0).to(matrix), vectors.to(matrix)


def _affine(blocks: Tensor, weight: Tensor, bias: Tensor | None) -> Parts:
    flat = weight.reshape(-1)
    other = torch.zeros_like(flat) if bias is None else bias.reshape(-1)
    if bias is None:
        blocks = blocks * blocks.new_tensor([[1.0, 0.0], [0.0, 1.0]])
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


def _padded(known: Tensor, weight: Tensor) -> Tensor:
    out = torch.zeros_like(weight)
    out[: len(known)] = known
    return out


def _longer_sum(first: Tensor, second: Tensor) -> Tensor:
    """The sum of two counts of which one may know of more indices."""
    if first.shape == second.shape:
        return first + second
    size = max(len(first), len(second))
    total = first.new_zeros(size)
    total[: len(first)] += first
    total[: len(second)] += second
    return total
