"""What a picture is made of: measured surfaces, lines and paths, as plain arrays.

They know nothing of models. A file holds arrays and JSON, no pickled object, so that a picture can
be drawn again anywhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from thalweg.errors import bad_argument
from thalweg.landscape.drawing import drawer


__all__ = ["Line", "PlanePath", "Surface"]

_FORMAT = 1


@final
@dataclass(frozen=True, eq=False)
class PlanePath:
    r"""The path of an optimizer as a plane shows it, and what the plane does not show.

    A recorded point :math:`\theta_t` lies at :math:`d_t = \theta_t - \theta_c` from the plane's
    centre; :math:`P d_t` is its projection, by least squares.

    Args:
        name: What is walking: the optimizer's name.
        xy: (n, 2) coordinates of :math:`P d_t` on the plane's axes.
        residual: (n,) :math:`\|d_t - P d_t\| / \|d_t\|`, in [0, 1]; 0 at the centre itself.
        loss: (n,) the true loss at :math:`\theta_t`, which is not the surface's loss under it.
        steps: (n,) the step at which each point was recorded.

    Raises:
        ValueError: If the lengths differ.

    Example:
        >>> path = PlanePath("sgd", np.zeros((2, 2)), np.zeros(2), np.array([1.0, 0.5]), [0, 10])
        >>> len(path)
        2
    """

    name: str
    xy: np.ndarray
    residual: np.ndarray
    loss: np.ndarray
    steps: np.ndarray

    def __post_init__(self) -> None:
        for name in ("xy", "residual", "loss", "steps"):
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        n = len(self.steps)
        _shaped("PlanePath", "xy", self.xy, (n, 2))
        _shaped("PlanePath", "residual", self.residual, (n,))
        _shaped("PlanePath", "loss", self.loss, (n,))

    def __len__(self) -> int:
        return len(self.steps)


@final
@dataclass(frozen=True, eq=False)
class Line:
    r"""Metrics along a line, :math:`f(\theta_c + t\,d)` or :math:`f((1 - t)\,a + t\,b)`.

    Args:
        t: (n,) the coordinate.
        metrics: Name to (n,) values, ``"loss"`` first; NaN where the value is NaN.
        label: The coordinate in words.
        meta: How it was measured, JSON-able.

    Raises:
        ValueError: If a metric has another length than ``t``, or there is none.

    Example:
        >>> line = Line(np.linspace(0, 1, 3), {"loss": np.array([4.0, 1.0, 0.0])}, "a to b")
        >>> line.loss.tolist()
        [4.0, 1.0, 0.0]
    """

    t: np.ndarray
    metrics: dict[str, np.ndarray]
    label: str = "t"
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "t", np.asarray(self.t, dtype=np.float64))
        checked = _checked_metrics("Line", self.metrics, (len(self.t),))
        object.__setattr__(self, "metrics", checked)

    @property
    def loss(self) -> np.ndarray:
        """The first metric."""
        return next(iter(self.metrics.values()))

    def figure(self, metrics: Any = None, **options: Any) -> Any:
        """The line as a matplotlib figure.

        Args:
            metrics: Which metrics; default the first, and those of test data.
            **options: As :func:`thalweg.report.landscapes.profile` takes them: ``ax``, ``log``,
                ``barrier``, ``title``, ``line``.
        """
        return drawer().profile(self, metrics, **options)

    def save(self, path: str | Path) -> None:
        """Write the line to one file, at once or not at all."""
        plain = {"label": self.label, "meta": self.meta, "metrics": list(self.metrics)}
        arrays = {f"metric_{i}": values for i, values in enumerate(self.metrics.values())}
        _write(path, "line", plain, {"t": self.t, **arrays})

    @staticmethod
    def load(path: str | Path) -> Line:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: If the file holds no line.
        """
        plain, arrays = _read(path, "line")
        metrics = {name: arrays[f"metric_{i}"] for i, name in enumerate(plain["metrics"])}
        return Line(arrays["t"], metrics, plain["label"], plain["meta"])


