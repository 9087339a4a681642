"""Reads documents of plain text: each is a line, a paragraph or a file."""

from collections.abc import Iterator
import itertools

from lrl_jax import text
from lrl_jax.data.read.files import Span


def texts(span: Span, documents: str) -> Iterator[dict[str, str] | text.Bad]:
    """Yields {"text": ...} for each document, or a Bad that says why it cannot be used.

    Args:
      documents: "lines", "paragraphs" (between blank lines) or "files".
    """
    if documents == "lines":
        for _, line in text.numbered(*span):
            if isinstance(line, text.Bad):
                yield line
            elif line and not line.isspace():
                yield {"text": line}
        return
    for group in _groups(span, whole=documents == "files"):
        yield from _joined(group, span)


Numbered = tuple[int, str | text.Bad]


def _groups(span: Span, whole: bool) -> Iterator[Iterator[Numbered]]:
    """Yields the lines of each document."""
    if whole:
        yield text.numbered(*span)
        return
    for blank, group in itertools.groupby(text.numbered(*span), _is_blank):
        if not blank:
            yield group


def _is_blank(numbered: Numbered) -> bool:
    line = numbered[1]
    return isinstance(line, str) and (not line or line.isspace())


def _joined(group: Iterator[Numbered], span: Span) -> Iterator[dict[str, str] | text.Bad]:
    lines: list[str] = []
    size = 0
    for number, line in group:
        size += len(line) + 1 if isinstance(line, str) else 0
        if size > text.LONGEST:
            line = text.Bad(
                text.place(span.uri, span.start, number),
                f"a document longer than {text.LONGEST >> 20} Mi characters; "
                "should each line be a document?",
            )
        if isinstance(line, text.Bad):
            yield line  # the rest of a bad document is not read
            return
        lines.append(line)
    document = "\n".join(lines).strip("\n")
    if document and not document.isspace():
        yield {"text": document}
