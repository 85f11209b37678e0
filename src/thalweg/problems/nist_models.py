"""The models of ten of NIST's data sets for nonlinear regression, as functions of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor


__all__ = ["MODELS", "Model"]

Model = Callable[[Tensor, Tensor], Tensor]


def _misra1a(b: Tensor, x: Tensor) -> Tensor:
    return b[0] * (1 - torch.exp(-b[1] * x))


def _chwirut2(b: Tensor, x: Tensor) -> Tensor:
    return torch.exp(-b[0] * x) / (b[1] + b[2] * x)


def _lanczos3(b: Tensor, x: Tensor) -> Tensor:
    heights, rates = b[0::2], b[1::2]
    return torch.exp(-x[:, None] * rates) @ heights


def _gauss1(b: Tensor, x: Tensor) -> Tensor:
    first = b[2] * torch.exp(-((x - b[3]) ** 2) / b[4] ** 2)
    second = b[5] * torch.exp(-((x - b[6]) ** 2) / b[7] ** 2)
    return b[0] * torch.exp(-b[1] * x) + first + second


def _danwood(b: Tensor, x: Tensor) -> Tensor:
    return b[0] * x ** b[1]


def _kirby2(b: Tensor, x: Tensor) -> Tensor:
    return (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2)


def _nelson(b: Tensor, x: Tensor) -> Tensor:
    weeks, degrees = x.unbind(-1)
    return b[0] - b[1] * weeks * torch.exp(-b[2] * degrees)


def _mgh17(b: Tensor, x: Tensor) -> Tensor:
    return b[0] + b[1] * torch.exp(-x * b[3]) + b[2] * torch.exp(-x * b[4])


def _thurber(b: Tensor, x: Tensor) -> Tensor:
    above = b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3
    return above / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)


def _eckerle4(b: Tensor, x: Tensor) -> Tensor:
    return b[0] / b[1] * torch.exp(-0.5 * ((x - b[2]) / b[1]) ** 2)


MODELS: Final[dict[str, Model]] = {
    "Misra1a": _misra1a,
    "Chwirut2": _chwirut2,
    "Lanczos3": _lanczos3,
    "Gauss1": _gauss1,
    "DanWood": _danwood,
    "Kirby2": _kirby2,
    "Nelson": _nelson,
    "MGH17": _mgh17,
    "Thurber": _thurber,
    "Eckerle4": _eckerle4,
}  # in the order of difficulty that NIST gives
