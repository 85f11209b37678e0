"""How a surface is said in figures and pages: its title, how it was measured, its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from thalweg.landscape import Line, Surface
from thalweg.study.statistics import number


__all__ = ["directions", "escaped", "line", "metric_name", "tick_labels", "title", "variance"]


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
    parts = [directions(surface), f"{len(surface.x)} × {len(surface.y)} points"]
    if (meta.get("samples") or 0) > 1:
        parts.append(f"{meta['samples']:,} samples")
    return "; ".join(part for part in parts if part)


def directions(surface: Surface) -> str:
    """What the axes are, in short; nothing where the surface does not say.

    Example:
        >>> flat = np.zeros((1, 1))
        >>> meta = {"kind": "random", "normalisation": "filter", "seed": 3}
        >>> directions(Surface([0], [0], {"loss": flat}, flat == 0, meta=meta))
        'random directions, filter-normalised, seed 3'
    """
    meta = surface.meta
    kind = meta.get("kind")
    if kind == "random":
        how = meta.get("normalisation", "none")
        scaled = "not normalised" if how == "none" else f"{how}-normalised"
        seed = f", seed {meta['seed']}" if "seed" in meta else ""
        return f"random directions, {scaled}{seed}"
    if kind == "pca":
        return f"principal plane of what was walked{variance(surface)}"
    if kind == "hessian":
        return f"eigenvectors of the Hessian ({meta.get('which', 'largest')})"
    if kind == "through":
        return f"plane through {', '.join(map(str, meta.get('points', ())))}"
    return ""


def variance(surface: Surface) -> str:
    """What the plane holds of the path's variance, with that of a random walk beside it."""
    held = surface.meta.get("explained_variance")
    walk = surface.meta.get("random_walk_variance")
    if not held:
        return ""
    beside = f" (a random walk: {sum(walk[:2]):.0%})" if walk else ""
    return f", {sum(held[:2]):.0%} of its variance{beside}"


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
