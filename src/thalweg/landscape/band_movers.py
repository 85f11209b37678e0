"""What moves points by forces that are no gradient: FIRE, and descent with momentum."""

from __future__ import annotations

import math
from typing import Any, Protocol, final

import torch
from torch import Tensor


__all__ = ["Fire", "HeavyBall", "Mover"]


class Mover(Protocol):
    """Moves points by forces, and can be stopped and gone on with."""

    def move(self, points: Tensor, forces: Tensor) -> Tensor:
        """The points after one step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What it remembers, as tensors and numbers."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        ...


@final
class HeavyBall:
    r"""Steps :math:`v \leftarrow \mu v + F`, :math:`R \leftarrow R + \eta v`.

    Args:
        lr: The rate :math:`\eta`.
        momentum: :math:`\mu`.

    Example:
        >>> mover, x = HeavyBall(0.5, 0.0), torch.tensor([[4.0]])
        >>> mover.move(x, -x)
        tensor([[2.]])
    """

    def __init__(self, lr: float, momentum: float) -> None:
        self.lr, self.momentum = lr, momentum
        self._velocity: Tensor | None = None

    def move(self, points: Tensor, forces: Tensor) -> Tensor:
        """The points after one step."""
        old = self._velocity
        self._velocity = forces if old is None else old * self.momentum + forces
        return points + self.lr * self._velocity

    def state_dict(self) -> dict[str, Any]:
        """The velocity."""
        return {"velocity": self._velocity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the velocity."""
        self._velocity = state["velocity"]


@final
class Fire:
    r"""FIRE: molecular dynamics that is steered downhill and stopped when it goes uphill.

    .. math:: v \leftarrow (1 - \alpha)\, v + \alpha\, \|v\|\, F / \|F\|

    While the power :math:`F^\top v` is positive, time steps grow and :math:`\alpha` shrinks; when
    it is not, the velocity is set to zero and the time step is halved. The first time step and the
    longest move of an image follow from the band's own spacing, so nothing has to be chosen.

    Args:
        reach: The longest move of one image in a step, in units of length.

    Example:
        >>> mover, x = Fire(0.5), torch.tensor([[1.0, 1.0]], dtype=torch.float64)
        >>> for _ in range(300):
        ...     x = mover.move(x, -x * torch.tensor([1.0, 100.0]))
        >>> bool(x.norm() < 1e-5)
        True

    References:
        Bitzek, Koskinen, Gahler, Moseler and Gumbsch, Structural relaxation made simple, 2006.
        Guenole et al., Assessment and optimization of the fast inertial relaxation engine, 2020.
    """

    GROW, SHRINK, START, DECAY, DELAY = 1.1, 0.5, 0.25, 0.99, 20  # Guenole et al., table 3

    def __init__(self, reach: float) -> None:
        self.reach = reach
        self._velocity: Tensor | None = None
        self._dt, self._alpha, self._since = 0.0, self.START, 0

    def move(self, points: Tensor, forces: Tensor) -> Tensor:
        """The points after one step."""
        size = float(forces.norm())
        largest = float(forces.norm(dim=1).max())
        if not largest > 0:
            return points
        if self._velocity is None:  # the first move is a tenth of the reach
            self._velocity, self._dt = (
                torch.zeros_like(forces),
                math.sqrt(0.1 * self.reach / largest),
            )
        velocity = self._velocity
        if float((forces * velocity).sum()) > 0:
            self._since += 1
            if self._since > self.DELAY:
                self._dt *= self.GROW
                self._alpha *= self.DECAY
        elif bool(velocity.any()):
            points = points - 0.5 * self._dt * velocity
            velocity = torch.zeros_like(velocity)
            self._since, self._alpha = 0, self.START
            self._dt *= self.SHRINK
        velocity = velocity + self._dt * forces
        turned = float(velocity.norm()) / size
        velocity = (1 - self._alpha) * velocity + self._alpha * turned * forces
        longest = float(velocity.norm(dim=1).max()) * self._dt
        if longest > self.reach:  # no image past its neighbours
            velocity = velocity * (self.reach / longest)
        self._velocity = velocity
        return points + self._dt * velocity

    def state_dict(self) -> dict[str, Any]:
        """Velocity, time step and its history."""
        plain = {"dt": self._dt, "alpha": self._alpha, "since": self._since}
        return {"velocity": self._velocity, **plain}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them up."""
        self._velocity, self._dt = state["velocity"], state["dt"]
        self._alpha, self._since = state["alpha"], state["since"]
