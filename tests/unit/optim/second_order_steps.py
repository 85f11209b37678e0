"""What the tests of Newton's family share: matrices, a run, and dense solutions with numpy."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import brentq

import thalweg as tw
from thalweg.optim.ground import Ground


def tensor(*entries):
    return torch.tensor(entries, dtype=torch.float64)


def matrix(values, seed=0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((len(values), len(values))))
    return torch.from_numpy((q * np.asarray(values)) @ q.T)


def run(optimizer, fn, x, steps):
    """The points after each step, the start first."""
    closure = tw.Objective.of(fn).closure(x)
    path = [x.detach().clone()]
    for _ in range(steps):
        optimizer.step(closure)
        path.append(x.detach().clone())
    return path


def bent(H, g, bend=0.0):
    """The function g'x + x'Hx/2 + bend sum(x^4)."""
    return lambda x: g @ x + 0.5 * x @ H @ x + bend * (x**4).sum()


def in_ball(H, g, radius):
    """The minimiser of g'p + p'Hp/2 in a ball, from the secular equation (not the hard case)."""
    values, vectors = np.linalg.eigh(H.numpy())
    c = vectors.T @ g.numpy()
    if values[0] > 0 and np.linalg.norm(c / values) <= radius:
        return -vectors @ (c / values)
    low = max(0.0, -values[0])

    def over(sigma):
        return np.linalg.norm(c / (values + sigma)) - radius

    least = low + 1e-12 * (1 + abs(values).max())
    sigma = brentq(over, least, low + np.linalg.norm(c) / radius + 1, xtol=1e-15, rtol=1e-15)
    return -vectors @ (c / (values + sigma))


def watched(monkeypatch):
    """A list that gets, for every trial, how many products had been taken before it."""
    seen, attempt = [], Ground.attempt

    def watching(self, x):
        seen.append(self.counts.nhvp)
        return attempt(self, x)

    monkeypatch.setattr(Ground, "attempt", watching)
    return seen
