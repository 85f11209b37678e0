"""What an experiment is: published claims, what is expected, and what is measured."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any, final

import numpy as np
from matplotlib.figure import Figure

from thalweg.study.statistics import Interval


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
        interval: The 95% interval of the measured value, where it comes from repetitions.
        n: The number of repetitions (seeds).
        because: Of a claim that is known not to hold: why. The verdict on record is then that it
            does not, and otherwise that it does.

    Example:
        >>> Claim("2 + 2 = 4", "arithmetic", 4, 2 + 2, True).holds
        True
        >>> Claim("2 + 2 = 5", "made up", 5, 2 + 2, False, because="It is 4.").as_recorded
        True
    """

    claim: str
    source: str
    expected: Any
    measured: Any
    holds: bool
    interval: tuple[float, float] | None = None
    n: int | None = None
    because: str = ""

    @property
    def as_recorded(self) -> bool:
        """Whether the verdict is the one on record."""
        return bool(self.holds) != bool(self.because)

    @classmethod
    def of_sample(
        cls,
        claim: str,
        source: str,
        expected: float,
        values: Iterable[float],
        tolerance: float = 0.0,
    ) -> Claim:
        """A claim about a mean over seeds: it holds where the interval comes near enough.

        Args:
            claim: The statement in words.
            source: Where it is from.
            expected: The published or derived value.
            values: The value of each seed, two at least.
            tolerance: How far the 95% interval may end from the expected value, relative to it:
                for what holds in a limit only.

        Example:
            >>> Claim.of_sample("mean", "made up", 1.0, [0.9, 1.1, 1.0]).holds
            True
        """
        found = Interval.of(values)
        half = found.half_width or 0.0
        off = abs(found.mean - expected)
        interval = (found.mean - half, found.mean + half)
        holds = off <= half + tolerance * abs(expected)
        return cls(claim, source, expected, found.mean, holds, interval, found.n)

    def as_dict(self) -> dict[str, Any]:
        """The claim as plain data."""
        content = {**asdict(self), "as_recorded": self.as_recorded}  # numpy's scalars: not JSON's
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in content.items()}


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

    @property
    def as_recorded(self) -> bool:
        """Whether every claim has the verdict on record: it holds, or is known not to."""
        return all(claim.as_recorded for claim in self.claims)


@final
@dataclass(frozen=True)
class Experiment:
    """A published claim as something that runs.

    Args:
        name: The name on the command line.
        title: One line.
        summary: A paragraph: what is done, and why it tells.
        run: Runs it, with the same result each time.
        seconds: About how long a run takes on one core; the cheapest run first.

    Example:
        >>> Experiment("empty", "Nothing", "Claims nothing.", lambda: Outcome(())).run().claims
        ()
    """

    name: str
    title: str
    summary: str
    run: Callable[[], Outcome]
    seconds: float = 10.0

    @property
    def fingerprint(self) -> str:
        """A digest of the sources that ``run`` uses in this room: its settings and its measuring.

        A record with another fingerprint is of another experiment, whatever its name.
        """
        return _digest(self.run.__module__)


@functools.cache  # of the sources as they were loaded, not as they are edited later
def _digest(name: str) -> str:
    sources = _sources(sys.modules[name], {})
    return hashlib.sha256("".join(sources[key] for key in sorted(sources)).encode()).hexdigest()


def _sources(module: ModuleType, found: dict[str, str]) -> dict[str, str]:
    """The source of a module and of those beside it that it takes something from, by name."""
    try:
        found[module.__name__] = inspect.getsource(module)
    except (OSError, TypeError):  # typed in, not in a file
        found[module.__name__] = module.__name__
    for value in vars(module).values():
        name = getattr(value, "__name__" if inspect.ismodule(value) else "__module__", None)
        if isinstance(name, str) and name.startswith(f"{__package__}.") and name not in found:
            _sources(sys.modules[name], found)
    return found
