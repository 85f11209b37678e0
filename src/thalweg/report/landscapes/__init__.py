"""Figures of loss landscapes: surfaces, lines and paths, seen from above, from aside and moving."""

from thalweg.report.landscapes.convexity import convexity
from thalweg.report.landscapes.moving import animate
from thalweg.report.landscapes.plane import plane
from thalweg.report.landscapes.profile import profile
from thalweg.report.landscapes.relief import relief
from thalweg.report.landscapes.spectra import spectra
from thalweg.report.landscapes.strips import losses, residuals


__all__ = ["animate", "convexity", "losses", "plane", "profile", "relief", "residuals", "spectra"]
