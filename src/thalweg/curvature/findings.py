"""The parts of an inspection, as plain data: layers, kind of point, stability, advice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from thalweg.curvature.measured import Quantity


__all__ = ["Advice", "Layer", "Point", "Share", "Stability"]


@final
@dataclass(frozen=True)
class Share:
    """The share of a direction's squared length that lies in one parameter.

    Example:
        >>> Share("fc2.weight", 0.84).share
        0.84
    """

    name: str
    share: float


@final
@dataclass(frozen=True)
class Layer:
    """A row of the table of layers.

    Args:
        name: The layer.
        parameters: How many it has.
        sharpness: The largest eigenvalue of the layer's own block of the Hessian.
        gradient_norm: Of its part of the gradient.
        share: Of the top eigenvector of the whole Hessian, what lies in the layer.

    Example:
        >>> Layer("fc1", 10, Quantity(2.0), 0.1, 0.5).name
        'fc1'
    """

    name: str
    parameters: int
    sharpness: Quantity
    gradient_norm: float
    share: float


@final
@dataclass(frozen=True)
class Point:
    """What kind of point this is, and by which tolerances.

    Args:
        kind: ``"minimum"``, ``"maximum"``, ``"saddle"``, ``"plateau"`` or
            ``"not a critical point"``.
        index: The number of eigenvalues below ``-tolerance``.
        tolerance: Eigenvalues this near to zero count as zero.
        inside: The share of all eigenvalues that do.
        distance: The length of the saddle-free Newton step, with curvature nearer to zero than the
            tolerance counted as the tolerance.
        reach: That length over the length of the parameters.
        gain: By how much that step lowers the quadratic model's loss.
        taken: By how much it lowers the loss itself.
        critical: ``reach`` (or ``gain`` over the loss) at or below which the point is critical.
        products: What distance and gain took.

    Example:
        >>> Point("saddle", Quantity(3), 0.01, Quantity(0.9), 0.0, 0.0, 0.0, 0.0, 1e-3, 20).kind
        'saddle'
    """

    kind: str
    index: Quantity
    tolerance: float
    inside: Quantity
    distance: float
    reach: float
    gain: float
    taken: float
    critical: float
    products: int


@final
@dataclass(frozen=True)
class Stability:
    """The learning rate in use against the largest stable one.

    Args:
        optimizer: The optimizer's class.
        lr: Its learning rate (of the first group).
        formula: Its limit in signs, for the sharpness λ.
        factor: The limit of learning rate times sharpness; None where none is known.
        preconditioned: Whether λ is of the Hessian divided by the optimizer's own scale.
        sharpness: That λ.
        limit: The largest stable learning rate.
        ratio: The learning rate over the limit.
        multiple: By what λ_max of the Hessian itself is multiplied to give the ratio; None where
            the optimizer scales directions apart.
        beyond: About how many directions are past the limit; None where it was not counted.
        shares: Where the steepest of them lies, largest first.
        note: What else to know, or why there is no limit.

    Example:
        >>> Stability("SGD", 0.1, "2 / λ", 2.0, False).ratio is None
        True
    """

    optimizer: str
    lr: float
    formula: str
    factor: float | None
    preconditioned: bool
    sharpness: Quantity | None = None
    limit: Quantity | None = None
    ratio: Quantity | None = None
    multiple: float | None = None
    beyond: float | None = None
    shares: tuple[Share, ...] = ()
    note: str = ""


@final
@dataclass(frozen=True)
class Advice:
    """One sentence of advice and what it rests on.

    Args:
        question: ``"rate"`` (is the learning rate too high?), ``"point"`` (is this a minimum?) or
            ``"help"`` (what would help?).
        text: The advice.
        evidence: The numbers behind it.
        rule: The name of the rule that gave it.

    Example:
        >>> Advice("rate", "Lower it.", "λ_max = 20", "rate").question
        'rate'
    """

    question: str
    text: str
    evidence: str
    rule: str
