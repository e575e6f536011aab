"""Sphinx's settings: ``pip install -e '.[docs]'``, then ``sphinx-build docs docs/_build``."""

project = "seal-env"
author = "The seal-env authors"
project_copyright = "2026, The seal-env authors"

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "seal-env"
