"""Sphinx configuration. `make docs` treats every warning as an error."""

from __future__ import annotations

import os
import sys
from pathlib import Path


os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import thalweg


project = "Thalweg"
author = "The Thalweg authors"
project_copyright = "2026, The Thalweg authors"
version = release = thalweg.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "optimizer_table",
]
exclude_patterns = ["_build", "_ext"]
html_theme = "furo"
html_title = f"Thalweg {release}"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# A dataclass's fields are described in its "Args" section; listed again they would be there twice.
autodoc_default_options = {"undoc-members": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