@final
@dataclass(frozen=True, eq=False)
class Surface:
    r"""Metrics on a plane, :math:`f(\theta_c + x\,\delta + y\,\eta)`, with the paths drawn on it.

    Row i, column j of a metric belongs to ``y[i]``, ``x[j]``.

    Args:
        x: (nx,) coordinates along the first axis.
        y: (ny,) coordinates along the second axis.
        metrics: Name to (ny, nx) values, ``"loss"`` first; NaN where the value is NaN.
        computed: (ny, nx) whether the point was evaluated; NaN at such a point is a result.
        labels: What the axes are, in words.
        paths: Paths on the plane.
        meta: How it was measured, JSON-able: directions, normalisation, treatment of biases and
            BatchNorm, samples, seeds, versions, loss at the centre, the cosine between the axes.

    Raises:
        ValueError: If a shape does not fit, or there is no metric.

    Example:
        >>> x, y = np.linspace(-1, 1, 3), np.linspace(0, 1, 2)
        >>> surface = Surface(x, y, {"loss": x**2 + y[:, None]}, np.full((2, 3), True), ("x", "y"))
        >>> surface.loss[1].tolist()
        [2.0, 1.0, 2.0]
    """

    x: np.ndarray
    y: np.ndarray
    metrics: dict[str, np.ndarray]
    computed: np.ndarray
    labels: tuple[str, str] = ("first direction", "second direction")
    paths: tuple[PlanePath, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", np.asarray(self.x, dtype=np.float64))
        object.__setattr__(self, "y", np.asarray(self.y, dtype=np.float64))
        object.__setattr__(self, "computed", np.asarray(self.computed, dtype=bool))
        shape = (len(self.y), len(self.x))
        _shaped("Surface", "computed", self.computed, shape)
        object.__setattr__(self, "metrics", _checked_metrics("Surface", self.metrics, shape))

    @property
    def loss(self) -> np.ndarray:
        """The first metric."""
        return next(iter(self.metrics.values()))

    def with_paths(self, *paths: PlanePath) -> Surface:
        """The same surface with these paths on it, in addition to those that it has."""
        return replace(self, paths=(*self.paths, *paths))

    def figure(self, metric: str | None = None, **options: Any) -> Any:
        """The surface from above with its paths, as a matplotlib figure.

        Args:
            metric: Which metric; default the first.
            **options: As :func:`thalweg.report.landscapes.plane` takes them: ``ax``, ``scale``,
                ``ceiling``, ``equal``, ``strip``, ``title``, ``line``.
        """
        return drawer().plane(self, metric, **options)

    def figure3d(self, metric: str | None = None, **options: Any) -> Any:
        """The surface in space with its paths, as a matplotlib figure.

        Args:
            metric: Which metric; default the first.
            **options: As :func:`thalweg.report.landscapes.relief` takes them: ``ax``, ``scale``,
                ``ceiling``, ``path_height``, ``elev``, ``azim``, ``title``, ``line``.
        """
        return drawer().relief(self, metric, **options)

    def to_html(self, path: str | Path | None = None, **options: Any) -> str:
        """The surface as one offline HTML page: figures, numbers, and a surface to turn.

        Args:
            path: A file to write the page to.
            **options: As :func:`thalweg.report.landscapes.landscape_html` takes them: ``lines``,
                ``account``, ``ceiling``, ``turn``.

        Returns:
            The page.
        """
        page: str = drawer().landscape_html(self, **options)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def save(self, path: str | Path) -> None:
        """Write surface and paths to one file, at once or not at all."""
        plain = {
            "labels": list(self.labels),
            "meta": self.meta,
            "metrics": list(self.metrics),
            "paths": [walk.name for walk in self.paths],
        }
        arrays = {"x": self.x, "y": self.y, "computed": self.computed}
        arrays |= {f"metric_{i}": values for i, values in enumerate(self.metrics.values())}
        for i, walk in enumerate(self.paths):
            arrays |= {f"path_{i}_{name}": getattr(walk, name) for name in _PATH}
        _write(path, "surface", plain, arrays)

    @staticmethod
    def load(path: str | Path) -> Surface:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: If the file holds no surface.
        """
        plain, arrays = _read(path, "surface")
        metrics = {name: arrays[f"metric_{i}"] for i, name in enumerate(plain["metrics"])}
        paths = tuple(
            PlanePath(name, **{part: arrays[f"path_{i}_{part}"] for part in _PATH})
            for i, name in enumerate(plain["paths"])
        )
        first, second = plain["labels"]
        grid = arrays["x"], arrays["y"], metrics, arrays["computed"]
        return Surface(*grid, (first, second), paths, plain["meta"])


_PATH = ("xy", "residual", "loss", "steps")


def _shaped(where: str, name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise bad_argument(where, name, array.shape, f"an array of shape {shape}")


def _checked_metrics(
    where: str, metrics: Mapping[str, Any], shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    if not metrics:
        raise bad_argument(where, "metrics", metrics, "at least one metric, the loss first")
    arrays = {name: np.asarray(values) for name, values in metrics.items()}
    for name, values in arrays.items():
        _shaped(where, f"metrics[{name!r}]", values, shape)
    return arrays


def _write(
    path: str | Path, kind: str, plain: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    text = json.dumps({"format": _FORMAT, "kind": kind, **plain})
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            plain_bytes = np.frombuffer(text.encode(), dtype=np.uint8)
            members: dict[str, Any] = {"plain": plain_bytes, **arrays}
            np.savez_compressed(file, **members)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _read(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    plain = json.loads(arrays.pop("plain").tobytes().decode()) if "plain" in arrays else {}
    if plain.get("kind") != kind:
        raise ValueError(
            f"{path}: the file holds {plain.get('kind', 'something else')}, no {kind}."
        )
    if plain["format"] > _FORMAT:
        raise ValueError(f"{path}: written by a newer version (format {plain['format']}).")
    return plain, arrays
