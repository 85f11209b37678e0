"""Where results come from: the machine, the versions, the surface that a path lies on."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thalweg import __version__
from thalweg.problems import Problem, TestFunction


__all__ = ["describe_problem", "machine", "surface", "versions"]


@functools.cache
def machine() -> dict[str, Any]:
    """The machine in words.

    Example:
        >>> sorted(machine())
        ['cores', 'memory_gib', 'processor', 'system']
    """
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """The versions that results may depend on."""
    return {
        "thalweg": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def surface(function: TestFunction, resolution: int = 101) -> dict[str, Any]:
    """A two-dimensional function on its drawing range, as plain data for the report."""
    x, y, z = function.grid(resolution)
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "z": z.tolist(),
        "minima": [[*point, value] for point, value in function.minima],
        "saddles": [list(point) for point in function.saddles],
        "start": list(function.start),
        "formula": function.formula,
    }


def describe_problem(problem: Problem, seed: int) -> dict[str, Any]:
    """The problem as plain data for records; the model is built once, to be counted."""
    metric, target, data = problem.metric, problem.target, problem.data
    model = problem.build(seed)
    return {
        "name": problem.name,
        "title": problem.title,
        "description": problem.description,
        "version": problem.version,
        "fingerprint": problem.fingerprint,
        "metric": metric and {"name": metric.name, "higher_is_better": metric.higher_is_better},
        "target": target and {"quantity": target.quantity, "value": target.value},
        "batch_size": problem.batch_size,
        "scale": problem.scale,
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": data
        and {
            "source": data.source,
            "licence": data.licence,
            "recipe": data.recipe,
            "sha256": data.sha256,
            **{name: len(getattr(data, name)[0]) for name in ("train", "validation", "test")},
        },
        "surface": problem.function and surface(problem.function),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
