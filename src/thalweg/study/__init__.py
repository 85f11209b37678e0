"""Fair races: a plan, supervised runs, records on disk, and what may be said of them.

A :class:`Plan` fixes the problem, the arms (an optimizer with its settings and search space), the
budget, the trials and the seeds. Every arm gets the same number of tuning trials, each a point of
its own scrambled Sobol sequence; the winner on the validation loss is run again on fresh seeds,
shared by all arms; the test data is read once, at the end of those. A run's name is the hash of
what defines it and its record is written whole, so :func:`conduct` fills the gaps and nothing
else: it can be killed at any time and started again.
"""

from thalweg.study.arms import Arm, as_arm, default_arms
from thalweg.study.budget import Budget
from thalweg.study.conduct import conduct
from thalweg.study.executor import Event, Executor, Inline
from thalweg.study.plan import Plan, Run
from thalweg.study.processes import LocalProcesses
from thalweg.study.records import Records, read
from thalweg.study.scoring import Summary, summarize


__all__ = [
    "Arm",
    "Budget",
    "Event",
    "Executor",
    "Inline",
    "LocalProcesses",
    "Plan",
    "Records",
    "Run",
    "Summary",
    "as_arm",
    "conduct",
    "default_arms",
    "read",
    "summarize",
]
