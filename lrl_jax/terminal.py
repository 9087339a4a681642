"""Prints on the terminal what files and people say, as plain text that commands nothing.

    console(stderr=True).print("data: [/b] is a folder")     brackets are never markup
    visible("\\x1b[2J")                                       '\\\\x1b[2J'

Corpora, prompts and names come from anyone. A terminal obeys control characters: they clear the
screen, write to the clipboard or reverse the order of what is read. They are shown instead.
"""

from collections.abc import Collection, Iterator
import copy
import dataclasses
import functools
import logging
import os
import pathlib
import re
from typing import Any

from rich import box
from rich.console import (
    Console,
    ConsoleOptions,
    ConsoleRenderable,
    RenderHook,
    RenderResult,
)
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

# C0 without tab and newline, DEL, C1, line and paragraph separators, and what overrides the
# direction of text; the joiners and direction marks that scripts need are left alone.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

# `datasets` counts what is loaded, local files too, on a server of Amazon's.
QUIET = {"TRANSFORMERS_NO_ADVISORY_WARNINGS": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
# What libtpu asks a TPU machine for; without these it writes five lines where there is none.
NO_TPU = {"TPU_ACCELERATOR_TYPE": "v5litepod-16", "TPU_WORKER_HOSTNAMES": "localhost"}
DEVICES = "/sys/bus/pci/devices"
GOOGLE = "0x1ae0"  # as a vendor of such devices


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


class FittedTable(Table):
    """Prints a table in which no terminal is too narrow for a number or a path.

    Texts are wrapped. Where that leaves no room for all numbers, further columns follow below, each
    time beside the columns that name the row: those before the first number.

    Args:
      columns: headings, of which `numbers` are columns that are never wrapped.
    """

    LEAST = 8  # characters to which a column of text may shrink

    def __init__(self, *columns: str, numbers: Collection[str] = (), **settings: Any):
        settings = {"title_justify": "left", "box": box.SIMPLE_HEAD, **settings}
        super().__init__(**settings)
        for heading in columns:
            if heading in numbers:
                self.add_column(heading, justify="right", no_wrap=True)
            else:
                self.add_column(heading, overflow="fold")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        below = [*self._split(console, options)]
        for number, columns in enumerate(below):
            table = self._with(columns)
            table.title = self.title if not number else None
            table.caption = self.caption if columns is below[-1] else None
            yield from Table.__rich_console__(table, console, options)

    def _split(self, console: Console, options: ConsoleOptions) -> Iterator[list[Column]]:
        """Yields the columns of each table that fits the terminal."""
        names = next((i for i, c in enumerate(self.columns) if c.no_wrap), len(self.columns))
        shown = self.columns[:names]
        for column in self.columns[names:]:
            if len(shown) > names and not self._fits([*shown, column], console, options):
                yield shown
                shown = self.columns[:names]
            shown = [*shown, column]
        yield shown

    def _fits(self, columns: list[Column], console: Console, options: ConsoleOptions) -> bool:
        table, need = self._with(columns), 0
        for column in table.columns:
            width = table._measure_column(console, options, column).maximum
            need += width if column.no_wrap else min(width, self.LEAST)
        return need + table._extra_width <= options.max_width

    def _with(self, columns: list[Column]) -> Table:
        table = copy.copy(self)
        table.columns = [dataclasses.replace(c, _index=i) for i, c in enumerate(columns)]
        return table


class _Formatter(logging.Formatter):
    """Formats a log record as one text without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


@functools.cache
def show_logs_visibly() -> None:
    """Makes warnings of libraries and of ours print without control characters."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Formatter())


@functools.cache
def quiet_libraries() -> None:
    """Keeps libraries from reporting what is no news: that there is no PyTorch, and no TPU.

    They report nothing to their makers either. Call it before they are imported. It sets their
    environment variables, unless these are set.
    """
    quiet = dict(QUIET)
    vendors = pathlib.Path(DEVICES).glob("*/vendor")
    if not any(vendor.read_text().strip() == GOOGLE for vendor in vendors):
        quiet |= NO_TPU
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
