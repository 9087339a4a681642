"""Prints on the terminal what files and people say, as plain text that commands nothing.

    console(stderr=True).print("data: [/b] is a folder")     brackets are never markup
    visible("\\x1b[2J")                                       '\\\\x1b[2J'

Corpora, prompts and names come from anyone. A terminal obeys control characters: they clear the
screen, write to the clipboard or reverse the order of what is read. They are shown instead.
"""

import functools
import logging
import re
from typing import Any

from rich.console import (
    Console,
    ConsoleOptions,
    ConsoleRenderable,
    RenderHook,
    RenderResult,
)
from rich.segment import Segment
from rich.text import Text

# C0 without tab and newline, DEL, C1, line and paragraph separators, and what overrides the
# direction of text; the joiners and direction marks that scripts need are left alone.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Returns the text with every control character written as an escape; CRLF becomes a newline.

    >>> visible("a\\tb\\r\\nc\\x07\\u202e")
    'a\\tb\\nc\\\\x07\\\\u202e'
    """
    return CONTROL.sub(_escape, text.replace("\r\n", "\n"))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def console(stderr: bool = False, **settings: Any) -> Console:
    """Returns a console for which text is neither markup nor emoji nor control characters."""
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False, **settings)
    made.push_render_hook(_Hook())
    return made


def styled(*parts: str | tuple[str, str]) -> Text:
    """Returns a line of parts, each a text or a text with its style."""
    texts = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((visible(text), style) for text, style in texts))


class _Hook(RenderHook):
    """Makes a console print the visible form of everything; rich calls it."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Visible(item) for item in renderables]


class _Visible:
    """Renders something with its control characters shown; the console's own commands remain."""

    def __init__(self, item: ConsoleRenderable):
        self._item = item

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._item, options):
            plain = segment.control or not CONTROL.search(segment.text)
            yield segment if plain else Segment(visible(segment.text), segment.style)


class _Formatter(logging.Formatter):
    """Formats a log record as one text without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


@functools.cache
def show_logs_visibly() -> None:
    """Makes warnings of libraries and of ours print without control characters."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Formatter())
