"""A surface to turn and to read off, by Plotly, as a part of a page that needs no network.

Plotly's own script is put into the page as a whole (4.6 MB). It is optional: the extra ``view``.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from thalweg.landscape import PlanePath, Surface
from thalweg.report.heights import (
    Heights,
    bilinear,
    heights_in_space,
    heights_of,
    picture_loss,
    values_of,
)
from thalweg.report.landscapes import words
from thalweg.report.landscapes.sight import AZIMUTHS, Block
from thalweg.report.landscapes.templates import embedded, environment, script
from thalweg.report.style import RELIEF, TONES, series
from thalweg.study.statistics import number


__all__ = ["figures", "interactive", "plotly_module"]

_LIFT = 0.004  # of the height: a path on the surface is drawn on it
_ELEVATION, _FAR = 38.0, 1.46  # of the eye, in degrees and in diagonals of the box
_OVER = 1.06  # the colour of what is above the ceiling


def plotly_module() -> Any:
    """Plotly, or how to get it.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        import plotly.graph_objects as graph_objects
    except ImportError as error:
        raise ImportError(
            "interactive figures need plotly, which is not installed here: "
            'pip install "thalweg[view]"'
        ) from error
    return graph_objects


def interactive(
    surface: Surface, *, name: str = "interactive", ceiling: float | None = None
) -> str:
    """The part of a page: in space and from above, for each metric, with the paths.

    Args:
        surface: the surface.
        name: its identifier, different for each on a page.
        ceiling: where the class ">" begins, of the first metric.

    Raises:
        ImportError: if plotly is not installed.
    """
    drawn = figures(surface, ceiling=ceiling)
    from plotly.offline import get_plotlyjs

    metrics = list(surface.metrics)
    return (
        environment()
        .get_template("interactive.html.j2")
        .render(
            name=name,
            metrics=[(key, words.metric_name(surface, key)) for key in metrics],
            data=embedded(drawn),
            # The script is a part of a page here: nothing in it may end its element.
            plotly=get_plotlyjs().replace("</script", "<\\/script"),
            script=script("interactive.js").replace("PLOT_ID", name),
        )
    )


def figures(surface: Surface, *, ceiling: float | None = None) -> dict[str, dict[str, Any]]:
    """Plotly figures as plain data: by metric, in "space" and from "above".

    Raises:
        ImportError: if plotly is not installed.
    """
    go = plotly_module()
    found = {}
    for k, metric in enumerate(surface.metrics):
        if not np.isfinite(values_of(surface, metric)).any():
            continue
        top = ceiling if k == 0 else None
        pair = {
            "space": _space(go, surface, metric, heights_in_space(surface, metric, ceiling=top)),
            "above": _above(go, surface, metric, heights_of(surface, metric, ceiling=top)),
        }
        found[metric] = {view: json.loads(figure.to_json()) for view, figure in pair.items()}
    return found


def _space(go: Any, surface: Surface, metric: str, heights: Heights) -> Any:
    z = values_of(surface, metric)
    level = heights.norm(z)
    colour = np.where(z > heights.ceiling, _OVER, level)
    name = words.metric_name(surface, metric)
    ground = go.Surface(
        x=surface.x.astype(np.float32),
        y=surface.y.astype(np.float32),
        z=level.astype(np.float32),
        surfacecolor=colour.astype(np.float32),
        customdata=z.astype(np.float32),
        colorscale=_colours(),
        cmin=0,
        cmax=_OVER,
        showscale=False,
        hovertemplate="%{x:.3g}, %{y:.3g}<br>" + name + " %{customdata:.4g}<extra></extra>",
        lighting={"ambient": 0.65, "diffuse": 0.6, "specular": 0.08, "roughness": 0.9},
        contours={"z": {"show": False, "highlight": True, "highlightcolor": "#ffffff"}},
        name=name,
    )
    traces = [ground]
    for path in surface.paths:
        shown = picture_loss(surface, path, metric)
        traces += _walk(go.Scatter3d, surface, path, {"z": heights.norm(shown) + _LIFT}, width=6)
    shown_levels = heights.levels[::3]
    vertical = {
        "title": {"text": name},
        "tickvals": heights.norm(shown_levels).tolist(),
        "ticktext": words.tick_labels(shown_levels),
        "range": [0, 1.02],
    }
    spans = np.ptp(surface.x), np.ptp(surface.y)
    x, y = (max(float(span / max(spans)), 0.5) for span in spans)
    scene = {
        "xaxis": {"title": {"text": surface.labels[0], "font": {"size": 11}}},
        "yaxis": {"title": {"text": surface.labels[1], "font": {"size": 11}}},
        "zaxis": vertical,
        "aspectmode": "manual",
        "aspectratio": {"x": x, "y": y, "z": 0.6},
        "camera": {"eye": _eye(surface, heights, z, (x, y, 0.6)), "center": {"z": -0.18}},
    }
    return go.Figure(traces, {"scene": scene, "height": 620, **_common(heights)})


