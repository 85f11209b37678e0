"""Reports: figures, tables and one HTML page, made from the records of a study alone.

    records = thalweg.study.records.read("study/")
    thalweg.report.write_report("study/", records.study, records.runs)

Every figure is a function of the records, with an optional `ax=`:

- `learning_curves`, `tuning_curves`, `final_results`, `paths` draw a study;
- `contour` draws any two-dimensional surface with paths on it;
- `performance_profile`, `data_profile` compare solvers over a set of problems;
- `style.dark()` is a context in which figures have the dark theme.

`results` is the table for a terminal, `page` the HTML as text. Nothing here trains.
"""

from thalweg.report import style
from thalweg.report.contours import contour
from thalweg.report.figures import learning_curves, paths
from thalweg.report.forest import final_results
from thalweg.report.html import page, write_report
from thalweg.report.profiles import data_profile, performance_profile
from thalweg.report.tables import results
from thalweg.report.tuning import tuning_curves


__all__ = [
    "contour",
    "data_profile",
    "final_results",
    "learning_curves",
    "page",
    "paths",
    "performance_profile",
    "results",
    "style",
    "tuning_curves",
    "write_report",
]
