"""A surface and its paths as VTK files, for ParaView and its like.

Two files in VTK's XML format, their numbers in base64: a structured grid (``.vts``) that has every
metric at every point, and polylines (``.vtp``) with step, residual, true loss and the picture's.
Both lie flat unless a height is asked for.
"""

from __future__ import annotations

import base64
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from thalweg.errors import one_of
from thalweg.landscape import Surface
from thalweg.report.heights import heights_of, picture_loss, values_of


__all__ = ["write_vtk"]

_HEIGHTS = one_of("flat", "loss", "log")
_TYPES = {"f8": "Float64", "i8": "Int64", "u1": "UInt8"}


def write_vtk(surface: Surface, path: str | Path, *, height: str = "flat") -> list[Path]:
    """Write a surface for ParaView.

    Args:
        surface: the surface.
        path: the grid's file, ending in .vts. Paths go beside it, with the ending .vtp.
        height: "flat" (warp by a scalar in ParaView), "loss" (the first metric) or "log" (its
            logarithm as the figures have it, from 0 to the longer side of the plane, cut off at
            their ceiling).

    Returns:
        The files.

    Raises:
        ValueError: if the height is unknown or the file ends in something else.
    """
    _HEIGHTS.check("write_vtk", "height", height)
    target = Path(path)
    one_of(".vts").check("write_vtk", "path", target.suffix)
    z = values_of(surface)
    x, y = np.meshgrid(surface.x, surface.y)
    level = _heights(surface, z, height)
    points = np.column_stack([x.ravel(), y.ravel(), np.nan_to_num(level).ravel()])
    columns = {name: np.asarray(values, float) for name, values in surface.metrics.items()}
    columns["computed"] = surface.computed.astype(np.uint8)
    columns["finite"] = np.isfinite(z).astype(np.uint8)
    extent = f"0 {len(surface.x) - 1} 0 {len(surface.y) - 1} 0 0"
    body = (
        f'<StructuredGrid WholeExtent="{extent}"><Piece Extent="{extent}">'
        f"{_point_data(columns)}{_points(points)}</Piece></StructuredGrid>"
    )
    files = [_write(target, "StructuredGrid", body)]
    if surface.paths:
        lines = _polylines(surface, height)
        files.append(_write(target.with_suffix(".vtp"), "PolyData", lines))
    return files


def _polylines(surface: Surface, height: str) -> str:
    columns: dict[str, list[np.ndarray]] = {}
    points, ends, count = [], [], 0
    for k, path in enumerate(surface.paths):
        shown = picture_loss(surface, path)
        level = np.nan_to_num(_heights(surface, shown, height))
        points.append(np.column_stack([path.xy, level]))
        count += len(path)
        ends.append(count)
        for name, values in (
            ("path", np.full(len(path), k)),
            ("step", path.steps),
            ("loss", path.loss),
            ("picture_loss", shown),
            ("residual", path.residual),
        ):
            kind = np.int64 if name in ("path", "step") else np.float64
            columns.setdefault(name, []).append(np.asarray(values, kind))
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    lines = _array("connectivity", np.arange(count)) + _array("offsets", np.array(ends))
    piece = (
        f'<Piece NumberOfPoints="{count}" NumberOfVerts="0" NumberOfLines="{len(ends)}" '
        'NumberOfStrips="0" NumberOfPolys="0">'
    )
    names = " ".join(path.name for path in surface.paths)
    described = f"<!-- paths in order: {names.replace('--', '- -')} -->"
    held = f"{_point_data(joined)}{_points(np.concatenate(points))}<Lines>{lines}</Lines>"
    return f"{described}<PolyData>{piece}{held}</Piece></PolyData>"


def _heights(surface: Surface, values: np.ndarray, height: str) -> np.ndarray:
    if height == "flat":
        return np.zeros_like(values)
    if height == "loss":
        return values
    side = max(np.ptp(surface.x), np.ptp(surface.y))
    return heights_of(surface, scale="log").norm(values) * side


def _point_data(columns: Mapping[str, np.ndarray]) -> str:
    first = quoteattr(next(iter(columns)))
    arrays = "".join(_array(name, values.ravel()) for name, values in columns.items())
    return f"<PointData Scalars={first}>{arrays}</PointData>"


def _points(points: np.ndarray) -> str:
    return f"<Points>{_array('points', points.ravel(), components=3)}</Points>"


def _array(name: str, values: np.ndarray, components: int = 1) -> str:
    """An inline array: the number of its bytes and its bytes, each in base64 (one text)."""
    kind = values.dtype.kind + str(values.dtype.itemsize)
    order = "<" if sys.byteorder == "little" else ">"
    data = np.ascontiguousarray(values).tobytes()
    text = base64.b64encode(struct.pack(f"{order}Q", len(data)) + data).decode()
    return (
        f'<DataArray type="{_TYPES[kind]}" Name={quoteattr(name)} '
        f'NumberOfComponents="{components}" format="binary">{text}</DataArray>'
    )


def _write(path: Path, kind: str, body: str) -> Path:
    order = "LittleEndian" if sys.byteorder == "little" else "BigEndian"
    head = f'type="{kind}" version="1.0" byte_order="{order}" header_type="UInt64"'
    path.write_text(f'<?xml version="1.0"?>\n<VTKFile {head}>{body}</VTKFile>\n', encoding="utf-8")
    return path
