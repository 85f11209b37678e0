"""A setting: a problem's model at a point, where it is looked at, and with which samples.

:func:`prepare` builds, reads a checkpoint and trains for a while: what is to be done before
curvature is inspected or a landscape is drawn.
"""

from thalweg.setting.checkpoint import StoredOptimizer, load_checkpoint
from thalweg.setting.folders import check_folder
from thalweg.setting.preparation import Setting, prepare, sample_count


__all__ = [
    "Setting",
    "StoredOptimizer",
    "check_folder",
    "load_checkpoint",
    "prepare",
    "sample_count",
]
