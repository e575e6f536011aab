"""Sphinx's settings; ``make docs`` builds the pages into docs/_build."""

import re
from typing import Any

project = "seal-env"
author = "The seal-env authors"
project_copyright = "2026, The seal-env authors"

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "seal-env"


def setup(app: Any) -> None:
    """Lets pages link to Markdown outside of docs/: Sphinx knows no such page, and has the file."""
    app.connect("source-read", _link_to_files)


def _link_to_files(app: Any, name: str, source: list[str]) -> None:
    source[0] = re.sub(r"\]\((\.\./[^)#\s]+\.md)(#[^)\s]*)?\)", r"](path:\1)", source[0])
