r"""How high a path climbs between its ends: the three published conventions.

With losses :math:`L(t)` along a path from :math:`t = 0` to :math:`t = 1`:

.. math::
    \text{frankle} &= \max_t L(t) - \tfrac12 (L(0) + L(1)) \\
    \text{entezari} &= \max_t \bigl[ L(t) - ((1 - t) L(0) + t L(1)) \bigr] \\
    \text{max-endpoint} &= \max_t L(t) - \max(L(0), L(1))

They agree where both ends are equally good, and may have different signs of importance where they
are not, so a number says little without the name of its convention.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from thalweg.errors import unknown_name


__all__ = ["CONVENTIONS", "barrier_of"]


def _frankle(t: np.ndarray, loss: np.ndarray) -> float:
    del t
    return float(loss.max() - 0.5 * (loss[0] + loss[-1]))


def _entezari(t: np.ndarray, loss: np.ndarray) -> float:
    return float((loss - ((1 - t) * loss[0] + t * loss[-1])).max())


def _max_endpoint(t: np.ndarray, loss: np.ndarray) -> float:
    del t
    return float(loss.max() - max(loss[0], loss[-1]))


CONVENTIONS: Final[dict[str, Callable[[np.ndarray, np.ndarray], float]]] = {
    "frankle": _frankle,
    "entezari": _entezari,
    "max-endpoint": _max_endpoint,
}


def barrier_of(t: Any, loss: Any, convention: str = "frankle") -> float:
    """The barrier of losses along a path.

    Args:
        t: (n,) the coordinate, ascending; what lies outside [0, 1] is left out. 0 and 1 are in it.
        loss: (n,) the losses.
        convention: ``"frankle"`` (Frankle et al. 2020, and Git Re-Basin), ``"entezari"`` (Entezari
            et al. 2021) or ``"max-endpoint"`` (above the worse end).

    Returns:
        The barrier, at least 0; NaN if a loss is.

    Raises:
        ValueError: If there is no such convention, or an end of the path is missing.

    Example:
        >>> t, loss = [0.0, 0.25, 1.0], [0.0, 2.0, 1.0]
        >>> [barrier_of(t, loss, name) for name in CONVENTIONS]
        [1.5, 1.75, 1.0]

    References:
        Frankle, Dziugaite, Roy and Carbin, Linear mode connectivity and the lottery ticket
        hypothesis, 2020.
        Entezari, Sedghi, Saukh and Neyshabur, The role of permutation invariance in linear mode
        connectivity of neural networks, 2021.
    """
    if convention not in CONVENTIONS:
        raise unknown_name("barrier", "convention", convention, CONVENTIONS)
    t, loss = np.asarray(t, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    inside = (t >= 0.0) & (t <= 1.0)
    t, loss = t[inside], loss[inside]
    if not len(t) or t[0] != 0.0 or t[-1] != 1.0:
        raise ValueError("barrier(t=...): both ends of the path, t = 0 and t = 1, are needed.")
    with np.errstate(invalid="ignore"):  # inf - inf at an end is NaN, and stays so
        return CONVENTIONS[convention](t, loss)
