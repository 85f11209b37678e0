"""A player for a page: paths that move over a surface, with a slider, and no network."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from thalweg.landscape import PlanePath, Surface
from thalweg.report import canvas, svg
from thalweg.report.landscapes import words
from thalweg.report.landscapes.clock import Clock
from thalweg.report.landscapes.stage import Stage, stage
from thalweg.report.landscapes.templates import POLICY, embedded, environment, script
from thalweg.report.style import series, styled
from thalweg.report.tracks import draw_track, track_width
from thalweg.study.statistics import number


__all__ = ["player", "player_page"]


def player_page(
    surface: Surface,
    *,
    seconds: float = 6.0,
    pace: str = "linear",
    ceiling: float | None = None,
    title: str | None = None,
) -> str:
    """A page that holds the player alone, as text; arguments as :func:`animate` takes them."""
    fragment = player(surface, seconds=seconds, pace=pace, ceiling=ceiling, title=title)
    return (
        environment()
        .get_template("player_page.html.j2")
        .render(
            title=words.title(surface) if title is None else title,
            policy=POLICY,
            player=fragment,
            note="All on one clock: at each moment, every optimizer has taken as many steps.",
            light=svg.variables(),
            dark=svg.variables(dark=True),
        )
    )


@styled
def player(
    surface: Surface,
    *,
    name: str = "player",
    seconds: float = 6.0,
    pace: str = "linear",
    ceiling: float | None = None,
    title: str | None = None,
    autoplay: bool = True,
) -> str:
    """The player as a part of a page that has the variables of the theme.

    Without scripts, and in print, it is the whole picture. It starts paused where motion is not
    wanted.

    Args:
        surface: a surface with paths.
        name: its identifier, different for each player of a page.
        seconds: how long it moves.
        pace: "linear" or "log".
        ceiling: where the class ">" begins.
        title: default: the metric's name.
        autoplay: whether it starts by itself.

    Raises:
        ValueError: if the surface has no path that moves, or there is no such pace.
    """
    clock = Clock.of(surface, pace)
    scene = stage(surface, ceiling=ceiling, title=title, dpi=72)
    _draw_whole(surface, scene)
    drawing = svg.inline(canvas.render(scene.figure, "svg"), name, "Paths on the loss surface")
    paths = [_plain(path, scene) for path in surface.paths]
    content = {
        "steps": clock.steps,
        "pace": pace,
        "seconds": seconds,
        "autoplay": autoplay,
        "paths": paths,
    }
    return (
        environment()
        .get_template("player.html.j2")
        .render(
            name=name,
            drawing=drawing,
            steps=number(clock.steps),
            paths=[
                {**path, "last": number(walk.loss[-1])}
                for path, walk in zip(paths, surface.paths, strict=True)
            ],
            data=embedded(content),
            script=script("player.js").replace("PLAYER_ID", name),
        )
    )


def _draw_whole(surface: Surface, scene: Stage) -> None:
    """The whole paths, which the script hides when it takes over."""
    box = np.array([surface.x[[0, -1]], surface.y[[0, -1]]])
    above = scene.above
    for k, path in enumerate(surface.paths):
        before = len(above.lines)
        draw_track(above, path.name, path.xy, box, track_width(k, len(surface.paths)))
        for j, artist in enumerate(above.lines[before:]):
            artist.set_gid(f"whole-{k}-{j}")
        scene.below.plot(
            path.steps, path.loss, color=series(path.name).colour, linewidth=1.0, alpha=0.35
        )


def _plain(path: PlanePath, scene: Stage) -> dict[str, Any]:
    look = series(path.name)
    return {
        "name": path.name,
        "tone": look.tone,
        "dash": "none" if look.dash == "-" else " ".join(str(3 * d) for d in look.dash[1]),
        "steps": [int(step) for step in path.steps],
        "loss": [float(f"{value:.6g}") for value in path.loss],
        "xy": _placed(scene, scene.above, path.xy),
        "curve": _placed(scene, scene.below, np.column_stack([path.steps, path.loss])),
    }


def _placed(scene: Stage, ax: Axes, points: np.ndarray) -> list[list[float] | None]:
    """Points as shares of the drawing; None for what has no place in it."""
    placed = scene.inside(ax, points)
    return [
        [round(float(x), 5), round(float(y), 5)] if np.isfinite([x, y]).all() else None
        for x, y in placed
    ]
