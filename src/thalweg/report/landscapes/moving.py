"""Several optimizers moving together: as a GIF, an MP4 or a page of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from thalweg.errors import POSITIVE, bad_argument, integer_from
from thalweg.landscape import Surface
from thalweg.report.landscapes.clock import Clock, place_at
from thalweg.report.landscapes.player import player_page
from thalweg.report.landscapes.stage import Stage, stage
from thalweg.report.style import series, styled, tone


__all__ = ["animate"]

_KINDS = (".gif", ".mp4", ".html")
_COLOURS = 128  # of a GIF's palette
_HOLD = 1.5  # seconds on the last frame


@styled
def animate(
    surface: Surface,
    path: str | Path,
    *,
    seconds: float = 6.0,
    fps: int = 20,
    pace: str = "linear",
    ceiling: float | None = None,
    title: str | None = None,
) -> Path:
    """Write an animation of the paths of a surface, all on one clock.

    Under the surface their true losses grow with them. A GIF needs nothing but Pillow, which
    matplotlib brings; a page (.html) is a player with a slider that needs no network; an MP4 needs
    ``ffmpeg``.

    Args:
        surface: a surface with paths.
        path: the file; its suffix says the kind: .gif, .mp4 or .html.
        seconds: how long it moves.
        fps: frames a second.
        pace: "linear": each frame is as many steps on; "log": slower at first, where most of the
            way is made.
        ceiling: where the class ">" begins, as in :func:`plane`.
        title: default: the metric's name.

    Returns:
        The file.

    Raises:
        ValueError: if an argument is outside its range, or the surface has no path that moves.
        FileNotFoundError: if an MP4 is asked for and there is no ffmpeg.
    """
    target = Path(path)
    kind = target.suffix.lower()
    if kind not in _KINDS:
        raise bad_argument("animate", "path", str(path), f"a file ending in {', '.join(_KINDS)}")
    POSITIVE.check("animate", "seconds", seconds)
    integer_from(1).check("animate", "fps", fps)
    clock = Clock.of(surface, pace)
    if kind == ".html":
        page = player_page(surface, seconds=seconds, pace=pace, ceiling=ceiling, title=title)
        target.write_text(page, encoding="utf-8")
        return target
    if kind == ".mp4" and shutil.which("ffmpeg") is None:
        raise FileNotFoundError(
            f"animate(path={str(path)!r}): an MP4 needs ffmpeg, which is not on this machine: "
            "install it (apt-get install ffmpeg, brew install ffmpeg), or write a .gif or .html."
        )
    count = max(2, round(seconds * fps))
    images = _frames(surface, stage(surface, ceiling=ceiling, title=title), clock, count)
    if kind == ".gif":
        _write_gif(target, list(images), fps)
    else:
        _write_mp4(target, images, fps)
    return target


def _frames(surface: Surface, scene: Stage, clock: Clock, count: int) -> Iterator[np.ndarray]:
    """[height, width, 3] images; the surface is drawn once, only what moves is drawn again."""
    agg = FigureCanvasAgg(scene.figure)
    moving = _actors(surface, scene)
    agg.draw()
    still = agg.copy_from_bbox(scene.figure.bbox)
    for k in range(count):
        step = clock.at(k / (count - 1))
        agg.restore_region(still)
        for artist in _posed(surface, moving, step):
            artist.draw(agg.get_renderer())
        yield np.asarray(agg.buffer_rgba())[..., :3].copy()


def _actors(surface: Surface, scene: Stage) -> list[dict[str, Any]]:
    """The artists of each path: halo, trail, head, losses, and one clock for all."""
    actors: list[dict[str, Any]] = []
    for path in surface.paths:
        look, above, below = series(path.name), scene.above, scene.below
        common: dict[str, Any] = {"color": look.colour, "animated": True}
        halo = above.plot([], [], color=tone("paper"), lw=4.0, alpha=0.7, animated=True)[0]
        trail = above.plot([], [], lw=2.0, ls=look.dash, label=path.name, **common)[0]
        head = above.plot(
            [], [], look.marker, markersize=9, markeredgecolor=tone("paper"), **common
        )[0]
        below.plot(path.steps, path.loss, color=look.colour, lw=1.0, alpha=0.3)
        grown = below.plot([], [], lw=1.8, **common)[0]
        actors.append({"halo": halo, "trail": trail, "head": head, "grown": grown})
    ax = scene.above
    ax.legend(handles=[actor["trail"] for actor in actors], loc="upper right", fontsize=9)
    words: dict[str, Any] = {"transform": ax.transAxes, "fontsize": 11, "fontweight": "bold"}
    clock = ax.text(0.02, 0.03, "", animated=True, color=tone("ink"), **words)
    for actor in actors:
        actor["clock"] = clock
    return actors


def _posed(surface: Surface, actors: list[dict[str, Any]], step: float) -> list[Artist]:
    """The artists as they are at a step, those below first."""
    for path, actor in zip(surface.paths, actors, strict=True):
        xy, loss = place_at(path, step)
        past = np.asarray(path.steps) <= step
        walked = np.vstack([path.xy[past], xy])
        actor["halo"].set_data(*walked.T)
        actor["trail"].set_data(*walked.T)
        actor["head"].set_data(*xy[:, None])
        reached = min(step, float(path.steps[-1]))
        actor["grown"].set_data(
            [*np.asarray(path.steps)[past], reached], [*np.asarray(path.loss)[past], loss]
        )
        actor["clock"].set_text(f"step {round(step):,}")
    order = ("halo", "trail", "grown", "head")
    return [actor[part] for part in order for actor in actors] + [actors[0]["clock"]]


def _write_gif(target: Path, images: list[np.ndarray], fps: int) -> None:
    """One palette for all frames, from the first and the last, which have all colours in them."""
    frames = [Image.fromarray(image) for image in images]
    ends = Image.fromarray(np.concatenate([images[0], images[-1]]))
    palette = ends.quantize(_COLOURS, dither=Image.Dither.NONE)
    quantized = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    each = round(1000 / fps)
    times = [each] * (len(frames) - 1) + [max(each, round(1000 * _HOLD))]
    quantized[0].save(
        target, save_all=True, append_images=quantized[1:], duration=times, loop=0, optimize=False
    )


def _write_mp4(target: Path, images: Iterator[np.ndarray], fps: int) -> None:
    first = next(images)
    height, width = (side - side % 2 for side in first.shape[:2])  # H.264 wants even sides
    command = ["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{width}x{height}", "-r", str(fps), "-i", "-", "-an"]
    command += ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            for image in (first, *images):
                process.stdin.write(image[:height, :width].tobytes())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended: its message says why
        message = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise RuntimeError(f"animate: ffmpeg ended with {process.returncode}: {message}")
