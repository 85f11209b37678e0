"""Potentials of two variables with published or closed-form saddles."""

import torch


_HEIGHT = torch.tensor([-200.0, -100.0, -170.0, 15.0], dtype=torch.float64)
_XX = torch.tensor([-1.0, -1.0, -6.5, 0.7], dtype=torch.float64)
_XY = torch.tensor([0.0, 0.0, 11.0, 0.6], dtype=torch.float64)
_YY = torch.tensor([-10.0, -10.0, -6.5, 0.7], dtype=torch.float64)
_X = torch.tensor([1.0, 0.0, -0.5, -1.0], dtype=torch.float64)
_Y = torch.tensor([0.0, 0.5, 1.5, 1.0], dtype=torch.float64)

# K. Mueller and L. D. Brown, Location of saddle points and minimum energy paths by a constrained
# simplex optimization procedure, Theoret. Chim. Acta 53, 1979; coordinates as usually quoted.
MINIMA = {
    "A": ((-0.558224, 1.441726), -146.699517),
    "B": ((0.623499, 0.028038), -108.166724),
    "between": ((-0.050011, 0.466694), -80.767818),
}
SADDLES = {"high": ((-0.822002, 0.624313), -40.664844), "low": ((0.212487, 0.292988), -72.248940)}


def mueller_brown(point):
    x, y = point[0] - _X, point[1] - _Y
    return (_HEIGHT * torch.exp(_XX * x**2 + _XY * x * y + _YY * y**2)).sum()


def minimum(name):
    return torch.tensor(MINIMA[name][0], dtype=torch.float64)


def ring(point):
    """Wells at (1, 0) and (-1, 0), a hill at 0, saddles of height 1/11 at (0, 10/11) and below."""
    return (point.norm() - 1) ** 2 + 0.1 * point[1] ** 2


RING = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([-1.0, 0.0], dtype=torch.float64)
