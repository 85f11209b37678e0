"""How well a Newton system is solved: better as the iteration converges, no better than it helps.

References:
    Eisenstat and Walker, Choosing the forcing terms in an inexact Newton method, 1996.
"""

from __future__ import annotations


__all__ = ["forcing_term"]

_GAMMA, _ALPHA = 0.9, (1 + 5**0.5) / 2  # the paper's
_KEPT = 0.1  # above this the term before holds the next one up


def forcing_term(norm: float, before: float | None, term: float | None, most: float = 0.5) -> float:
    r"""The share of the gradient that may be left in :math:`H p + g`.

    Eisenstat and Walker's second choice, :math:`\eta_k = 0.9\,(\|g_k\| / \|g_{k-1}\|)^{1.618}`,
    kept from falling faster than :math:`0.9\,\eta_{k-1}^{1.618}` while that is above 0.1. It has no
    units: scaling f changes nothing.

    Args:
        norm: Of the gradient.
        before: Of the gradient one iteration earlier; None at the first.
        term: The term one iteration earlier; None at the first.
        most: What it starts with and may not exceed.

    Returns:
        The term, in [0, most].

    Example:
        >>> forcing_term(1.0, None, None), round(forcing_term(0.1, 1.0, 0.5), 4)
        (0.5, 0.2932)
    """
    if before is None or term is None or before == 0.0:
        return most
    wanted = _GAMMA * (norm / before) ** _ALPHA
    held = _GAMMA * term**_ALPHA
    return min(max(wanted, held if held > _KEPT else 0.0), most)
