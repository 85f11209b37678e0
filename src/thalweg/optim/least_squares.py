"""What methods for least squares share: how they stand, and how they judge a trial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from thalweg.errors import POSITIVE, Domain, NonFiniteError, one_of
from thalweg.numerics.robust import LOSSES
from thalweg.objective import AbstractClosure
from thalweg.objective.program import ModelProgram
from thalweg.optim.dense_model import DenseModel
from thalweg.optim.deterministic import AbstractDeterministic
from thalweg.optim.linear_models import linear_model
from thalweg.optim.metadata import Needs
from thalweg.optim.product_model import ProductModel
from thalweg.optim.residual_ground import ResidualGround
from thalweg.optim.residual_view import View
from thalweg.optim.seams import StepInfo


__all__ = ["AbstractLeastSquares", "Model"]

Model = DenseModel | ProductModel
_STEADY = 0.9  # what the offset must fall to where values of the cost cannot tell


class AbstractLeastSquares(AbstractDeterministic, ABC):
    r"""A method for :math:`\tfrac12 \lVert r(x) \rVert^2` that knows r and its Jacobian.

    It takes closures that tell their residuals: ``Objective.residuals(fn).closure(x)``, whose value
    is half the sum of squares, or a model with a squared error, whose loss is one too, batch by
    batch or summed over a loader.
    """

    needs: ClassVar[Needs] = Needs.OUTPUTS
    hyperparameters: ClassVar[dict[str, Domain]] = {
        "solver": one_of("auto", "svd", "lsmr"),
        "loss": one_of(*LOSSES),
        "loss_scale": POSITIVE,
    }

    def evaluate(self, closure: Callable[[], Any] | None) -> Any:
        """Stand where the parameters are, with the residuals there."""
        assert closure is not None  # step() has refused
        self._check_one_setting()
        params, last = self.moving(), self._last
        self._last = None
        if last is not None and last.stands(closure, params):
            self._last = last
            return last
        if isinstance(closure, AbstractClosure) and _has_buffers(closure):
            self.call(closure)  # the first call moves running statistics, as in training
        robust = self.setting["loss"], float(self.setting["loss_scale"])
        name = type(self).__name__
        ground = ResidualGround(name, closure, params, robust, self.counts, self.call)
        self._last = ground  # type: ignore[assignment]  # it has what a ground has
        return ground

    def descend(self, point: ResidualGround) -> Model:
        """The linear model here."""
        return self.model(point, point.view)

    @abstractmethod
    def advance(self, point: Any, path: Any) -> StepInfo:
        """Try points; accept one, or say why not."""

    # ---- what a subclass works with -----------------------------------------------------------
    def model(self, point: ResidualGround, view: View) -> Model:
        """The linear model at a point that was looked at.

        Raises:
            NonFiniteError: If the Jacobian is not finite.
        """
        return linear_model(point, view, self.setting, self._scale_before())

    def derived(self, point: ResidualGround, view: View) -> bool:
        """Whether the derivatives at a trial are finite, so that it may be accepted."""
        if self.setting["solver"] == "lsmr":
            return bool(view.gradient().isfinite().all())
        return bool(view.jacobian().isfinite().all())

    def slopes_fell(self, point: ResidualGround, path: Model, view: View) -> bool:
        """Whether a trial is nearer to a minimum, where values of the cost cannot tell."""
        if not view.finite or view.fun > point.fun + path.rounding:
            return False
        try:
            there = self.model(point, view)
        except NonFiniteError:
            return False
        return there.offset <= _STEADY * path.offset or there.cosine <= _STEADY * path.cosine

    def _scale_before(self) -> Tensor | None:
        return self.memory.get("scale")


def _has_buffers(closure: AbstractClosure) -> bool:
    """Whether a model in train mode keeps statistics."""
    return any(
        module.training and any(True for _ in module.buffers(recurse=False))
        for batch in closure.batches
        if isinstance(batch.program, ModelProgram)
        for module in batch.program.modules()
    )
