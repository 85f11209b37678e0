r"""Random vectors that look at a matrix from all sides: :math:`\mathbb E[\omega\omega^\top] = I`.

They are drawn on the CPU, so that one seed gives the same probes on every device and in every
process of a group.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from thalweg.errors import one_of


__all__ = ["DISTRIBUTIONS", "Probes"]

DISTRIBUTIONS = ("rademacher", "gaussian", "sphere")


@final
class Probes:
    r"""A stream of probes :math:`\omega \in \mathbb R^n`, a column each.

    ``"rademacher"`` has entries of +1 and -1: exact on diagonal matrices. ``"gaussian"`` has normal
    entries. ``"sphere"`` is uniform on the sphere of radius :math:`\sqrt n`, exact on multiples of
    the identity. The last two look the same from every direction, which Rademacher probes do not.

    Args:
        n: The number of entries.
        distribution: One of the three names.
        seed: An integer, or a generator of the CPU's that is drawn from.
        dtype: Of the entries.
        device: Where the probes go.

    Raises:
        ValueError: If the distribution is unknown.

    Example:
        >>> probes = Probes(4, "sphere", seed=0)
        >>> probes.draw(3).shape, probes.draw(1).square().sum()
        (torch.Size([4, 3]), tensor(4.0000))
    """

    def __init__(
        self,
        n: int,
        distribution: str = "rademacher",
        seed: int | torch.Generator = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        one_of(*DISTRIBUTIONS).check("Probes", "distribution", distribution)
        self.n = n
        self.distribution = distribution
        self.dtype = dtype
        self.device = torch.device(device)
        if isinstance(seed, torch.Generator):
            self._generator = seed
        else:
            self._generator = torch.Generator().manual_seed(seed)

    @property
    def isotropic(self) -> bool:
        """Whether every direction is as likely as any other."""
        return self.distribution != "rademacher"

    def draw(self, count: int) -> Tensor:
        """The next probes, the columns of an n x count matrix (each contiguous in memory)."""
        rows = torch.empty(count, self.n, dtype=self.dtype)
        if self.distribution == "rademacher":
            rows.bernoulli_(0.5, generator=self._generator).mul_(2).sub_(1)
        else:
            rows.normal_(generator=self._generator)
        if self.distribution == "sphere":
            length = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
            rows.mul_((math.sqrt(self.n) / length).to(self.dtype))
        return rows.to(self.device).T
