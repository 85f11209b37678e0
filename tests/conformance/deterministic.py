"""One row a method that judges its own steps by the function: Newton to L-BFGS.

The generic tests of ``table.py`` count one evaluation a step and expect any step that is asked for;
these methods search. Their tests are in ``test_deterministic.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch.optim import Optimizer

from conformance.references import Options
from thalweg.optim import (
    BFGS,
    LBFGS,
    ConjugateGradient,
    GaussNewton,
    HessianFree,
    HessianFreeOptions,
    LevenbergMarquardt,
    Needs,
    Newton,
    NewtonCG,
    NewtonLanczos,
    NonlinearCG,
    SaddleFreeNewton,
    SpectralProjectedGradient,
    TrustRegionNewton,
    TrustRegionNewtonCG,
)


@dataclass(frozen=True)
class Searching:
    """What the tests have to know of a method.

    Args:
        cls: The method.
        settings: Options under which every part of its memory is used.
        steps: In which it gets within 1e-8 of the quadratic's minimum from any start.
        only: "any" function, "quadratic" ones, or "outputs": closures that know their residuals.
        scale_free: Whether a function times a number gives the same path.
        alike: Options under which closures of ours and of torch's give the same path.
    """

    cls: type[Optimizer]
    settings: Options = field(default_factory=dict)
    steps: int = 60
    only: str = "any"
    scale_free: bool = True
    alike: Options = field(default_factory=dict)

    def build(self, params: Any, **options: Any) -> Any:
        return self.cls(params, **{**self.settings, **options})

    @property
    def looks(self) -> bool:
        """Whether it takes products with the Hessian: by differences, from torch's closures."""
        return self.cls.needs is Needs.CURVATURE


DETERMINISTIC: dict[str, Searching] = {
    "bfgs": Searching(BFGS),
    "conjugate-gradient": Searching(ConjugateGradient, only="quadratic"),
    "lbfgs": Searching(LBFGS, {"memory": 3}),
    "nonlinear-cg": Searching(NonlinearCG, steps=120),
    "spectral-projected-gradient": Searching(SpectralProjectedGradient, steps=120),
    "gauss-newton": Searching(GaussNewton, {"ridge": 1e-6}, only="outputs"),
    "levenberg-marquardt": Searching(LevenbergMarquardt, only="outputs"),
    "hessian-free": Searching(
        HessianFree,
        {"options": HessianFreeOptions(iterations=12)},
        alike={"curvature": "hessian"},
    ),
    "newton": Searching(Newton),
    "newton-cg": Searching(NewtonCG),
    "newton-lanczos": Searching(NewtonLanczos),
    "saddle-free-newton": Searching(SaddleFreeNewton, {"dense": 3}),
    "trust-region-newton": Searching(TrustRegionNewton, {"scale": "diagonal"}),
    "trust-region-newton-cg": Searching(TrustRegionNewtonCG),
}
