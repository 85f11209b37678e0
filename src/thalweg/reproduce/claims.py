"""What an experiment is: published claims, what is expected, and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, final

from matplotlib.figure import Figure


__all__ = ["Claim", "Experiment", "Outcome"]


@final
@dataclass(frozen=True)
class Claim:
    """A statement with a number, and the number measured here.

    Args:
        claim: The statement in words.
        source: Where it is from: a publication, or the theorem it follows from.
        expected: The published or derived value.
        measured: The value found by running it.
        holds: Whether they agree.

    Example:
        >>> Claim("2 + 2 = 4", "arithmetic", 4, 2 + 2, True).holds
        True
    """

    claim: str
    source: str
    expected: Any
    measured: Any
    holds: bool

    def as_dict(self) -> dict[str, Any]:
        """The claim as plain data."""
        return asdict(self)


@final
@dataclass(frozen=True)
class Outcome:
    """What an experiment found.

    Args:
        claims: The claims, in the order in which they are told.
        figures: Figures by file name, without ending.
        settings: Everything that was fixed, as plain data.

    Example:
        >>> Outcome((Claim("2 + 2 = 4", "arithmetic", 4, 2 + 2, True),)).holds
        True
    """

    claims: tuple[Claim, ...]
    figures: Mapping[str, Figure] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether every claim does."""
        return all(claim.holds for claim in self.claims)


@final
@dataclass(frozen=True)
class Experiment:
    """A published claim as something that runs.

    Args:
        name: The name on the command line.
        title: One line.
        summary: A paragraph: what is done, and why it tells.
        run: Runs it, with the same result each time.

    Example:
        >>> Experiment("empty", "Nothing", "Claims nothing.", lambda: Outcome(())).run().claims
        ()
    """

    name: str
    title: str
    summary: str
    run: Callable[[], Outcome]
