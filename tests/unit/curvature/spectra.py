"""Operators with a known spectrum and eigenvectors that favour no axis."""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import dct, idct

from thalweg.curvature import Expression


def rotated(values, dtype=torch.float64, seed=0):
    """An operator with these eigenvalues; its eigenvectors are cosines with random signs."""
    kind = {torch.float32: np.float32, torch.float64: np.float64}[dtype]
    scale = np.array(values, dtype=kind)[:, None]
    n = len(scale)
    signs = np.random.default_rng(seed).choice([-1, 1], size=(n, 1)).astype(kind)

    def product(v):
        turned = dct(signs * v.numpy(), axis=0, norm="ortho")
        return torch.from_numpy(signs * idct(scale * turned, axis=0, norm="ortho"))

    return Expression((n, n), product, symmetric=True, dtype=dtype)


def trained(n=1200, seed=0):
    """Ten outliers over a narrow bulk of heavy tails, as a trained network has; descending."""
    rng = np.random.default_rng(seed)
    bulk = np.clip(0.05 * rng.standard_t(2, size=n - 10), -5, 8)
    values = np.r_[100, 60, 45, 40, 30, 28, 22, 15, 12, 10, bulk]
    return np.sort(values)[::-1].copy()
