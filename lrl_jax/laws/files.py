"""Reads tables of points, and the files that fits of laws leave; refuses those that are none."""

from collections.abc import Iterable, Iterator
import csv
import math
import re
from typing import TypeVar

import pydantic

from lrl_jax import storage, text
from lrl_jax.recipe.vocab import Section

SEPARATORS = ",;\t"  # the first where a header has none of them
Content = TypeVar("Content", bound=Section)


def rows(path: str) -> tuple[list[str], str, Iterator[tuple[str, dict[str, str]]]]:
    """Returns the columns of a CSV, what separates its cells, and file:line and cells of each row.

    A comma, a semicolon or a tab separates cells; spaces around them are no part of them. Rows
    without a filled cell are left out.

    Raises:
      DataError: two columns have one name, or a row has more or fewer cells than the header.
    """
    lines = [*text.lines(path)]
    separator = max(SEPARATORS, key=next(filter(str.strip, lines), "").count)
    reader = csv.reader(lines, delimiter=separator)
    filled = ((reader.line_num, row) for row in map(_stripped, reader) if any(row))
    _, columns = next(filled, (0, []))
    names = [*columns[:1], *filter(None, columns[1:])]  # those of empty columns are empty
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise text.DataError(f"{path}: two columns are called {twice[0]!r}; give each its own name")
    return columns, separator, _rows(path, columns, filled)


def _stripped(row: list[str]) -> list[str]:
    return [cell.strip() for cell in row]


def _rows(
    path: str, columns: list[str], filled: Iterable[tuple[int, list[str]]]
) -> Iterator[tuple[str, dict[str, str]]]:
    for number, cells in filled:
        if len(cells) != len(columns):
            mend = (
                "write decimals with a point, and in quotes what has a separator in it"
                if len(cells) > len(columns)
                else "leave cells empty but not out, or fetch the file again if it is cut short"
            )
            raise text.DataError(
                f"{path}:{number}: has {len(cells)} cells, and the header {len(columns)}; {mend}"
            )
        yield f"{path}:{number}", dict(zip(columns, cells, strict=True))


def number(cell: str, separator: str, most: float = math.inf) -> float:
    """Returns the number in a cell; where no commas separate cells, one is a decimal point.

    >>> number("10.5", ","), number("10,5", ";"), number("31,512", ";", most=100)
    (10.5, 10.5, 31.512)

    Args:
      most: what the number may be at most, which tells 31.512 from 31512.

    Raises:
      ValueError: it is no number, or one that countries read differently (10.500).
    """
    if separator == ",":
        return float(cell)
    if re.fullmatch(r"[1-9]\d{0,2}([.,]\d{3})+", cell) and int(re.sub("[.,]", "", cell)) <= most:
        raise ValueError(f"{cell}: thousands or a decimal point? Write it without either")
    return float(cell.replace(",", "."))


def read(path: str, content: type[Content], name: str, made_by: str) -> Content:
    """Returns what a file says; DataError if it is absent or of another form.

    Args:
      content: what the file holds.
      name: what it is called where a fit writes it.
      made_by: the command that does.
    """
    try:
        return content.model_validate_json(storage.read_bytes(path, storage.JSON_BYTES))
    except FileNotFoundError:
        raise text.DataError(f"{path}: no such file; make it: {made_by}") from None
    except pydantic.ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise text.DataError(f"{path}: is no {name}: {where} {first['msg']}") from None
