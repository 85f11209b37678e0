r"""Kronecker-factored Fisher matrices: a block for each layer, each a product of two small ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from thalweg.curvature.batches import How
from thalweg.curvature.factors import Factors, absorb_rows, fisher_slopes, product, solve
from thalweg.curvature.layer_records import Key, layer_records
from thalweg.curvature.operator import AbstractOperator, Expression
from thalweg.curvature.selection import selected
from thalweg.errors import bad_argument, one_of
from thalweg.objective import AbstractClosure
from thalweg.vectors import Vector


__all__ = ["KroneckerFactors"]


@final
class KroneckerFactors(AbstractOperator):
    r"""The K-FAC or EKFAC approximation of the Fisher matrix at a snapshot.

    A layer's block, over its weight with the bias as a last column, is

    .. math:: F \approx A \otimes G, \qquad A = \frac1R\sum_r a_r a_r^\top, \qquad
        G = \sum_{k,r} \delta_{kr}\delta_{kr}^\top,

    with inputs a and output gradients :math:`\delta` at each of R positions (samples, tokens,
    patches), for each cotangent k of the Fisher matrix (exact: a root of the loss's Hessian; Monte
    Carlo: labels drawn from the prediction; empirical: the labels given). Uses of one weight in
    several places are pooled. ``corrected=True`` (EKFAC) keeps the eigenvectors and replaces the
    eigenvalues by the second moments along them.

    Linear maps and convolutions have such blocks, wherever they stand (attention projections, tied
    and shared weights included); embeddings have a diagonal A; scale and shift of LayerNorm and
    BatchNorm have a 2 x 2 block a channel. Other parameters have zero rows and are listed in
    ``uncovered``.

    Args:
        closure: ``objective.closure(x, y)``, or ``objective.over(loader)``, with a loss function.
        fisher: ``"exact"``, ``"monte-carlo"`` (default) or ``"empirical"``.
        samples: Draws of labels for ``"monte-carlo"``.
        corrected: Whether eigenvalues are corrected (EKFAC).
        seed: Of the draws.
        params: Names of parameters to restrict to; None takes all.
        how: ``borrow`` alone matters here.

    Raises:
        ValueError: If ``fisher`` is unknown.
        TypeError: If the objective's outputs, or the loss's distribution, are not known.

    Example:
        >>> from thalweg.objective import Objective
        >>> objective = Objective(torch.nn.Linear(2, 1, bias=False), torch.nn.functional.mse_loss)
        >>> closure = objective.closure(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 1))
        >>> KroneckerFactors(closure, fisher="exact").to_dense().round(decimals=4).tolist()
        [[2.0, 4.0], [4.0, 8.0]]

    References:
        Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate
        curvature, 2015; Grosse and Martens, A Kronecker-factored approximate Fisher matrix for
        convolution layers, 2016; George, Laurent, Bouthillier, Ballas and Vincent, Fast approximate
        natural gradient descent in a Kronecker-factored eigenbasis, 2018.
    """

    def __init__(
        self,
        closure: AbstractClosure,
        fisher: str = "monte-carlo",
        samples: int = 1,
        corrected: bool = False,
        seed: int = 0,
        params: Sequence[str] | str | None = None,
        how: How | None = None,
    ) -> None:
        one_of("exact", "monte-carlo", "empirical").check("KroneckerFactors", "fisher", fisher)
        if not samples >= 1:
            raise bad_argument("KroneckerFactors", "samples", samples, "an integer >= 1")
        still = closure.still(borrow=how is not None and how.borrow)
        every = list(range(len(still.names)))
        kept = every if params is None else selected(still.names, params, "KroneckerFactors")
        leaves = [still.params[i] for i in every]
        domain = Vector([leaves[i].detach() for i in kept])
        n = domain.numel()
        super().__init__(
            (n, n),
            leaves[0].dtype,
            leaves[0].device,
            domain=domain,
            names=[still.names[i] for i in kept],
        )
        self._kept = kept
        self.factors: dict[Key, Factors] = {}
        refused: set[int] = set()
        passes = [False, True] if corrected else [False]
        for correcting in passes:
            total = 0.0
            for index, batch in enumerate(still.batches):
                seeded = seed + 7919 * index
                slopes = fisher_slopes(batch, fisher, samples, seeded, "KroneckerFactors")
                records, missed, weight = layer_records(batch, leaves, slopes)
                refused |= missed
                total += weight
                for record in records:
                    absorb_rows(self.factors, record, weight, correcting)
            scale = 1.0 if still.summed else 1.0 / total
            for factors in self.factors.values():
                factors.finish(scale, correcting)
        places = {place: i for i, place in enumerate(kept)}
        self.factors = {
            key: factors
            for key, factors in self.factors.items()
            if all(i in places and i not in refused for i in key[:2] if i is not None)
        }
        covered = {place for key in self.factors for place in key[:2]}
        self.uncovered = [still.names[i] for i in kept if i not in covered]

    def inverse(self, damping: float, factored: bool = True) -> Expression:
        r""":math:`(F + \delta I)^{-1}`, block by block.

        Args:
            damping: :math:`\delta` > 0; parameters without a block are divided by it.
            factored: Damp the two factors, :math:`(A + \pi\sqrt\delta I)^{-1} \otimes
                (G + \sqrt\delta/\pi\, I)^{-1}` with :math:`\pi^2` the ratio of their mean
                eigenvalues, as K-FAC does; otherwise exactly, in the eigenbasis.

        Returns:
            The operator.

        Raises:
            ValueError: If the damping is not positive.
        """
        if not damping > 0:
            raise bad_argument("KroneckerFactors.inverse", "damping", damping, "a number > 0")

        def apply(columns: Tensor) -> Tensor:
            return self._blockwise(
                columns, lambda f, parts: solve(f, parts, damping, factored), 1.0 / damping
            )

        return Expression(
            self.shape,
            apply,
            None,
            self.dtype,
            self.device,
            symmetric=True,
            domain=self.domain,
            names=self.names,
        )

    def _apply(self, columns: Tensor) -> Tensor:
        return self._blockwise(columns, product, 0.0)

    def _apply_adjoint(self, columns: Tensor) -> Tensor:
        return self._apply(columns)

    def _blockwise(self, columns: Tensor, within: object, rest: float) -> Tensor:
        assert self.domain is not None
        assert callable(within)
        places = {place: i for i, place in enumerate(self._kept)}
        made = []
        for column in columns.T.contiguous():
            parts = self.domain.like(column).tensors
            out = [part * rest for part in parts]
            for (weight, bias, first, rows), factors in self.factors.items():
                w = parts[places[weight]]
                taken = slice(first, first + rows) if rows else slice(None)
                b = None if bias is None else parts[places[bias]][taken]
                new_w, new_b = within(factors, (w[taken], b))
                out[places[weight]][taken] = new_w
                if bias is not None:
                    out[places[bias]][taken] = new_b
            made.append(torch.cat([part.reshape(-1) for part in out]))
        return torch.stack(made, 1)
