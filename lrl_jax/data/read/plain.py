"""Tells text from files that only pass for it, and reads lines that are text as they stand.

    for line in lines("corpus/*.txt.gz"): ...      tables, JSON, XML and web pages are refused
    mistaken("part-00000")                         Look("JSON lines", "jsonl", "write its ...")

Text may hold brackets, tags and quote marks anywhere. What the first lines tell is told by most of
them, so that a single line of another kind changes nothing.
"""

from collections.abc import Iterator
import csv
import itertools
import json
import re
from typing import NamedTuple

from etils import epath

from lrl_jax import storage, text
from lrl_jax.data import unpack
from lrl_jax.data.read import files

HEAD = 64 << 10  # bytes, unpacked, from which JSON over several lines and XML are known
LOOK = 20  # lines from which JSON lines are known
TABLE = 3  # lines whose cells are counted
TABS = 3  # least lines from which a table is known by its tabs alone
SLACK = 8  # characters; where JSON is cut, an error is found as far from the cut at most
ALONE = "write its texts alone to a .txt file"
# Roots of XML that is often without a declaration: dumps of Wikipedia, memories of translations.
ROOTS = ("mediawiki", "tmx", "tei", "teicorpus", "xliff")
SGML = ("refset", "srcset", "tstset", "mteval")  # roots of WMT's files of test sentences
MARKUP = re.compile(
    r"\s*(?P<declared><\?xml\b.*?\?>)?\s*(?:(?:<!--.*?-->|<\?.*?\?>|(?P<type><!DOCTYPE[^>\[]*"
    r"(?:\[.*?\])?\s*>))\s*)*(?:<(?:[\w.-]+:)?(?P<root>[\w.-]+))?",
    re.DOTALL | re.IGNORECASE,
)
NO_SPACE = re.compile(r"\S")


class Look(NamedTuple):
    """Says what a file looks like that is no text as it stands.

    Attributes:
      what: as it is called in messages.
      form: the format in which datasets read it; '' where they read it in none.
      mend: what to do with it where only text can be read.
    """

    what: str
    form: str = ""
    mend: str = ALONE


# What begins a file that programs read; and lines of it, where they begin it only as a rule.
MARKED = {
    r"\{\\rtf\d": Look("RTF", mend="save it as plain text, in UTF-8"),
    r"WEBVTT\b": Look("subtitles (WebVTT)"),
    r"\s*\d+\s*\n\d+:\d\d:\d\d[,.]\d+ --> ": Look("subtitles (SRT)"),
    r"(?:[ \t]*(?:#.*)?\n)*(?:msgctxt .*\n)?msgid \".*\n(?:\".*\n)*(?:msgid_plural|msgstr)\b":
        Look("translations of a program (PO)"),
    r"(?:#.*\n)*\d+(?:-\d+)?(?:\t[^\t\n]+){9}\n": Look("annotated words (CoNLL-U)"),
}  # fmt: skip
PAGE = Look("a web page, such as a login form", mend="fetch the file while logged in")
ARCHIVE = Look("a web archive (WARC)")


def lines(*uris: str) -> Iterator[str]:
    """Yields the lines of files that are text as they stand, as `text.lines` does of any file.

    Raises:
      DataError: what that raises, and a file that is a table, JSON, XML or the like.
    """
    for file in itertools.chain.from_iterable(map(text.files, uris)):
        refuse(file)
        yield from text.lines(file)


def refuse_blank(uri: str) -> None:
    """Raises DataError for text that is blank lines alone, and for what `lines` refuses."""
    if not any(map(str.strip, lines(uri))):
        raise text.DataError(f"{uri}: holds no text, blank lines alone; name another file")


def refuse(file: str, given: str = "auto", otherwise: str = "") -> None:
    """Raises DataError for a file that is read line by line and is no text as it stands.

    Args:
      given: its format by the recipe; "auto" goes by its name.
      otherwise: what else can be done, for the message.
    """
    if (form := files.format_of(file, given)) != "text" and not file.startswith(text.SAMPLE):
        says = "name" if given == "auto" else "recipe"
        raise text.DataError(
            f"{file}: is {form} by its {says}, and is read as lines of text; {ALONE}{otherwise}"
        )
    if look := mistaken(file):
        raise text.DataError(
            f"{file}:1: looks like {look.what} and is read as lines of text; {look.mend}{otherwise}"
        )


# ---------------------------------------------------------------------------- looks
def mistaken(file: str) -> Look | None:
    """Returns what a file looks like that is no text as it stands; None if it is text.

    A table is known by one more suffix before the last and by cells that are as many in each of
    its first lines (`a.csv.txt`), or by as many tabs within each of more of them; everything else
    by what it holds.
    """
    if file.startswith(text.SAMPLE):
        return None
    with text.opened(epath.Path(file)) as f:
        head, whole = f.read(HEAD), not f.read(1)
    if head.startswith(b"PAR1"):
        return Look("Parquet", "parquet")
    if re.match(rb"WARC/\d", head):
        return ARCHIVE
    begin = head.decode("utf-16" if head.startswith(text.UTF_16) else "utf-8-sig", "ignore")
    for mark, look in MARKED.items():
        if re.match(mark, begin.replace("\r\n", "\n")):
            return look
    return _markup(file, begin) or _json(file, begin, whole) or _table(file)


