"""How long a run lasts, in one of three currencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from thalweg.errors import POSITIVE, bad_argument


__all__ = ["Budget"]

_KINDS = ("steps", "evaluations", "seconds")


@final
@dataclass(frozen=True)
class Budget:
    """The length of a run.

    Args:
        kind: ``"steps"``, ``"evaluations"`` (gradient-equivalents, as the ledger counts them) or
            ``"seconds"`` (of training; results then depend on the machine).
        amount: How many.

    Raises:
        ValueError: If the kind is unknown or the amount not positive.

    Example:
        >>> Budget("steps", 400).spent(step=100, evaluations=100.0, seconds=0.3)
        0.25
    """

    kind: str
    amount: float

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise bad_argument("Budget", "kind", self.kind, f"one of {', '.join(_KINDS)}")
        POSITIVE.check("Budget", "amount", self.amount)
        if self.kind == "steps" and self.amount != int(self.amount):
            raise bad_argument("Budget", "amount", self.amount, "a whole number of steps")

    def spent(self, *, step: int, evaluations: float, seconds: float) -> float:
        """The share that is used up; the run ends at 1."""
        used = {"steps": float(step), "evaluations": evaluations, "seconds": seconds}
        return used[self.kind] / self.amount

    def __str__(self) -> str:
        unit = "gradient evaluations" if self.kind == "evaluations" else self.kind
        return f"{self.amount:g} {unit}"
