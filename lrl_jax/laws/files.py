"""Reads tables of points, and the files that fits of laws leave; refuses those that are none."""

import csv
import itertools
import re
from typing import TypeVar

import pydantic

from lrl_jax import storage, text
from lrl_jax.recipe.vocab import Section

SEPARATORS = ",;\t"  # the first where a header has none of them
Content = TypeVar("Content", bound=Section)


def rows(path: str) -> tuple[csv.DictReader, str]:
    """Returns the rows of a CSV, and what separates its cells: a comma, a semicolon or a tab."""
    lines = iter(text.lines(path))
    header = next(lines, "")
    separator = max(SEPARATORS, key=header.count)
    return csv.DictReader(itertools.chain([header], lines), delimiter=separator), separator


def number(cell: str, separator: str) -> float:
    """Returns the number in a cell; where no commas separate cells, one is a decimal point.

    >>> number("10.5", ","), number("10,5", ";")
    (10.5, 10.5)

    Raises:
      ValueError: it is no number, or one that countries read differently (10.500).
    """
    if separator == ",":
        return float(cell)
    if re.fullmatch(r"\s*\d{1,3}([.,]\d{3})+\s*", cell):
        raise ValueError(f"{cell.strip()}: thousands or a decimal point? Write it without either")
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
