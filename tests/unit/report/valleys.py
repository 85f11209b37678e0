"""Surfaces and paths whose every number is known, for the tests of figures."""

from __future__ import annotations

import numpy as np

from thalweg.landscape import PlanePath, Surface


def height(x, y):
    """A curved valley with its floor at 0.05."""
    return 0.05 + (x - 0.8) ** 2 + 12 * (y - 0.4 * x**2) ** 2


def walk(name, rate, steps=60, start=(-1.6, 1.5), residual=0.6):
    """Gradient descent with momentum 0.8 on `height`; the true loss is a tenth above it."""
    points, velocity = [np.array(start)], np.zeros(2)
    for _ in range(steps):
        x, y = points[-1]
        slope = 24 * (y - 0.4 * x**2)
        gradient = np.array([2 * (x - 0.8) - 0.8 * x * slope, slope])
        velocity = 0.8 * velocity - rate * gradient
        points.append(points[-1] + velocity)
    xy = np.array(points)
    off = residual * np.linspace(1, 0, len(xy)) ** 0.5
    return PlanePath(name, xy, off, height(*xy.T) * 1.1, np.arange(len(xy)) * 10)


def valley(nx=41, ny=31, paths=True):
    """A surface that is wider than high, with two paths."""
    x, y = np.linspace(-2, 2, nx), np.linspace(-1, 2, ny)
    metrics = {
        "loss": height(x, y[:, None]),
        "accuracy": 1 / (1 + height(x, y[:, None])),
    }
    meta = {
        "kind": "pca",
        "explained_variance": [0.71, 0.18, 0.05],
        "random_walk_variance": [0.81, 0.09, 0.03],
        "samples": 1024,
    }
    walks = (walk("sgd", 0.004), walk("adam", 0.012)) if paths else ()
    labels = ("first component (71%)", "second component (18%)")
    return Surface(x, y, metrics, np.full((ny, nx), True), labels, walks, meta)


def broken(surface, *, nan=(), inf=(), missing=(), peak=None):
    """The same surface with points that are not finite, not computed, or very high."""
    loss, computed = surface.loss.copy(), surface.computed.copy()
    for value, places in ((np.nan, nan), (np.inf, inf)):
        for place in places:
            loss[place] = value
    for place in missing:
        loss[place], computed[place] = np.nan, False
    if peak is not None:
        loss[-1, 0] = peak
    metrics = {**surface.metrics, "loss": loss}
    return Surface(
        surface.x, surface.y, metrics, computed, surface.labels, surface.paths, surface.meta
    )
