"""What an inspection found, as plain data: the record that pages are made from."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, final

from thalweg.curvature.findings import Advice, Layer, Point, Share, Stability
from thalweg.curvature.measured import Quantity, figures


__all__ = ["Inspection"]


@final
@dataclass(frozen=True)
class Inspection:
    """The curvature at a point, and what follows from it.

    Args:
        parameters: The number n of parameters.
        samples: How many samples the loss was over.
        batch_size: Of training, for the noise; None where it is not known.
        loss: The loss.
        gradient_norm: The norm of its gradient.
        parameter_norm: The norm of the parameters.
        largest: λ_max, the largest eigenvalue of the Hessian.
        smallest: λ_min, the smallest.
        point: What kind of point it is.
        trace: The sum of all eigenvalues.
        density: Nodes and weights of the spectral density, a row a probe.
        layers: A row a layer.
        top: Where the top eigenvector lies, by parameter, largest first.
        bottom: The same of the eigenvector of λ_min.
        descent_limit: The largest stable rate of plain gradient descent, 2/λ_max.
        optimal_rate: Its best constant rate, 2/(λ_min + λ_max), where λ_min > 0.
        stability: The optimizer in use against its limit; None where none was given.
        condition: λ_max over the smallest eigenvalue above the tolerance.
        noise: The gradient noise scale, in samples.
        missing: What could not be measured, and why.
        notes: What a reader should know.
        products: Products with the Hessian of all samples, in all.
        seconds: How long it took.
        advice: What follows, in words.

    Example:
        >>> from thalweg.objective import Objective
        >>> import torch
        >>> x = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> from thalweg.curvature.examination import inspect
        >>> inspect(Objective.of(lambda x: x[0] ** 2 + 5 * x[1] ** 2), x).largest.value
        10.0
    """

    parameters: int
    samples: int
    batch_size: int | None
    loss: float
    gradient_norm: float
    parameter_norm: float
    largest: Quantity
    smallest: Quantity
    point: Point
    trace: Quantity
    density: dict[str, list[list[float]]]
    layers: tuple[Layer, ...]
    top: tuple[Share, ...]
    bottom: tuple[Share, ...]
    descent_limit: Quantity | None = None
    optimal_rate: Quantity | None = None
    stability: Stability | None = None
    condition: Quantity | None = None
    noise: Quantity | None = None
    missing: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    products: int = 0
    seconds: float = 0.0
    advice: tuple[Advice, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The inspection as plain data that JSON takes."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @staticmethod
    def from_dict(record: dict[str, Any]) -> Inspection:
        """The inspection of :meth:`to_dict`."""
        content = dict(record)
        for name in ("largest", "smallest", "trace", "descent_limit", "optimal_rate"):
            content[name] = Quantity.from_dict(content[name])
        for name in ("condition", "noise"):
            content[name] = Quantity.from_dict(content[name])
        here: dict[str, Any] = _with_quantities(content["point"], ("index", "inside"))
        here |= {k: math.inf for k in ("distance", "reach", "gain") if here[k] is None}
        content["point"] = Point(**here)
        content["layers"] = tuple(
            Layer(**_with_quantities(row, ("sharpness",))) for row in content["layers"]
        )
        for name, kind in (("top", Share), ("bottom", Share), ("advice", Advice)):
            content[name] = tuple(kind(**row) for row in content[name])
        if content["stability"] is not None:
            row = _with_quantities(content["stability"], ("sharpness", "limit", "ratio"))
            row["shares"] = tuple(Share(**share) for share in row["shares"])
            content["stability"] = Stability(**row)
        content["notes"] = tuple(content["notes"])
        return Inspection(**content)

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _with_quantities(row: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {k: Quantity.from_dict(v) if k in names else v for k, v in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Quantity):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return Quantity(value).to_dict()["value"] if isinstance(value, float) else value


_QUESTIONS = {
    "rate": "Is the learning rate too high?",
    "point": "Is this a minimum?",
    "help": "What would help?",
}


def _lines(found: Inspection) -> list[str]:
    """The page as text."""
    lines = []
    for question, title in _QUESTIONS.items():
        lines.append(title)
        for advice in found.advice:
            if advice.question == question:
                lines += [f"  {advice.text}", f"    ({advice.evidence})"]
    rows = [
        ("loss", figures(found.loss, 5)),
        ("gradient norm", figures(found.gradient_norm, 4)),
        ("λ_max", _costed(found.largest)),
        ("λ_min", _costed(found.smallest)),
        ("kind of point", found.point.kind),
        ("negative eigenvalues", _costed(found.point.index)),
        ("trace", _costed(found.trace)),
        ("condition number", _costed(found.condition)),
        ("stable rate, plain descent", _costed(found.descent_limit)),
        ("optimal rate, plain descent", _costed(found.optimal_rate)),
        ("gradient noise scale", _costed(found.noise)),
    ]
    lines.append("")
    for name, text in rows:
        why = found.missing.get(name, "")
        lines.append(f"{name:28} {why or text}")
    lines.append("")
    lines += [
        f"{row.name:28} sharpness {row.sharpness}, {100 * row.share:.0f}% of the top direction"
        for row in found.layers
    ]
    lines += [f"Note: {note}" for note in found.notes]
    return lines


def _costed(quantity: Quantity | None) -> str:
    if quantity is None:
        return "–"
    return f"{quantity} ({quantity.products} products)" if quantity.products else str(quantity)
