"""Figures of loss landscapes: surfaces, lines and paths, seen from above, from aside and moving."""

from thalweg.report.landscapes.plane import plane
from thalweg.report.landscapes.relief import relief
from thalweg.report.landscapes.strips import losses, residuals


__all__ = ["losses", "plane", "relief", "residuals"]
