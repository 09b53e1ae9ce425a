"""Sphinx: `make docs` builds these pages into docs/_build, to be read without a network."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from rankward import __version__  # noqa: E402

project = "Rankward"
author = "the Rankward team"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "_mathml", "_generated"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "reading_a_sweep.py"]
suppress_warnings = ["misc.highlighting_failure"]
nb_execution_mode = "force"  # of notebook.md: outputs are never older than the code
nb_execution_in_temp = nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_output_stderr = "remove"  # progress

html_theme = "furo"
html_title = f"Rankward {version}"
html_static_path = ["_static"]
html_css_files = ["rankward.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_search_summary = False  # summaries would be fetched, which a page opened as a file may not
templates_path: list[str] = []
pygments_style, pygments_dark_style = "tango", "github-dark"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring, napoleon_numpy_docstring = True, False
default_role = "code"  # docstrings name things in single backticks
