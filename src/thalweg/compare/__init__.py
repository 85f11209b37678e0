"""The door to a fair race: plan it, run it, read the report.

:class:`Study` puts the rooms together: it plans and carries out (``study``), shows how far it is,
and writes the report (``report``). It holds no result of its own; all of them are in its folder.
"""

from thalweg.compare.own import load_file, write_template
from thalweg.compare.places import data_places, open_problem, with_batches
from thalweg.compare.study import Study


__all__ = ["Study", "data_places", "load_file", "open_problem", "with_batches", "write_template"]
