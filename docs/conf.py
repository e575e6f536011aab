"""Sphinx's settings; ``make docs`` builds the pages into docs/_build."""

import re
import sys
from typing import Any

from docutils import nodes

project = "seal-env"
author = "The seal-env authors"
project_copyright = "2026, The seal-env authors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

# The reference is made from docstrings: Google style, fields documented below their names.
autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_custom_sections = [
    "Description",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Starting State",
    "Episode End",
    "Info",
    "Version History",
    "Dimensions",
]  # Gymnasium's, in the docstrings of environments; the engine's dimension letters
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
default_role = "literal"

html_theme = "furo"
html_title = "seal-env"

LINKED = re.compile(r"(?:seal_\w+\.)?[A-Z]\w+(?:\.\w+)*|seal_(?:env|agents)(?:\.\w+)+")
"""Names in backticks that become links: classes and their members, and whole import paths."""


def setup(app: Any) -> None:
    """Connects the functions below."""
    app.connect("source-read", _link_to_files)
    app.connect("autodoc-skip-member", _is_documented_with_its_package)
    app.connect("autodoc-process-signature", _name_factories)
    app.connect("autodoc-process-docstring", _keep_colons, priority=400)  # before napoleon's 500
    app.connect("doctree-resolved", _link_to_reference)


def _link_to_files(app: Any, name: str, source: list[str]) -> None:
    """Lets pages link to Markdown outside of docs/: Sphinx knows no such page, and has the file."""
    source[0] = re.sub(r"\]\((\.\./[^)#\s]+\.md)(#[^)\s]*)?\)", r"](path:\1)", source[0])


def _is_documented_with_its_package(
    app: Any, kind: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    """Leaves out of a module what its package offers: `seal_env.tasks.Task` has one entry."""
    module = app.env.current_document.autodoc_module
    package = sys.modules.get(module.rpartition(".")[0])
    return True if kind == "module" and name in getattr(package, "__all__", ()) else None


def _name_factories(
    app: Any, kind: str, name: str, value: Any, options: Any, signature: str | None, returns: Any
) -> tuple[str | None, Any]:
    """Writes ``<factory>``, the default of a dataclass's field, in a way that can be parsed."""
    return signature and signature.replace("<factory>", "..."), returns


def _keep_colons(
    app: Any, kind: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Keeps napoleon from taking what stands before a colon for the type of a field."""
    if kind in {"attribute", "data", "property"}:
        lines.insert(0, "\\")  # joined to the next line, and without a colon


def _link_to_reference(app: Any, tree: nodes.document, page: str) -> None:
    """Links names in backticks, on pages and in docstrings, to their entries in the reference."""
    objects = app.env.domains.python_domain.objects
    for node in list(tree.findall(nodes.literal)):
        name = node.astext().removesuffix("()")
        if isinstance(node.parent, nodes.reference) or not LINKED.fullmatch(name):
            continue
        ends = [objects[o] for o in objects if o == name or o.endswith(f".{name}")]
        found = {(entry.docname, entry.node_id) for entry in ends}
        if len(found) == 1:
            target, anchor = found.pop()
            address = app.builder.get_relative_uri(page, target) + f"#{anchor}"
            link = nodes.reference("", "", internal=True, refuri=address)
            node.replace_self(link)
            link += node


# Packages of adapters that cannot all be installed beside the others.
autodoc_mock_imports = [
    "nemo_gym",
    "nemo_rl",
    "openenv",
    "ray",
    "tinker",
    "tinker_cookbook",
    "verifiers",
]
