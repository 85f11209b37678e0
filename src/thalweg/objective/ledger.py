"""What an optimization has cost, in units that machines agree on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import final


__all__ = ["Ledger"]


@final
@dataclass
class Ledger:
    r"""Counts of evaluations, kept by an objective for all of its closures.

    One *gradient-equivalent* is one forward and one backward pass over one batch. A backward pass
    costs about two forward passes and a curvature product about two gradients, so

    .. math:: G = \tfrac13 F + \tfrac23 B + 2 P .

    Args:
        forward: Forward passes F, one for each batch evaluated.
        backward: Backward passes B.
        product: Products P with a curvature matrix.
        seconds: Time spent inside evaluations, as the host's clock sees it.

    Example:
        >>> Ledger(forward=3, backward=3, product=1).gradients
        5.0
    """

    forward: int = 0
    backward: int = 0
    product: int = 0
    seconds: float = 0.0

    @property
    def gradients(self) -> float:
        """The cost G in gradient-equivalents."""
        return (self.forward + 2 * self.backward) / 3 + 2.0 * self.product

    @contextmanager
    def charge(self, *, forward: int = 0, backward: int = 0, product: int = 0) -> Iterator[None]:
        """Count what runs inside, and the time it takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started
            self.forward += forward
            self.backward += backward
            self.product += product

    def as_dict(self) -> dict[str, float]:
        """The counts as plain data."""
        return asdict(self)
