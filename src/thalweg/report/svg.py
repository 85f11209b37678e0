"""Figures inside a page: themed by CSS variables, with identifiers that do not collide."""

from __future__ import annotations

import re

from thalweg.report.style import TONES


__all__ = ["inline", "variables"]

_HEX = {light: name for name, (light, _) in TONES.items()}
_COLOUR = re.compile("|".join(_HEX))
# Outlines, in points: digits past the hundredth are finer than any screen and half of the page.
_OUTLINE = re.compile(r'\bd="[^"]*"')
_DIGITS = re.compile(r"(\.\d\d)\d+")
_REFERENCE = re.compile(r'(\bid="|url\(#|href="#)')


def inline(drawing: bytes, prefix: str, title: str) -> str:
    """An SVG file as an `<svg>` element for an HTML page.

    It scales with the page, needs no outside file, and takes its colours from the variables of
    `variables()`, so that the page decides between light and dark.

    Args:
        drawing: the file, as `canvas.render` makes it, of a figure in the light theme.
        prefix: put before every identifier; different for each figure of a page.
        title: the accessible name.
    """
    text = drawing.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="([^"]+)"', head)
    assert box is not None
    body = _REFERENCE.sub(rf"\g<1>{prefix}-", body)
    body = _COLOUR.sub(lambda match: f"var(--{_HEX[match.group()]})", body)
    body = _OUTLINE.sub(lambda match: _DIGITS.sub(r"\1", match.group()), body)
    body = re.sub(r" xmlns(:\w+)?=\"[^\"]*\"", "", body)
    return f'<svg viewBox="{box.group(1)}" role="img" aria-label="{title}">{body}'.strip()


def variables(*, dark: bool = False) -> str:
    """The CSS custom properties of one theme.

    Example:
        >>> variables().split(";")[0], variables(dark=True).split(";")[0]
        ('--paper:#ffffff', '--paper:#14181d')
    """
    return ";".join(f"--{name}:{pair[dark]}" for name, pair in TONES.items())
