"""Functions of one step: those of More and Thuente's paper, and random smooth ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


Line = Callable[[float], tuple[float, float]]


def first(a, beta=2.0):
    """(5.1): one minimum at the root of beta, concave beyond."""
    return -a / (a * a + beta), (a * a - beta) / (a * a + beta) ** 2


def second(a, beta=0.004):
    """(5.2)."""
    return (a + beta) ** 5 - 2 * (a + beta) ** 4, 5 * (a + beta) ** 4 - 8 * (a + beta) ** 3


def third(a, beta=0.01, waves=39):
    """(5.3): a corner rounded over 2 beta, and waves on it."""
    if a <= 1 - beta:
        value, slope = 1 - a, -1.0
    elif a >= 1 + beta:
        value, slope = a - 1, 1.0
    else:
        value, slope = (a - 1) ** 2 / (2 * beta) + beta / 2, (a - 1) / beta
    turn = waves * math.pi / 2
    return value + (1 - beta) / turn * math.sin(turn * a), slope + (1 - beta) * math.cos(turn * a)


def yanai(beta1, beta2) -> Line:
    """(5.4): convex, nearly straight between two bends."""

    def weight(beta):
        return math.sqrt(1 + beta * beta) - beta

    def line(a):
        left, right = math.hypot(1 - a, beta2), math.hypot(a, beta1)
        g, h = weight(beta1), weight(beta2)
        return g * left + h * right, h * a / right - g * (1 - a) / left

    return line


STARTS = (1e-3, 1e-1, 1e1, 1e3)
# Tables I to VI: the function, mu, eta; for each start: evaluations, step and slope as printed.
TABLES = {
    "I": (first, 1e-3, 0.1, (6, 3, 1, 4), (1.4, 1.4, 10, 37), (-9.2e-3, 4.7e-3, 9.4e-3, 7.3e-4)),
    "II": (second, 0.1, 0.1, (12, 8, 8, 11), (1.6,) * 4, (7.1e-9, 10e-10, -5.0e-9, -2.3e-8)),
    "III": (
        third, 0.1, 0.1, (12, 12, 10, 13), (1.0,) * 4, (-5.1e-5, -1.9e-4, -2.0e-6, -1.6e-5),
    ),
    "IV": (
        yanai(0.001, 0.001), 1e-3, 1e-3, (4, 1, 3, 4), (0.08, 0.10, 0.35, 0.83),
        (-6.9e-5, -4.9e-5, -2.9e-6, 1.6e-5),
    ),
    "V": (
        yanai(0.01, 0.001), 1e-3, 1e-3, (6, 3, 7, 8), (0.075, 0.078, 0.073, 0.076),
        (1.9e-4, 7.4e-4, -2.6e-4, 4.5e-4),
    ),
    "VI": (
        yanai(0.001, 0.01), 1e-3, 1e-3, (13, 11, 8, 11), (0.93, 0.93, 0.92, 0.92),
        (5.2e-4, 8.4e-5, -2.4e-4, -3.2e-4),
    ),
}  # fmt: skip


def random_line(seed: int) -> Line:
    """A smooth function that is bounded below and goes down at 0: waves on a bowl."""
    rng = np.random.default_rng(seed)
    bowl, far = 10 ** rng.uniform(-3, 2), 10 ** rng.uniform(-2, 2)
    height, pace, phase = rng.normal(size=3), 10 ** rng.uniform(-1, 1.5, 3), rng.uniform(0, 6.3, 3)
    height *= bowl * far**2 * 0.1
    pace /= far

    def line(a):
        value = bowl * (a - far) ** 2 + float(np.sum(height * np.sin(pace * a + phase)))
        slope = 2 * bowl * (a - far) + float(np.sum(height * pace * np.cos(pace * a + phase)))
        return value, slope

    return line
