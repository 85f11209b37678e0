"""The ``optimizers`` directive: the table of methods, read from the package's catalogue.

No page lists the methods by hand: a method that is in the catalogue is in the documentation.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from thalweg import optim


class OptimizerTable(SphinxDirective):
    """One row a method: what it needs of the loss, what it keeps for each parameter, its source."""

    def run(self) -> list[nodes.Node]:
        rows = ["| name | class | needs | state | reference |", "|---|---|---|---|---|"]
        rows += [row(name, entry) for name, entry in optim.catalogue().items()]
        return self.parse_text_to_nodes("\n".join(rows))


def row(name: str, entry: optim.Entry) -> str:
    cells = [
        f"`{name}`",
        f"{{py:class}}`~{optim.__name__}.{entry.cls.__name__}`",
        entry.needs.value,
        getattr(entry.cls, "kept", "") or ", ".join(map(state, entry.cls.slots)) or "none",
        str(entry.reference),
    ]
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def state(slot: optim.Slot) -> str:
    condition = f" (with `{slot.when}`)" if slot.when else ""
    return f"`{slot.name}`{condition}"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("optimizers", OptimizerTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
