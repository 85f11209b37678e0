"""Whether steps still lead anywhere once f no longer shows what they gain.

Near a minimum f falls by less than its own rounding while its gradient still shortens. Steps go on
there; when the gradient has long stopped getting shorter too, nothing is left in this precision.
"""

from __future__ import annotations

import math
from typing import Any

from thalweg.numerics.lanczos import inner
from thalweg.optim.ground import Ground


__all__ = ["note_progress", "stalled"]

_SHORTER = 0.9  # a gradient that is shorter than the shortest so far by this counts as progress
_LEAST, _MOST = 10, 50  # steps without it that are allowed: more with more parameters


def note_progress(memory: dict[str, Any], ground: Ground, blind: bool) -> None:
    """Note an accepted step.

    Args:
        memory: The method's.
        ground: Where it ended.
        blind: Whether what the step gained is lost in the rounding of f.
    """
    norm = math.sqrt(inner(ground.grad, ground.grad))
    shortest = memory.get("shortest", math.inf)
    if not blind:
        memory["shortest"], memory["stalled"] = math.inf, 0
    elif norm <= _SHORTER * shortest:
        memory["shortest"], memory["stalled"] = norm, 0
    else:
        memory["stalled"] += 1
    memory["last"] = ground.fun


def stalled(memory: dict[str, Any], ground: Ground) -> bool:
    """Whether steps have led nowhere for long, on the function that is stood on now."""
    if memory.get("stalled", 0) < _LEAST + min(_MOST - _LEAST, ground.x.numel()):
        return False
    if memory["last"] != ground.fun:  # another function, or another point of it
        memory["stalled"] = 0
        return False
    return True
