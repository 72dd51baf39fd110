"""Sphinx: `make docs`. Pages are Markdown that reads well without it; the API reference is made from docstrings."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import lhc_ref

project, author, copyright = "lhc", "The lhc contributors", "The lhc contributors"
version = release = lhc_ref.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode"]
templates_path = ["_templates"]
smartquotes = False
html_theme = "furo"
html_title = "lhc"
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]
pygments_style, pygments_dark_style = "friendly", "monokai"
myst_heading_anchors = 3

default_role = "literal"  # docstrings mark code as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # dtypes and shapes stand in the docstrings
autodoc_preserve_defaults = True
add_module_names = False

CONTENTS = {
    "Learn": ("patterns", "learning", "first-net", "training", "models", "related"),
    "Run": ("runtime", "commands", "onnx", "from-deepsparse", "gpu"),
    "Check": ("check", "gradients"),
    "Measured": ("benchmarks", "bench", "cifar10"),
    "Look up": ("model-file", "api"),
}
"""The pages in the order of the sidebar. One that is not here comes under "More"; one that is not there is left out."""


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Append the tables of contents to the first page, which reads well without them."""
    if page != "index":
        return
    pages = {path.stem for path in Path(app.srcdir).iterdir() if path.suffix in (".md", ".rst")} - {"index"}
    listed = {name for names in CONTENTS.values() for name in names}
    for caption, names in {**CONTENTS, "More": sorted(pages - listed)}.items():
        there = "\n".join(name for name in names if name in pages)
        if there:
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{there}\n```\n"


def to_rst(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Our docstrings as reStructuredText.

    They are NumPy's in their sections; in their texts Markdown's in little: code between backticks, indented blocks.
    """
    lines[:] = list(_sections(_escaped("\n".join(lines)).split("\n")))


def _escaped(text: str) -> str:
    """Bars outside of code, as in |w|, would stand for substitutions."""
    parts = text.split("`")
    return "`".join(part.replace("|", r"\|") if i % 2 == 0 else part for i, part in enumerate(parts))


def _sections(lines: list[str]) -> Iterator[str]:
    """Headings as rubrics, `name : text` in a list as list items, indented blocks of texts as code."""
    in_list = in_code = False
    before = ""
    for line, after in pairwise([*lines, ""]):
        if re.fullmatch("-{3,}", after):
            in_list = line in ("Parameters", "Attributes", "Raises")
            yield from ("", f".. rubric:: {line}", "")
        elif not re.fullmatch("-{3,}", line):
            named, colon, text = line.partition(" : ")
            if in_list and re.fullmatch(r"[\w*.]+(, [\w*.]+)*", named):
                yield from ("", f"- ``{named}``{': ' * bool(colon)}{text}")
            elif in_list and line[:1] in ("", " "):
                yield f"  {line.strip()}"
            else:
                starts_code = line.startswith("    ") and not before.strip()
                if starts_code and not in_code:
                    yield from ("", "::", "")
                in_code = starts_code or (in_code and line[:1] in ("", " "))
                yield line.replace(r"\|", "|") if in_code else line
        before = line


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", to_rst)
