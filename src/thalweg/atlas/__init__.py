"""The atlas: landscapes of a problem or a checkpoint, and their pages.

:func:`around` looks around a point, :func:`along` at the paths of optimizers, :func:`between` at
what lies between two sets of weights. Each puts the rooms together: a problem with its model
(``setting``), measured (``landscape``) and shown (``report``). :class:`Chart` is what comes of it,
with its files.
"""

from thalweg.atlas.chart import Chart
from thalweg.atlas.connecting import between
from thalweg.atlas.views import Frame, View, around
from thalweg.atlas.walking import along, recorded, trained


__all__ = ["Chart", "Frame", "View", "along", "around", "between", "recorded", "trained"]
