"""How a surface is said in figures and pages: its title, how it was measured, its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from thalweg.landscape import Line, Surface
from thalweg.study.statistics import number


__all__ = ["escaped", "line", "metric_name", "tick_labels", "title"]


def metric_name(surface: Surface | Line, metric: str | None = None) -> str:
    """A metric's name for an axis; default: that of the first.

    Example:
        >>> one = Line([0.0], {"test_loss": [1.0]})
        >>> metric_name(one)
        'test loss'
    """
    return (metric or next(iter(surface.metrics))).replace("_", " ")


def escaped(text: str) -> str:
    """A name that may stand in a text which Plotly reads as HTML, with its own markers kept out.

    Example:
        >>> escaped("<b>sgd</b> %{x}")
        '&lt;b&gt;sgd&lt;/b&gt; %&#123;x}'
    """
    return escape(text, quote=False).replace("{", "&#123;")


def title(surface: Surface, metric: str | None = None) -> str:
    """The title of a figure that has none of its own."""
    name = metric_name(surface, metric)
    return f"{name[:1].upper()}{name[1:]} landscape"


def line(surface: Surface) -> str:
    """How the surface was measured, in one muted line."""
    meta = surface.meta
    parts = [f"{len(surface.x)} × {len(surface.y)} points"]
    if meta.get("samples"):
        parts.append(f"{meta['samples']:,} samples")
    if meta.get("directions"):
        parts.insert(0, str(meta["directions"]))
    return "; ".join(parts)


def tick_labels(values: Sequence[float] | np.ndarray) -> list[str]:
    """Numbers with as many digits as tell neighbours apart, three at least.

    Example:
        >>> tick_labels([0.01234, 0.0123401, 5.0])
        ['0.01234', '0.0123401', '5']
    """
    shown: list[str] = []
    for k, value in enumerate(values):
        digits = 3
        near = [values[j] for j in (k - 1, k + 1) if 0 <= j < len(values)]
        while digits < 9 and any(
            number(other, digits) == number(value, digits) for other in near if other != value
        ):
            digits += 1
        shown.append(number(float(value), digits))
    return shown
