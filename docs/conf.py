"""Settings of Sphinx: `python -m sphinx -W -b html docs docs/_build`."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "loops_async"
author = "the authors of loops_async"
version = release = version_of("loops-async")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build"]
nitpicky = False
myst_heading_anchors = 3
myst_enable_extensions = ["deflist", "fieldlist"]

html_theme = "furo"
html_title = "loops_async"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
add_module_names = False
# Where it says `Source:`, a docstring names the route that a call uses.
napoleon_custom_sections = [("Source", "notes")]
napoleon_use_ivar = True

_WORD = re.compile(r"(?<!`)`([^`]+)`(?!`)(\w?)")


def _mark_code(_app: object, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Show what stands between backticks as code: docstrings are written for `help()`, where that is plain text."""
    text = _WORD.sub(lambda match: f"``{match[1]}``" + (f"\\ {match[2]}" if match[2] else ""), "\n".join(lines))
    lines[:] = text.split("\n")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _mark_code)
