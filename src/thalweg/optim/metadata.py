"""What a method says about itself: the source of its catalogue row, tests, tables and tuning."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypedDict, final


__all__ = [
    "Common",
    "Cost",
    "CurvatureCommon",
    "MuonCommon",
    "Needs",
    "Range",
    "Reference",
    "SOAPCommon",
    "ShampooCommon",
    "Slot",
    "StructuredCommon",
]


@final
class Needs(Enum):
    """What a method has to be given; each includes the ones before it.

    Example:
        >>> Needs.LOSS.value
        'a closure'
    """

    GRADIENT = "gradients"
    LOSS = "a closure"
    CURVATURE = "a closure with curvature products"
    OUTPUTS = "a closure with outputs"
    LAYERS = "the model's layers"


@final
@dataclass(frozen=True)
class Reference:
    """Where a method was published.

    Example:
        >>> str(Reference("Robbins, Monro", "A stochastic approximation method", 1951))
        'Robbins, Monro: A stochastic approximation method (1951)'
    """

    authors: str
    title: str
    year: int
    where: str = ""

    def __str__(self) -> str:
        tail = f", {self.where}" if self.where else ""
        return f"{self.authors}: {self.title} ({self.year}){tail}"


@final
@dataclass(frozen=True)
class Slot:
    """A tensor of state that a method keeps beside each parameter, of the parameter's shape.

    Args:
        name: Its key in ``optimizer.state[parameter]``; torch's name where torch has the method,
            so that torch's checkpoints load.
        when: The hyper-parameter that must be true or non-zero for the slot to exist.
        fill: The hyper-parameter that holds its initial value. None: zero.

    Example:
        >>> Slot("momentum_buffer", when="momentum").name
        'momentum_buffer'
    """

    name: str
    when: str | None = None
    fill: str | None = None


@final
@dataclass(frozen=True)
class Cost:
    """What one step takes: gradient evaluations and curvature products.

    Example:
        >>> Cost().gradients
        1.0
    """

    gradients: float = 1.0
    products: float = 0.0


@final
@dataclass(frozen=True)
class Range:
    """Where a hyper-parameter is searched, evenly in its value or in its logarithm.

    Args:
        low: The lower end; above 0 where ``log``.
        high: The upper end.
        log: Whether the logarithm is spread evenly.

    Example:
        >>> Range(1e-4, 1.0).at(0.5)
        0.01
    """

    low: float
    high: float
    log: bool = True

    def __post_init__(self) -> None:
        if not (self.low < self.high and (self.low > 0 or not self.log)):
            raise ValueError(
                f"Range(low={self.low}, high={self.high}, log={self.log}): low must be below high, "
                "and above 0 where log is True."
            )

    def at(self, u: float) -> float:
        """The value at the fraction ``u`` in [0, 1] of the way from low to high."""
        if self.log:
            return float(f"{self.low * (self.high / self.low) ** u:.6g}")
        return float(f"{self.low + (self.high - self.low) * u:.6g}")


class Common(TypedDict, total=False):
    """Options that every first-order method takes by keyword.

    ``l1`` adds l1 * sign(p) to the gradient; ``decoupled_weight_decay`` takes ``weight_decay`` off
    the parameters themselves (AdamW) instead of adding it to the gradient (L2); ``maximize``
    climbs; ``foreach`` updates all tensors at once (None: on accelerators only, as torch does).
    """

    l1: float
    decoupled_weight_decay: bool
    maximize: bool
    foreach: bool | None
    compile: bool


class CurvatureCommon(TypedDict, total=False):
    """The options of :class:`Common`, and how curvature is looked at.

    ``seed`` is that of the probes. ``differences`` takes each product with the Hessian as one
    difference of gradients instead of by differentiating twice: a look costs one more gradient, not
    two, and sees the curvature between here and a point half a per cent away.
    """

    l1: float
    decoupled_weight_decay: bool
    maximize: bool
    foreach: bool | None
    compile: bool
    seed: int
    differences: bool


class StructuredCommon(TypedDict, total=False):
    """The options of :class:`Common` that methods with matrices beside a parameter take."""

    l1: float
    decoupled_weight_decay: bool
    maximize: bool
    foreach: bool | None


class MuonCommon(TypedDict, total=False):
    """The options of :class:`StructuredCommon`, and those of Muon that are seldom changed."""

    l1: float
    decoupled_weight_decay: bool
    maximize: bool
    foreach: bool | None
    ns_coefficients: tuple[float, float, float]
    ns_dtype: str
    eps: float
    adamw_eps: float
    use_muon: bool | None


class ShampooCommon(TypedDict, total=False):
    """The options of :class:`StructuredCommon`, and those of Shampoo that are seldom changed."""

    l1: float
    decoupled_weight_decay: bool
    maximize: bool
    foreach: bool | None
    statistics: str
    statistics_interval: int
    floor: float
    start: int


class SOAPCommon(TypedDict, total=False):
    """The options of :class:`StructuredCommon`, and SOAP's that is seldom changed."""

    l1: float
    decoupled_weight_decay: bool
    maximize: bool
    foreach: bool | None
    statistics_interval: int
