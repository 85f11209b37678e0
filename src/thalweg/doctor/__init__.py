"""The doctor: look at the curvature of a problem or a checkpoint, and write the page.

:func:`examine` puts the rooms together: a problem with its model (``problems``, ``compare``),
trained for a while or read from a checkpoint, inspected (``curvature``), and shown (``report``).
:func:`write_monitor` makes a page of the log of a :class:`~thalweg.curvature.CurvatureMonitor`.
"""

from thalweg.doctor.examination import Examination, examine
from thalweg.setting import Setting, StoredOptimizer, load_checkpoint, prepare


__all__ = [
    "Examination",
    "Setting",
    "StoredOptimizer",
    "examine",
    "load_checkpoint",
    "prepare",
]
