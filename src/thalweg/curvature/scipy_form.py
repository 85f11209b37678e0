"""Operators in the form that scipy's sparse solvers take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor


__all__ = ["scipy_form"]


def scipy_form(
    shape: tuple[int, int], dtype: torch.dtype, apply: Callable[..., Tensor]
) -> LinearOperator:
    """A ``scipy.sparse.linalg.LinearOperator`` on NumPy arrays.

    Args:
        shape: (m, n).
        dtype: Of the entries.
        apply: (columns, adjoint) -> columns.

    Returns:
        The operator.
    """
    kind = torch.zeros(0, dtype=dtype).numpy().dtype

    def on_arrays(adjoint: bool) -> Callable[[Any], Any]:
        def product(array: Any) -> Any:
            columns = torch.from_numpy(np.array(array, dtype=kind))
            return apply(columns, adjoint=adjoint).cpu().numpy()

        return product

    make: Any = LinearOperator  # its __new__ picks a subclass, which stubs do not say
    return make(
        shape=shape,
        dtype=kind,
        matvec=on_arrays(False),
        matmat=on_arrays(False),
        rmatvec=on_arrays(True),
        rmatmat=on_arrays(True),
    )
