"""What a measured surface says, in sentences: the first thing on its page."""

from __future__ import annotations

import numpy as np

from thalweg.landscape import PlanePath, Surface
from thalweg.report.heights import picture_loss, values_of
from thalweg.report.landscapes import words
from thalweg.report.landscapes.strips import IN_PLANE
from thalweg.study.statistics import number


__all__ = ["facts", "statements"]


def statements(surface: Surface) -> list[str]:
    """Sentences on the lowest point, on what the plane holds, and on how far paths are from it."""
    found = [_lowest(surface)]
    held = surface.meta.get("explained_variance")
    if held:
        walk = surface.meta.get("random_walk_variance")
        sentence = f"The plane holds {sum(held[:2]):.0%} of the variance of what was walked"
        if walk:
            sentence += (
                f"; of a random walk with as many points it would hold {sum(walk[:2]):.0%}, so "
                "that this number alone says little"
            )
        found.append(f"{sentence}.")
    found += [text for path in surface.paths if (text := _distance(surface, path))]
    broken = int((~np.isfinite(surface.loss) & surface.computed).sum())
    missing = int((~surface.computed).sum())
    if broken:
        found.append(
            f"At {broken:,} of {surface.loss.size:,} points the loss is not finite; "
            "they are hatched."
        )
    if missing:
        found.append(f"{missing:,} points were not computed.")
    return found


def _lowest(surface: Surface) -> str:
    z = values_of(surface)
    i, j = np.unravel_index(int(np.nanargmin(z)), z.shape)
    low = number(float(z[i, j]), 4)
    where = f"({number(float(surface.x[j]), 3)}, {number(float(surface.y[i]), 3)})"
    name = words.metric_name(surface)
    centre = (surface.meta.get("centre") or {}).get(next(iter(surface.metrics)))
    if centre is None:
        return f"The lowest {name} on the grid is {low}, at {where}."
    if z[i, j] >= centre - 1e-9 * max(1.0, abs(centre)):
        value = number(centre, 4)
        return f"No point of the grid is lower than its centre, where the {name} is {value}."
    return (
        f"The {name} at the centre is {number(centre, 4)}; the lowest on the grid is {low}, "
        f"at {where}."
    )


def _distance(surface: Surface, path: PlanePath) -> str:
    """How far a path is from the plane at most, and how wrong the picture's loss is there."""
    off = np.asarray(path.residual, float)
    if not np.isfinite(off).any() or np.nanmax(off) < IN_PLANE:
        return ""
    far = int(np.nanargmax(off))
    sentence = (
        f"Of {path.name}'s distance from the centre, {off[0]:.0%} is off the plane at its start, "
        f"{np.nanmedian(off):.0%} in the median, {off[far]:.0%} at most (step "
        f"{int(path.steps[far]):,})"
    )
    shown, true = picture_loss(surface, path), np.asarray(path.loss, float)
    both = np.isfinite(shown) & np.isfinite(true) & (shown > 0) & (true > 0)
    if both.any():
        factor = np.abs(np.log(shown[both] / true[both]))
        worst = np.flatnonzero(both)[int(np.argmax(factor))]
        sentence += (
            f"; the picture is most wrong at step {int(path.steps[worst]):,}, where it shows "
            f"{number(float(shown[worst]), 3)} and the loss is {number(float(true[worst]), 3)}"
        )
    return f"{sentence}."


def facts(surface: Surface) -> list[tuple[str, str]]:
    """How the surface was measured, as pairs of term and text."""
    meta = surface.meta
    pairs = [
        ("Directions", words.directions(surface)),
        ("Biases", {"zero": "not moved"}.get(meta.get("biases", ""), meta.get("biases", ""))),
        ("Axes", _axes(surface)),
        ("Grid", f"{len(surface.x)} × {len(surface.y)} points" + _range(surface)),
        ("Measured on", _samples(surface)),
        ("Mode", meta.get("mode", "")),
        ("BatchNorm", meta.get("batchnorm", "")),
    ]
    if meta.get("parameters"):
        model = f"{meta.get('model', 'model')}, {meta['parameters']:,} parameters"
        pairs.append(("Model", f"{model}, {meta.get('dtype', '')} on {meta.get('device', '')}"))
    return [(term, str(text)) for term, text in pairs if text]


def _axes(surface: Surface) -> str:
    cosine, norms = surface.meta.get("cosine"), surface.meta.get("direction_norms")
    if cosine is None or not norms:
        return ""
    lengths = " and ".join(number(float(length), 3) for length in norms)
    return f"lengths {lengths} in parameter space, cosine {number(float(cosine), 2)}"


def _range(surface: Surface) -> str:
    x, y = surface.x, surface.y
    ends = [f"{number(float(axis[0]), 3)} to {number(float(axis[-1]), 3)}" for axis in (x, y)]
    span = f" ({surface.meta['span']})" if surface.meta.get("span") else ""
    return f", {ends[0]} by {ends[1]}{span}"


def _samples(surface: Surface) -> str:
    samples = surface.meta.get("samples")
    return f"{samples:,} samples" if samples and samples > 1 else ""