def _markup(file: str, head: str) -> Look | None:
    """Returns the look of XML and of web pages.

    Pages may be XML by their first line, and so are the errors of stores.
    """
    if not head.lstrip().startswith("<"):
        return None
    begin = MARKUP.match(head)
    assert begin is not None  # all of it is optional
    root, of_type = (begin["root"] or "").lower(), (begin["type"] or "").lower()
    is_page = root == "html" or "doctype html" in of_type
    if begin["declared"] and (is_page or root == "error"):
        return PAGE
    suffix = files.suffix(file).lower()
    if root in SGML or (suffix in (".sgm", ".sgml") and root):
        return Look("SGML")
    if begin["declared"] or root in ROOTS or (suffix == ".xml" and root and not is_page):
        return Look("TMX", "tmx") if root == "tmx" else Look("XML")
    return PAGE if storage.is_web_page(head.encode()) else None


def _json(file: str, head: str, whole: bool) -> Look | None:
    """Returns the look of JSON: lines of it, or a value over several lines."""
    if re.match(r"\s*\[\s*\{\s*\"", head):
        return Look("JSON", "json")
    first = (line for _, line in text.numbered(file) if isinstance(line, text.Bad) or line.strip())
    shapes = [_shape(line) for line in itertools.islice(first, LOOK)]
    if 2 * shapes.count("object") > len(shapes):
        return Look("JSON lines", "jsonl")
    if head.lstrip()[:1] in ("{", "[") and (count := _values(head, whole)):
        is_object = head.lstrip().startswith("{")
        return Look("JSON", "json" if is_object and count == 1 else "")
    if 2 * sum(shape in ("object", "list") for shape in shapes) > len(shapes):
        return Look("lists of JSON")
    if "escaped" in shapes and {*shapes} <= {"string", "escaped"}:
        return Look("strings of JSON")
    return None


def _shape(line: str | text.Bad) -> str:
    """Returns what a line is as JSON; "" if it is none, or text as likely.

    A line of dialogue in quote marks is a string, so only one with an escape says something.

    >>> [_shape(line) for line in ('{"a": 1}', '["a"]', "[1]", '"Yes."', r'"a\\n"', "[Verse]")]
    ['object', 'list', '', 'string', 'escaped', '']
    """
    if isinstance(line, text.Bad) or line.lstrip()[:1] not in ("{", "[", '"'):
        return ""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    if isinstance(value, str):
        return "escaped" if "\\" in line else "string"
    return ("object" if isinstance(value, dict) else "list") if _is_data(value) else ""


def _is_data(value: object) -> bool:
    """Tells whether a value is an object or a list; `[1]` is as likely the number of a note."""
    is_note = isinstance(value, list) and (not value or (len(value) == 1 and _is_number(value[0])))
    return isinstance(value, dict | list) and not is_note


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _values(head: str, whole: bool) -> int:
    """Returns how many values of JSON a file begins with; 0 if something else is among them.

    Args:
      whole: whether the file ends here; the last value may else be cut.
    """
    decoder, count, at = json.JSONDecoder(), 0, _after_space(head, 0)
    while at < len(head):
        count += 1
        try:
            value, at = decoder.raw_decode(head, at)
        except RecursionError:
            return 0
        except json.JSONDecodeError as e:
            is_cut = e.msg.startswith("Unterminated") or e.pos >= len(head) - SLACK
            return count if is_cut and not whole else 0
        if not _is_data(value):
            return 0
        at = _after_space(head, at)
    return count


def _after_space(head: str, at: int) -> int:
    match = NO_SPACE.search(head, at)
    return match.start() if match else len(head)


def _table(file: str) -> Look | None:
    """Returns the look of a table: by its name and cells, or by tabs within all its first lines."""
    numbered = (line for _, line in text.numbered(file))
    lines = (line for line in numbered if isinstance(line, text.Bad) or line.strip())
    first = [str(line) for line in itertools.islice(lines, LOOK)]
    path = epath.Path(unpack.without_query(file))
    inner = path.suffix.lower() if path.suffix.lower() == ".tab" else epath.Path(path.stem).suffix
    form = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv"}.get(inner.lower(), "")
    if form:
        delimiter = "," if form == "csv" else "\t"
        cells = [len(row) for row in csv.reader(first[:TABLE], delimiter=delimiter)]
        if len(cells) > 1 and len({*cells}) == 1 and cells[0] != 1:
            return Look("a table", form)
    tabs = {line.strip().count("\t") for line in first}  # those before a line indent it
    if len(first) >= TABS and len(tabs) == 1 and 0 not in tabs:
        return Look(f"a table of {tabs.pop() + 1} columns between tabs", "tsv")
    return None
