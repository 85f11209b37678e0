"""Figures of loss landscapes: surfaces, lines and paths, from above, in space and moving.

- `plane`, `relief`, `convexity` draw a :class:`~thalweg.landscape.Surface` with its paths;
- `residuals`, `losses` draw what the plane leaves out of them;
- `profile` draws a :class:`~thalweg.landscape.Line` or several, `spectra` a Hessian over training;
- `animate` writes a GIF, an MP4 or a player, `write_landscape` the page of a surface with its
  figures, `write_vtk` files for ParaView.

All take `ax=` where they are one axes, return the figure, and move no global state.
"""

from thalweg.report.landscapes.convexity import convexity
from thalweg.report.landscapes.moving import animate
from thalweg.report.landscapes.page import Account, landscape_html, write_landscape
from thalweg.report.landscapes.plane import plane
from thalweg.report.landscapes.profile import profile
from thalweg.report.landscapes.relief import relief
from thalweg.report.landscapes.spectra import spectra
from thalweg.report.landscapes.strips import losses, residuals
from thalweg.report.landscapes.vtk import write_vtk


__all__ = [
    "Account",
    "animate",
    "convexity",
    "landscape_html",
    "losses",
    "plane",
    "profile",
    "relief",
    "residuals",
    "spectra",
    "write_landscape",
    "write_vtk",
]
