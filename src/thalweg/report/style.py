"""One look for every figure: tones of a light and a dark theme, and a fixed style per optimizer.

The series colours are those of Okabe and Ito, distinguishable under the common forms of colour
blindness, without their yellow (unreadable on white) and with a wine red in its place. Line style
and marker differ as well, so that a figure survives a black-and-white print.

References:
    Okabe and Ito (2008), Color universal design.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, final

import matplotlib


__all__ = ["RAMP", "RELIEF", "TONES", "SeriesStyle", "dark", "rc", "series", "styled", "tone"]

P = ParamSpec("P")
R = TypeVar("R")

# name: (light theme, dark theme). Each light value is unique, so that an SVG can be themed by
# replacing it with a CSS variable of that name.
TONES: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#14181d"),
    "ink": ("#1f2328", "#e4e8ec"),
    "muted": ("#5d6670", "#98a3af"),
    "rule": ("#d4d9df", "#3a424c"),
    "grid": ("#eceef1", "#252b32"),
    "blue": ("#0072b2", "#4aa3e0"),
    "vermillion": ("#d55e00", "#ff8038"),
    "green": ("#009e73", "#2fc79b"),
    "purple": ("#c06a9a", "#e395c3"),
    "orange": ("#e69f00", "#f2b63a"),
    "sky": ("#56b4e9", "#8fd0f7"),
    "wine": ("#882255", "#c9598f"),
    "black": ("#2b2f36", "#d3d9e0"),
}

# Filled contours, lowest level first.
RAMP: tuple[str, ...] = tuple(f"level{k}" for k in range(12))
_LIGHT_RAMP = "8fb0cd 9fbbd4 aac3d9 b5cbde bfd1e2 c8d8e6 d1deea dae4ee e2eaf1 eaf0f5 f2f5f9 fafbfc"
_DARK_RAMP = "4d7394 456683 3f5d77 3a556c 354d62 314558 2c3e4e 283745 24303c 202a34 1c232b 181d23"
TONES |= {
    name: (f"#{light}", f"#{dark}")
    for name, light, dark in zip(RAMP, _LIGHT_RAMP.split(), _DARK_RAMP.split(), strict=True)
}

# What is higher than the highest level of a surface.
TONES["beyond"] = ("#e9cca8", "#4a3626")

# The colours of a surface in space, lowest first: a valley in deep water, heights in the light.
# They are the same in both themes, since they carry the height.
RELIEF: tuple[str, ...] = ("#173f5f", "#20638b", "#4691ab", "#93c2b7", "#d9dfbd", "#f7efd6")

_SERIES_TONES = ("blue", "vermillion", "green", "purple", "orange", "sky", "wine", "black")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.4, 1.4)), (0, (6, 1.5, 1.5, 1.5)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")

# tone, index of the dash, marker. Methods that are often raced together differ in tone.
_FIXED: dict[str, tuple[str, int, str]] = {
    "sgd": ("blue", 0, "o"),
    "momentum": ("sky", 0, "s"),
    "nesterov": ("sky", 1, "D"),
    "adagrad": ("green", 0, "^"),
    "rmsprop": ("purple", 0, "v"),
    "adadelta": ("purple", 1, "P"),
    "adam": ("vermillion", 0, "s"),
    "adamw": ("orange", 0, "D"),
    "amsgrad": ("vermillion", 1, "X"),
    "nadam": ("orange", 1, "p"),
    "adamax": ("vermillion", 2, "v"),
    "radam": ("orange", 2, "^"),
    "adabelief": ("vermillion", 3, "D"),
    "lion": ("wine", 0, "^"),
    "lamb": ("wine", 1, "s"),
    "lookahead": ("sky", 2, "v"),
    "weight-averaging": ("wine", 0, "P"),
    "adan": ("vermillion", 1, "^"),
    "delta-bar-delta": ("green", 1, "D"),
    "rprop": ("purple", 1, "^"),
    "sam": ("blue", 1, "X"),
    "asam": ("blue", 3, "X"),
    "projected-gradient": ("orange", 1, "P"),
    "muon": ("green", 1, "P"),
    "shampoo": ("green", 2, "s"),
    "soap": ("green", 3, "o"),
    "adahessian": ("wine", 2, "D"),
    "sophia": ("wine", 3, "X"),
    "sophia-g": ("wine", 1, "v"),
    "kfac": ("purple", 2, "s"),
    "ekfac": ("purple", 3, "D"),
    "natural-gradient": ("orange", 3, "v"),
    "newton": ("black", 0, "o"),
    "newton-cg": ("black", 1, "s"),
    "hessian-free": ("black", 2, "^"),
    "gauss-newton": ("blue", 1, "D"),
    "levenberg-marquardt": ("blue", 2, "v"),
    "lm": ("blue", 2, "v"),
    "lbfgs": ("black", 3, "D"),
    "bfgs": ("blue", 3, "P"),
    "nonlinear-cg": ("sky", 3, "X"),
    "trust-exact": ("vermillion", 3, "P"),
    "trust-ncg": ("orange", 0, "s"),
    "newton-lanczos": ("green", 0, "D"),
    "saddle-free": ("purple", 0, "X"),
}

_DARK: ContextVar[bool] = ContextVar("dark", default=False)


@final
@dataclass(frozen=True)
class SeriesStyle:
    """Colour, dash pattern and marker of one optimizer; `tone` is a key of `TONES`."""

    tone: str
    dash: Any
    marker: str

    @property
    def colour(self) -> str:
        """The colour in the active theme."""
        return tone(self.tone)


def series(label: str) -> SeriesStyle:
    """The style of an optimizer, the same in every figure and every process.

    Case, spaces and underscores do not matter. A name without a fixed style gets one from a hash
    of the name, so that it does not depend on what else is drawn.

    Example:
        >>> series("Adam") == series("adam"), series("adam").marker
        (True, 's')
        >>> series("my-own").tone == series("my-own").tone
        True
    """
    key = label.strip().lower().replace("_", "-").replace(" ", "-")
    if key in _FIXED:
        name, dash, marker = _FIXED[key]
        return SeriesStyle(name, _DASHES[dash], marker)
    code = zlib.crc32(key.encode())
    code, k = divmod(code, len(_SERIES_TONES))
    code, d = divmod(code, len(_DASHES))
    return SeriesStyle(_SERIES_TONES[k], _DASHES[d], _MARKERS[code % len(_MARKERS)])


def tone(name: str) -> str:
    """The hex colour of a tone in the active theme.

    Example:
        >>> tone("paper")
        '#ffffff'
        >>> with dark():
        ...     tone("paper")
        '#14181d'
    """
    return TONES[name][_DARK.get()]


@contextmanager
def dark() -> Iterator[None]:
    """Figures made inside this context have the dark theme."""
    token = _DARK.set(True)
    try:
        yield
    finally:
        _DARK.reset(token)


def rc() -> dict[str, Any]:
    """The matplotlib settings of the active theme, for `matplotlib.rc_context`.

    Text stays text in SVG and PDF, and SVG identifiers do not change from run to run.
    """
    ink, muted, rule = tone("ink"), tone("muted"), tone("rule")
    return {
        "figure.facecolor": tone("paper"),
        "savefig.facecolor": tone("paper"),
        "axes.facecolor": tone("paper"),
        "axes.edgecolor": rule,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": tone("grid"),
        "grid.linewidth": 0.8,
        "text.color": ink,
        "xtick.color": rule,
        "ytick.color": rule,
        "xtick.labelcolor": muted,
        "ytick.labelcolor": muted,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "legend.handlelength": 2.8,
        "lines.linewidth": 1.7,
        "lines.markersize": 5,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "figure.dpi": 100,
        "svg.fonttype": "none",
        "svg.hashsalt": "thalweg",
        "pdf.fonttype": 42,
    }


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function under `rc()`, leaving matplotlib's global settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(rc()):
            return draw(*args, **kwargs)

    return wrapper
