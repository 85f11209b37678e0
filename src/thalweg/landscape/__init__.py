"""Loss landscapes: surfaces and lines through real weights, and paths on them.

:class:`Surface`, :class:`Line` and :class:`PlanePath` are plain data, which
:mod:`thalweg.report` draws.
"""

from thalweg.landscape.surface import Line, PlanePath, Surface


__all__ = ["Line", "PlanePath", "Surface"]
