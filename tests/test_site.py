"""The site of the docs: every page has its place and a first sentence, and errors are as raised."""

import ast
import importlib.util
from pathlib import Path
import re
import subprocess
import sys

import pytest

from scripts.site import errors, troubleshooting

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md"))


def load_conf():
    spec = importlib.util.spec_from_file_location("conf_of_docs", DOCS / "conf.py")
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    return conf


CONF = load_conf()


def toctree(page):
    """The pages that a page lists, as paths."""
    for block in re.findall(r"(?ms)^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8")):
        for entry in block.splitlines():
            if entry and not entry.startswith(":"):
                yield from DOCS.glob(f"{entry}.md")


def test_every_page_is_in_one_toctree_and_every_entry_is_a_page():
    listed = [path for page in PAGES for path in toctree(page)]
    assert sorted([*listed, DOCS / "index.md"]) == PAGES
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"(?ms)^```\{toctree\}\n(.*?)^```", text):
            for entry in filter(None, block.splitlines()):
                assert entry.startswith(":") or [*DOCS.glob(f"{entry}.md")], entry


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_opens_with_a_sentence(page):
    text = re.sub(r"(?s)<!--.*?-->", "", page.read_text(encoding="utf-8")).lstrip()
    if text.startswith("```{include}"):
        return  # a page of the checkout
    title, _, rest = text.partition("\n")
    assert title.startswith("# "), title
    first = rest.strip().split("\n\n")[0]
    assert not re.match(r"[ `|#<-]{2}|\|", first), f"{page.name} begins with {first[:40]!r}"
    assert re.search(r"[.:]( |$)", first.replace("\n", " ")), first


def test_a_link_to_the_checkout_leads_to_a_page_or_to_a_copy():
    text = "[a](../README.md) [b](../configs/taco.yaml) [c](data.md#packing) [d](../tpu/README.md)"
    got = CONF.mended(text, "docs/x.md", "docs/x.md")
    assert got == (
        "[a](index.md) [b](../configs/taco.yaml) [c](data.md#packing) [d](path:../tpu/README.md)"
    )
    got = CONF.mended("[a](docs/data.md) [b](LICENSE)", "README.md", "docs/papers/x.md")
    assert got == "[a](../data.md) [b](../../LICENSE)"
    kept = "`x[0](y)` and [z](https://example.org/a)"
    assert CONF.mended(kept, "docs/x.md", "docs/x.md") == kept


def test_a_docstring_is_shown_as_it_stands():
    lines = ["Reads `a*` of *args | in_.", "", "    x = 1*2", "", ">>> f(*a)", "3_", "", "done_"]
    assert CONF.plain(lines) == [
        r"Reads ``a*`` of \*args \| in\_.", "", "::", "", "    x = 1*2", "", ">>> f(*a)", "3_", "",
        r"done\_",
    ]  # fmt: skip


SOURCE = """
LEAST = 3
class GoneError(ValueError):
    exit_code = 76
class LaterError(GoneError):
    def __init__(self, name):
        super().__init__(f"{name} comes later; wait for it")
class OtherError(Exception):
    def __init__(self, word):
        super().__init__(f"another process ended: {word}")
        self.exit_code = word["code"]
def refuse(path, rows):
    if rows:
        raise ValueError(f"{path}: {len(rows)} rows; want {LEAST} or more")
    text = f"{path.name} is gone" + ("; run it again" if rows else "")
    raise GoneError(text)
def both():
    raise GoneError(told())
def told():
    return f"no machine of {names()} is left"
def short(e):
    raise ValueError(f"{e}")
"""


def test_messages_are_read_with_their_values_named_and_their_codes():
    tree = ast.parse(SOURCE)
    got = {*errors.raised(tree, errors.exit_codes({Path("a.py"): tree}))}
    assert got == {
        ("<name> comes later; wait for it", 76),
        ("another process ended: <word>", errors.AS_IT_SAYS),
        ("<path>: <rows> rows; want 3 or more", 2),
        ("<name> is gone; run it again", 76),
        ("no machine of <names> is left", 76),
    }


def test_the_page_of_errors_is_as_the_source_says():
    got = troubleshooting.page(errors.messages(), *troubleshooting.advice())
    want = troubleshooting.PAGE.read_text(encoding="utf-8")
    assert got == want, "run: python -m scripts.site.troubleshooting"


def test_advice_on_a_message_that_is_gone_is_refused():
    stale = [troubleshooting.Advice("no such words", "do this")]
    with pytest.raises(ValueError, match="no such words"):
        troubleshooting.page([errors.Message("text", "is a folder; name a file", 3)], stale, [])


def test_messages_that_no_line_raises_are_in_the_source_too():
    source = " ".join(
        (ROOT / "lrl_jax" / path).read_text() for path in ("cli/codes.py", "devices/watchdog.py")
    )
    _, others = troubleshooting.advice()
    ours = [entry for entry in others if entry.code.startswith(("exit", "of the watchdog"))]
    assert len(ours) == 3
    for entry in ours:
        assert entry.words.split("...")[0].strip() in source, entry.words


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_needs_no_network(tmp_path):
    pytest.importorskip("furo", reason="needs sphinx, myst-parser and furo")
    options = ("-W", "--keep-going", "-n", "-q", "-b", "html", "-d", str(tmp_path / "trees"))
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path / "html")]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = [*(tmp_path / "html").rglob("*.html")]
    assert len(pages) > len(PAGES)
    for page in pages:
        fetched = re.findall(
            r'<(?:script|link|img)[^>]*(?:src|href)="(\w+:[^"]*)"', page.read_text()
        )
        assert not fetched, page
