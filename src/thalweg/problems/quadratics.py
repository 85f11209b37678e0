r"""Symmetric positive definite quadratics :math:`\tfrac12 x^T A x - b^T x`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import final

import torch
from torch import Tensor

from thalweg.problems import matrices


__all__ = ["QuadraticProblem", "quadratics"]


@final
@dataclass(frozen=True)
class QuadraticProblem:
    r"""The minimum of :math:`q(x) = \tfrac12 x^T A x - b^T x` solves :math:`A x = b`.

    ``b`` is :math:`A` times a vector of ones, rounded; methods start from zero.

    Args:
        name: What tables call it.
        make: Gives the symmetric positive definite matrix in float64.

    Example:
        >>> problem = QuadraticProblem("two", lambda: torch.diag(torch.tensor([1.0, 4.0]).double()))
        >>> problem(torch.ones(2, dtype=torch.float64)).item(), problem.condition
        (-2.5, 4.0)
        >>> problem.residual(problem.start())
        1.0
    """

    name: str
    make: Callable[[], Tensor]

    @cached_property
    def matrix(self) -> Tensor:
        """:math:`A`, of shape ``(n, n)``."""
        return self.make()

    @cached_property
    def right(self) -> Tensor:
        """:math:`b`, of shape ``(n,)``."""
        return self.matrix.sum(1)

    @property
    def n(self) -> int:
        """The number of variables."""
        return len(self.right)

    @cached_property
    def condition(self) -> float:
        """The condition number, the largest eigenvalue over the least."""
        values = torch.linalg.svdvals(self.matrix)
        return float(values[0] / values[-1])

    def start(self) -> Tensor:
        """Zeros: the relative residual there is one."""
        return torch.zeros_like(self.right)

    def __call__(self, x: Tensor) -> Tensor:
        """The quadratic's value; a 0-dim tensor."""
        return x.dot(0.5 * (self.matrix.to(x) @ x) - self.right.to(x))

    def residual(self, x: Tensor) -> float:
        r""":math:`\lVert A x - b \rVert / \lVert b \rVert`, in float64."""
        off = self.matrix @ x.detach().to(self.matrix) - self.right
        return float(off.norm() / self.right.norm())


@cache
def quadratics() -> tuple[QuadraticProblem, ...]:
    """Fourteen quadratics, of condition number 48 to 2e13.

    Example:
        >>> [problem.name for problem in quadratics()][:2]
        ['hilbert-5', 'hilbert-8']
    """
    makers: dict[str, Callable[[], Tensor]] = {
        "hilbert-5": partial(matrices.hilbert, 5),
        "hilbert-8": partial(matrices.hilbert, 8),
        "hilbert-10": partial(matrices.hilbert, 10),
        "pascal-6": partial(matrices.pascal, 6),
        "pascal-10": partial(matrices.pascal, 10),
        "moler-10": partial(matrices.moler, 10),
        "moler-20": partial(matrices.moler, 20),
        "laplacian-1d-50": partial(matrices.laplacian, 50),
        "laplacian-1d-200": partial(matrices.laplacian, 200),
        "laplacian-2d-100": partial(matrices.laplacian_2d, 10),
        "laplacian-2d-400": partial(matrices.laplacian_2d, 20),
        "lehmer-30": partial(matrices.lehmer, 30),
        "kac-murdock-szego-50": partial(matrices.kac_murdock_szego, 50),
        "geometric-100": partial(matrices.geometric, 100, 1e8),
    }
    return tuple(QuadraticProblem(name, make) for name, make in makers.items())
