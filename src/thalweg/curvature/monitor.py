"""Curvature over training, measured in the user's own loop within a share of its time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, final

from torch import Tensor

from thalweg.curvature.batches import How
from thalweg.curvature.density import spectral_density
from thalweg.curvature.eigen import eigsh
from thalweg.curvature.examination import closure_of
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.journal import Journal
from thalweg.curvature.learning_rate import stability_of
from thalweg.curvature.measured import figures
from thalweg.curvature.noise import noise_scale
from thalweg.curvature.self_check import CurvatureWarning
from thalweg.curvature.spectrum import end_of
from thalweg.curvature.trace import trace
from thalweg.curvature.training_state import undisturbed
from thalweg.errors import PROBABILITY, NonFiniteError, bad_argument, integer_from
from thalweg.objective import AbstractClosure, Objective


__all__ = ["CurvatureMonitor"]

# Products that each quantity is expected to take, before it has been measured once.
QUANTITIES = {"sharpness": 8, "noise": 8, "trace": 20, "index": 80}
_REARM = 0.9  # of the limit: below it, the next crossing warns again
_clock = time.perf_counter


@final
class CurvatureMonitor:
    r"""Sharpness, trace, noise scale and index of a loss, followed over training.

    Called after each training step with the batch of that step. Every ``every`` steps it measures
    what its time allows: each of the quantities may take an equal part of ``share`` of the loop's
    time so far, and what would take more waits, so that the interval stretches where products are
    dear (the first measurement is made in any case). Training is not touched: parameters,
    gradients, buffers, modes, random state and the objective's ledger are as without it.

    Where sharpness crosses the stable limit of the optimizer's current learning rate
    (:func:`~thalweg.curvature.stability.step_rule`), it warns, once a crossing.

    Args:
        objective: The objective that is trained.
        optimizer: The optimizer, for its limit; None measures without one.
        every: Steps between measurements, at least.
        share: The monitor's part of the loop's time, in [0, 1]; 1 measures whatever the cost.
        log: A file to which each measurement is added as a line of JSON; a log that is there is
            gone on with. None keeps records in memory.
        batches: Batches to measure on in place of each step's own.
        quantities: Of ``"sharpness"``, ``"noise"``, ``"trace"`` and ``"index"``.
        seed: Of all random vectors.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        >>> objective = Objective(model, torch.nn.functional.mse_loss)
        >>> monitor = CurvatureMonitor(objective, optimizer, every=1, quantities=("sharpness",))
        >>> x, y = torch.eye(2), torch.ones(2, 1)
        >>> record = monitor.step(x, y)
        >>> round(record["sharpness"], 3), round(record["ratio"], 4)
        (3.0, 0.015)
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Any = None,
        *,
        every: int = 100,
        share: float = 0.05,
        log: str | Path | None = None,
        batches: Iterable[Any] | None = None,
        quantities: Iterable[str] = tuple(QUANTITIES),
        seed: int = 0,
    ) -> None:
        integer_from(1).check("CurvatureMonitor", "every", every)
        PROBABILITY.check("CurvatureMonitor", "share", share)
        self.quantities = tuple(quantities)
        for name in self.quantities:
            if name not in QUANTITIES:
                allowed = f"of {', '.join(QUANTITIES)}"
                raise bad_argument("CurvatureMonitor", "quantities", name, allowed)
        self.objective, self.optimizer = objective, optimizer
        self.every, self.share, self.seed = every, share, seed
        self._batches = None if batches is None else list(batches)
        self._journal = Journal(log)
        self._steps = self._last = self.records[-1]["step"] if self.records else 0
        self._spent = dict.fromkeys(QUANTITIES, 0.0)
        self._cost: dict[str, float] = {}
        self._elapsed = 0.0
        self._since = _clock()
        self._starts: dict[str, Tensor] = {}
        self._above = False

    @property
    def records(self) -> list[dict[str, Any]]:
        """The measurements so far, oldest first; what was not measured at a step is missing."""
        return self._journal.records

    @property
    def time_share(self) -> float:
        """The part of the loop's time that measuring took."""
        return sum(self._spent.values()) / max(self._loop_seconds(), 1e-12)

    def step(self, *batch: Any) -> dict[str, Any] | None:
        """Count a training step, and measure if it is time to.

        Args:
            *batch: The step's batch, as :meth:`Objective.closure` takes it; nothing where the
                monitor has batches of its own.

        Returns:
            The record, where something was measured.

        Raises:
            ValueError: If there is no batch to measure on.
        """
        if not batch and self._batches is None:
            raise bad_argument("CurvatureMonitor.step", "batch", batch, "x, y or one batch")
        self._steps += 1
        if self._steps - self._last < self.every:
            return None
        due = [name for name in self.quantities if self._affordable(name)]
        if not due:
            return None
        self._last = self._steps
        record = self._measure(due, batch)
        self._journal.append(record)
        return record

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as plain data and tensors."""
        return {
            "steps": self._steps,
            "last": self._last,
            "spent": dict(self._spent),
            "cost": dict(self._cost),
            "elapsed": self._loop_seconds(),
            "starts": {name: vector.clone() for name, vector in self._starts.items()},
            "above": self._above,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`; records past its step are dropped from the log.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self._steps, self._last = int(state["steps"]), int(state["last"])
        self._spent, self._cost = dict(state["spent"]), dict(state["cost"])
        self._elapsed, self._since = float(state["elapsed"]), _clock()
        self._starts = {name: vector.clone() for name, vector in state["starts"].items()}
        self._above = bool(state["above"])
        self._journal.keep_until(self._steps)

    # ---- time -----------------------------------------------------------------------------
    def _loop_seconds(self) -> float:
        return self._elapsed + _clock() - self._since

    def _affordable(self, name: str) -> bool:
        """Whether a quantity fits into its part of the time; the very first does in any case."""
        if self.share == 1.0:
            return True
        cost = self._cost.get(name)
        if cost is None:
            if not self._cost:
                return name == self.quantities[0]
            known, seconds = next(iter(self._cost.items()))
            cost = seconds * QUANTITIES[name] / QUANTITIES[known]
        part = self.share / len(self.quantities)
        return self._spent[name] + cost <= part * (self._loop_seconds() + cost)

    # ---- measuring ------------------------------------------------------------------------
    def _measure(self, due: list[str], batch: tuple[Any, ...]) -> dict[str, Any]:
        ledger = self.objective.ledger
        before = ledger.as_dict()
        record: dict[str, Any] = {"step": self._steps}
        with undisturbed(list(self.objective.params)), warnings.catch_warnings():
            warnings.simplefilter("ignore", CurvatureWarning)
            try:
                self._fill(record, due, batch)
            except NonFiniteError as error:
                record["error"] = str(error)
        for name, value in before.items():
            setattr(ledger, name, value)
        record["seconds"] = self._loop_seconds()
        record["share"] = self.time_share
        self._warn(record)
        return record

    def _fill(self, record: dict[str, Any], due: list[str], batch: tuple[Any, ...]) -> None:
        began = _clock()
        given = batch if self._batches is None else self._batches
        closure = (
            self.objective.closure(*given)
            if self._batches is None
            else closure_of(self.objective, given)
        )
        hessian = Hessian(closure, None, How(check=False))
        record |= {
            "loss": hessian.loss,
            "gradient_norm": float(hessian.gradient.double().norm()),
        }
        measures: dict[str, Callable[[Hessian, AbstractClosure], dict[str, Any]]] = {
            "sharpness": self._sharpness,
            "noise": self._noise,
            "trace": self._trace,
            "index": self._index,
        }
        for name in due:
            record |= measures[name](hessian, closure)
            now = _clock()
            self._cost[name] = now - began
            self._spent[name] += now - began
            began = now
        record["products"] = hessian.products

    def _sharpness(self, hessian: Hessian, closure: AbstractClosure) -> dict[str, Any]:
        pair = eigsh(hessian, 1, "LA", start=self._starts.get("top"), seed=self.seed)
        self._starts["top"] = pair.vectors[:, :1].clone()
        found: dict[str, Any] = {
            "sharpness": float(pair.values[0]),
            "sharpness_error": float(pair.errors[0]),
        }
        if self.optimizer is None:
            return found
        used, vector = stability_of(
            hessian,
            closure,
            self.optimizer,
            known=(end_of(pair), pair.vectors[:, 0]),
            start=self._starts.get("step"),
            seed=self.seed,
        )
        if vector is not None and used.multiple is None:
            self._starts["step"] = vector[:, None].clone()
        return found | {
            "lr": used.lr,
            "limit": None if used.limit is None else used.limit.value,
            "ratio": None if used.ratio is None else used.ratio.value,
            "ratio_error": None if used.ratio is None else used.ratio.error,
            "steepest": used.shares[0].name if used.shares else None,
        }

    def _trace(self, hessian: Hessian, closure: AbstractClosure) -> dict[str, Any]:
        del closure
        estimate = trace(hessian, max_products=20, seed=self.seed)
        return {"trace": float(estimate.value), "trace_stderr": float(estimate.stderr)}

    def _index(self, hessian: Hessian, closure: AbstractClosure) -> dict[str, Any]:
        del closure
        density = spectral_density(hessian, steps=80, seed=self.seed)
        low, high = density.edges
        zero = 1e-3 * max(abs(low), abs(high))
        share = float(density.mass_below(-zero).value)
        return {
            "index": density.n * share,
            "index_tolerance": zero,
            "smallest": low,
        }

    def _noise(self, hessian: Hessian, closure: AbstractClosure) -> dict[str, Any]:
        del hessian
        try:
            estimate = noise_scale(closure)
        except (TypeError, ValueError):
            return {"noise": None}
        low, high = estimate.interval()
        return {"noise": float(estimate.value), "noise_low": low, "noise_high": high}

    def _warn(self, record: dict[str, Any]) -> None:
        ratio = record.get("ratio")
        if ratio is None:
            return
        if ratio - (record["ratio_error"] or 0.0) > 1.0 and not self._above:
            self._above = True
            warnings.warn(
                f"CurvatureMonitor: at step {record['step']} the learning rate "
                f"{figures(record['lr'])} is {figures(ratio, 3)} times the stable limit "
                f"{figures(record['limit'])}; the steepest direction is mostly in "
                f"`{record['steepest']}`.",
                CurvatureWarning,
                stacklevel=4,
            )
        elif ratio < _REARM:
            self._above = False
