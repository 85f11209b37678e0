"""Power laws: the exponent with which one quantity follows another."""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.reproduce.walks import slope


__all__ = ["exponent"]


def exponent(x: Any, y: Any) -> float:
    """The slope of the least-squares line through (log x, log y), three points at least.

    Example:
        >>> round(exponent([1.0, 10.0, 100.0], [5.0, 0.5, 0.05]), 6)
        -1.0
    """
    return slope(np.log(np.asarray(x, float)), np.log(np.asarray(y, float)))[0]
