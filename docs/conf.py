"""Sphinx configuration. `make docs` treats every warning as an error."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path

from sphinx.util.inspect import stringify_signature


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
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False


def constructor_signature(app, what, name, obj, options, signature, returns):
    """Show what ``__init__`` takes, where ``__new__`` only checks the names and passes them on."""
    maker = getattr(obj, "__new__", None)
    if what != "class" or getattr(maker, "__module__", "") != "thalweg.optim.base":
        return None
    bare = inspect.signature(obj.__init__)
    kept = [p for p in bare.parameters.values() if p.name != "self"]
    shown = bare.replace(parameters=kept, return_annotation=inspect.Signature.empty)
    return stringify_signature(shown, unqualified_typehints=True), None


def setup(app):
    app.connect("autodoc-process-signature", constructor_signature)