def _eye(
    surface: Surface, heights: Heights, z: np.ndarray, sides: tuple[float, float, float]
) -> dict[str, float]:
    """From where least of the paths is hidden, as in the still picture."""
    block = Block(surface.x, surface.y, heights.norm(z), sides)
    lines = [
        np.column_stack([path.xy, heights.norm(bilinear(surface.x, surface.y, z, path.xy))])
        for path in surface.paths
    ]
    around, up = math.radians(block.outlook(lines, _ELEVATION, AZIMUTHS)), math.radians(_ELEVATION)
    far = _FAR * math.hypot(*sides)
    return {
        "x": far * math.cos(up) * math.cos(around),
        "y": far * math.cos(up) * math.sin(around),
        "z": far * math.sin(up),
    }


def _above(go: Any, surface: Surface, metric: str, heights: Heights) -> Any:
    z = values_of(surface, metric)
    level = heights.norm(z)
    name = words.metric_name(surface, metric)
    ticks = heights.levels[::2]
    ground = go.Contour(
        x=surface.x.astype(np.float32),
        y=surface.y.astype(np.float32),
        z=np.where(z > heights.ceiling, _OVER, level).astype(np.float32),
        customdata=z.astype(np.float32),
        colorscale=_colours(),
        zmin=0,
        zmax=_OVER,
        contours={"start": 0, "end": 1, "size": 1 / 12},
        line={"width": 0.5, "color": "rgba(255,255,255,0.5)"},
        colorbar={
            "title": {"text": name},
            "tickvals": heights.norm(ticks).tolist(),
            "ticktext": words.tick_labels(ticks),
            "outlinewidth": 0,
            "thickness": 14,
        },
        hovertemplate="%{x:.3g}, %{y:.3g}<br>" + name + " %{customdata:.4g}<extra></extra>",
        hoverongaps=False,
        name=name,
    )
    traces = [ground]
    for path in surface.paths:
        traces += _walk(go.Scatter, surface, path, {}, width=2.5)
    horizontal: dict[str, Any] = {"title": {"text": surface.labels[0]}}
    across: dict[str, Any] = {"title": {"text": surface.labels[1]}}
    if 0.5 <= np.ptp(surface.x) / np.ptp(surface.y) <= 2:
        across |= {"scaleanchor": "x", "constrain": "domain"}
        horizontal |= {"constrain": "domain"}
    layout: dict[str, Any] = {"xaxis": horizontal, "yaxis": across, "height": 620}
    layout |= _common(heights)
    for axis in ("xaxis", "yaxis"):
        values = surface.x if axis == "xaxis" else surface.y
        layout[axis] |= {"range": [float(values[0]), float(values[-1])], "zeroline": False}
    return go.Figure(traces, layout)


def _walk(
    trace: Any, surface: Surface, path: PlanePath, height: dict[str, Any], width: float
) -> list[Any]:
    """A path: its halo, its line, and its start and end."""
    colour = TONES[series(path.name).tone][0]
    shown = picture_loss(surface, path)
    table = np.column_stack([path.steps, path.loss, shown, path.residual])
    place = {"x": path.xy[:, 0], "y": path.xy[:, 1], **height}
    line = trace(
        **place,
        mode="lines",
        line={"color": colour, "width": width},
        customdata=table,
        hovertemplate=(
            f"{words.escaped(path.name)}, step %{{customdata[0]}}<br>"
            "true loss %{customdata[1]:.4g}<br>in the picture %{customdata[2]:.4g}<br>"
            "off the plane %{customdata[3]:.0%}"
            "<extra></extra>"
        ),
        name=words.escaped(path.name),
        legendgroup=path.name,
    )
    halo = trace(
        **place,
        mode="lines",
        line={"color": "rgba(255,255,255,0.85)", "width": width * 1.8},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=path.name,
    )
    ends = trace(
        **{key: np.asarray(values)[[0, -1]] for key, values in place.items()},
        mode="markers",
        marker={
            "size": width + 2 if width > 4 else 10,
            "color": ["#ffffff", colour],
            "line": {"color": [colour, "#ffffff"], "width": 2},
        },
        hoverinfo="skip",
        showlegend=False,
        legendgroup=path.name,
    )
    return [halo, line, ends]


def _colours() -> list[list[Any]]:
    scale: list[list[Any]] = [
        [k / (len(RELIEF) - 1) / _OVER, colour] for k, colour in enumerate(RELIEF)
    ]
    over = TONES["beyond"][0]
    return [*scale, [1.0001 / _OVER, over], [1.0, over]]


def _common(heights: Heights) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "margin": {"l": 60, "r": 20, "t": 60, "b": 50},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "showlegend": True,
    }
    layout["meta"] = {"note": f"Cut off above {number(heights.ceiling, 3)}." * heights.over}
    return layout
