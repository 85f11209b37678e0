"""Fabricated records: a study on data with noise over seeds, and one on a test function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


STEPS = list(range(0, 401, 20))
Records = tuple[dict[str, Any], list[dict[str, Any]]]


def optimizer(label: str, low: float = 1e-4, high: float = 10.0) -> dict[str, Any]:
    return {
        "label": label,
        "class": f"thalweg.optim.{label.upper()}",
        "settings": {"momentum": 0.9} if label == "momentum" else {},
        "space": {"lr": {"low": low, "high": high, "log": True}},
        "reference": f"Author of {label} (2015)",
    }


def new_study(labels: list[str], seeds: list[int], **problem: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "command": "thalweg compare digits --optimizers " + ",".join(labels),
        "created": "2026-01-02T03:04:05+00:00",
        "problem": {
            "name": "digits",
            "title": "Handwritten digits, a small network",
            "description": "Eight by eight images of digits; one hidden layer of 64 units.",
            "version": "1",
            "fingerprint": "0123456789abcdef" * 4,
            "metric": {"name": "accuracy", "higher_is_better": True},
            "target": {"quantity": "validation_loss", "value": 0.35},
            "batch_size": 64,
            "scale": 1.0,
            "parameters": 4810,
            "data": {
                "source": "UCI optical recognition of handwritten digits, https://example.org/a",
                "licence": "CC BY 4.0",
                "recipe": "pixels divided by 16; stratified split at seed 0",
                "sha256": "fedcba9876543210" * 4,
                "train": 1222,
                "validation": 215,
                "test": 360,
            },
            "surface": None,
        }
        | problem,
        "optimizers": [optimizer(label) for label in labels],
        "budget": {"kind": "steps", "amount": 400},
        "schedule": "constant",
        "trials": 8,
        "seeds": seeds,
        "tuning_seed": 0,
        "selection": "validation_loss",
        "machine": {"processor": "a CPU", "cores": 2, "memory_gib": 7.7, "system": "Linux"},
        "versions": {"thalweg": "0.1.0", "torch": "2.13.0", "python": "3.11.9", "numpy": "2.4.6"},
        "threads": 1,
        "clock": "processor seconds",
    }


def new_run(
    study: dict[str, Any],
    label: str,
    stage: str,
    seed: int,
    lr: float,
    losses: list[float | None],
    **more: Any,
) -> dict[str, Any]:
    """A finished run with these losses on the evaluation grid; `more` replaces fields."""
    final = losses[-1]
    accuracy = [None if v is None else 1 - 0.1 * v for v in losses]
    tested = stage != "tune" and final is not None
    goal = study["problem"]["target"]
    hit = next(
        (k for k, v in enumerate(losses) if goal and v is not None and v <= goal["value"]), None
    )
    run = {
        "format": 1,
        "id": f"{label}-{stage}-{seed}-{lr:.4g}",
        "problem": study["problem"]["name"],
        "fingerprint": study["problem"]["fingerprint"],
        "optimizer": label,
        "class": f"thalweg.optim.{label.upper()}",
        "settings": {},
        "hyperparameters": {"lr": lr},
        "stage": stage,
        "trial": 0 if stage == "tune" else None,
        "round": 0,
        "seed": seed,
        "budget": study["budget"],
        "schedule": "constant",
        "status": "finished",
        "message": None,
        "curve": {
            "step": STEPS[: len(losses)],
            "seconds": [0.002 * step for step in STEPS[: len(losses)]],
            "gradients": [float(step) for step in STEPS[: len(losses)]],
            "train_loss": [None if v is None else 0.8 * v for v in losses],
            "validation_loss": losses,
            "validation_metric": accuracy,
        },
        "final": {
            "train_loss": None if final is None else 0.8 * final,
            "validation_loss": final,
            "validation_metric": accuracy[-1],
            "test_loss": 1.1 * final if tested and final is not None else None,
            "test_metric": accuracy[-1] if tested else None,
        },
        "hit": None
        if hit is None
        else {"step": STEPS[hit], "seconds": 0.002 * STEPS[hit], "gradients": float(STEPS[hit])},
        "ledger": {"forward": 400, "backward": 400, "product": 0, "seconds": 0.8},
        "seconds": 0.8,
        "retried": 0,
        "path": None,
        "created": "2026-01-02T03:04:05+00:00",
    }
    return run | more


def diverged(study: dict[str, Any], label: str, stage: str, seed: int, lr: float) -> dict[str, Any]:
    run = new_run(study, label, stage, seed, lr, [2.3, 40.0, None])
    return run | {"status": "diverged", "message": "the loss is nan at step 37"}


@pytest.fixture
def digits() -> Callable[..., Records]:
    """make(labels, seeds, lost) -> (study, runs); `lost` names (label, seed) pairs that diverge."""

    def make(
        labels: list[str] | None = None,
        seeds: int = 5,
        lost: tuple[tuple[str, int], ...] = (),
        defaults: bool = True,
    ) -> Records:
        labels = labels or ["sgd", "momentum", "adam", "adamw", "lion"]
        study = new_study(labels, list(range(1, seeds + 1)))
        rng, runs = np.random.default_rng(0), []
        for k, label in enumerate(labels):
            best = 10.0 ** (-0.5 - 0.4 * k)
            level = 0.22 + 0.05 * abs(k - 2)

            def losses(lr: float, level: float = level, best: float = best) -> list[float | None]:
                rate = 8 / (1 + abs(math.log10(lr / best)) * 3)
                floor = level * math.exp(0.05 * rng.standard_normal())
                return [floor + 2.2 * math.exp(-rate * s / 400) for s in STEPS]

            for trial, lr in enumerate(np.geomspace(1e-4, 10, 8)):
                if lr > 8 * best:
                    runs.append(diverged(study, label, "tune", 0, float(lr)))
                else:
                    runs.append(
                        new_run(study, label, "tune", 0, float(lr), losses(lr), trial=trial)
                    )
            for seed in study["seeds"]:
                if (label, seed) in lost:
                    runs.append(diverged(study, label, "confirm", seed, best))
                else:
                    runs.append(new_run(study, label, "confirm", seed, best, losses(best)))
                if defaults:
                    runs.append(new_run(study, label, "default", seed, 0.001, losses(0.001)))
        return study, runs

    return make


@pytest.fixture
def bowl() -> Callable[..., Records]:
    """make(labels) -> (study, runs) on the Rosenbrock function, all seeds the same."""

    def make(labels: list[str] | None = None, seeds: int = 3) -> Records:
        labels = labels or ["sgd", "momentum", "adam", "newton"]
        x, y = np.linspace(-2, 2, 81), np.linspace(-1, 3, 81)

        def f(a: Any, b: Any) -> Any:
            return (1 - a) ** 2 + 100 * (b - a**2) ** 2

        surface = {
            "x": x.tolist(),
            "y": y.tolist(),
            "z": f(x[None, :], y[:, None]).tolist(),
            "minima": [[1.0, 1.0, 0.0]],
            "saddles": [],
            "start": [-1.5, 2.0],
            "formula": "(1 - x)² + 100 (y - x²)²",
        }
        study = new_study(
            labels,
            list(range(1, seeds + 1)),
            name="rosenbrock",
            title="Rosenbrock's valley",
            description="",
            metric=None,
            data=None,
            target={"quantity": "train_loss", "value": 1e-3},
            batch_size=None,
            parameters=2,
            surface=surface,
        )
        study["selection"] = "train_loss"
        runs = []
        for k, label in enumerate(labels):
            share = np.linspace(0, 1, 12 if label == "newton" else 200) ** 0.5
            end = {"newton": 1.0, "sgd": 0.35}.get(label, 0.85)
            across = -1.5 + 2.5 * end * share
            up = across**2 - 0.25 * np.cos(18 * share) * (1 - share)
            up[0] = 2.0
            path = np.stack([across, up], axis=1).tolist()
            values = [float(v) for v in np.interp(np.linspace(0, 1, 21), share, f(across, up))]
            for stage, numbers in (("tune", [0]), ("confirm", study["seeds"])):
                lrs = np.geomspace(1e-4, 1, 8) if stage == "tune" else [10.0 ** (-1 - k)]
                for seed in numbers:
                    for lr in lrs:
                        if stage == "tune" and lr > 0.5:
                            run = diverged(study, label, stage, seed, float(lr))
                        else:
                            worse = 1 + abs(math.log10(lr) + 1 + k)
                            run = new_run(
                                study,
                                label,
                                stage,
                                seed,
                                float(lr),
                                [v * worse for v in values],
                                path=path,
                            )
                        runs.append(_as_function(run))
        return study, runs

    return make


def _as_function(run: dict[str, Any]) -> dict[str, Any]:
    """Move the loss to `train_loss`, the only quantity of a test function."""
    nothing = [None] * len(run["curve"]["step"])
    run["curve"] |= {
        "train_loss": run["curve"]["validation_loss"],
        "validation_loss": nothing,
        "validation_metric": nothing,
    }
    loss = run["final"]["validation_loss"]
    run["final"] = dict.fromkeys(run["final"]) | {"train_loss": loss}
    return run
