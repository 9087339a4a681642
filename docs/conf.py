"""Builds the site of these pages: `make docs`, then open build/docs/index.html.

The pages are Markdown that also reads well in a checkout. The site adds a page of the API, from
docstrings, and the files of the checkout that pages link to.
"""

import os
from pathlib import Path
import re
import sys
import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a test reads this file where Sphinx is not installed
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "lrl_jax"
author = "The lrl_jax authors"
copyright = f"2026, {author}"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["notebooks/*"]
myst_heading_anchors = 3
highlight_language = "none"
# Types in signatures are those of other libraries, or of rooms without a page. No page of ours
# refers to Python objects by a role, so nothing else is passed over.
nitpick_ignore_regex = [("py:.*", ".*")]

html_theme = "furo"
html_title = f"lrl_jax {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False

# Pages of the checkout that a page of docs/ includes, so that links to them lead there.
INCLUDED = {
    "README.md": "docs/index.md",
    "CHANGELOG.md": "docs/changes.md",
    "CONTRIBUTING.md": "docs/contributing.md",
    "SECURITY.md": "docs/security.md",
    "docs/decisions": "docs/decisions.md",
}


def setup(app: "Sphinx") -> None:
    """Has links to files of the checkout lead to pages of the site, or to copies of the files."""
    app.connect("source-read", read_page)
    app.connect("include-read", read_included)
    app.connect("autodoc-process-docstring", read_docstring, priority=400)  # before napoleon


def read_page(_: "Sphinx", name: str, content: list[str]) -> None:
    """Mends the links of a page of docs/."""
    page = f"docs/{name}.md"
    content[0] = mended(content[0], page, page)


def read_included(_: "Sphinx", path: Path, page: str, content: list[str]) -> None:
    """Mends the links of a file that a page includes."""
    included = os.path.relpath(path if path.is_absolute() else ROOT / "docs" / path, ROOT)
    content[0] = mended(content[0], included, f"docs/{page}.md")


def read_docstring(*given: object) -> None:
    """Has a docstring, the list of lines that is given last, read as the plain text that it is."""
    lines = given[-1]
    assert isinstance(lines, list)
    lines[:] = plain(lines)


def plain(lines: list[str]) -> list[str]:
    """Returns reStructuredText that shows the lines of a docstring as they stand.

    A paragraph that is indented by four is shown as code; doctests are left alone; in anything else
    no sign but the backtick means something.
    """
    shown, code, doctest = [], False, False
    for before, line in zip(["", *lines], lines, strict=False):
        opens = not before.strip() and line.startswith("    ")
        if opens and not code:
            shown += ["::", ""]
        code = opens or (code and (line.startswith("    ") or not line.strip()))
        doctest = line.lstrip().startswith(">>>") or (doctest and bool(line.strip()))
        shown.append(line if code or doctest else escaped(line))
    return shown


def escaped(line: str) -> str:
    """Returns a line of prose for reStructuredText.

    >>> escaped("`a*` is *args or in_ | out")
    '``a*`` is \\\\*args or in\\\\_ \\\\| out'
    """
    prose = re.split(r"(`[^`]+`)", line)
    prose[1::2] = [f"`{span}`" for span in prose[1::2]]
    prose[::2] = [re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", text) for text in prose[::2]]
    return "".join(prose)


def mended(text: str, source: str, page: str) -> str:
    """Returns a text whose links are as a page of the site needs them.

    Args:
      source: the file that links are relative to, from the root of the checkout.
      page: the page of docs/ on which the text stands.
    """

    def link(found: re.Match) -> str:
        target, anchor = found[1], found[2] or ""
        place = os.path.normpath(Path(source).parent / target)
        if "://" in target or not (ROOT / place).exists():
            return found[0]
        place = INCLUDED.get(place, place)
        kind = "path:" if place.endswith(".md") and not place.startswith("docs/") else ""
        return f"]({kind}{os.path.relpath(place, Path(page).parent)}{anchor})"

    return re.sub(r"\]\(([^)#\s]+)(#[^)\s]*)?\)", link, text)
