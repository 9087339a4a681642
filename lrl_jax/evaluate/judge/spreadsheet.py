"""Reads questions from the first sheet of an .xlsx file: a column of ids and one of questions.

The heading is in any language: columns are told by their order. Only texts and numbers are read;
formulas, and whatever else a sheet can hold, are not.
"""

from collections.abc import Iterator
import io
import re
from typing import Any
import xml.etree.ElementTree as ET
import zipfile

from lrl_jax import storage
from lrl_jax.text import DataError

SHEET, STRINGS = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"
MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
MOST_BYTES = 64 << 20  # of the file, and of a member once it is unpacked


def records(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the place, the id and the question of every row with a number in its first column.

    Raises:
      DataError: no spreadsheet, or one without such a row.
    """
    empty = True
    for number, cells in enumerate(_rows(path), start=1):
        first, second = cells.get("A", ""), cells.get("B", "")
        if re.fullmatch(r"\d+(\.0+)?", first.strip()):
            empty = False
            yield f"{path}, row {number}", {"id": int(float(first)), "question": second}
    if empty:
        raise DataError(f"{path}: no row with a number in column A and a question in column B")


def _rows(path: str) -> Iterator[dict[str, str]]:
    """Yields the cells of each row: the letter of a column -> its text."""
    try:
        with zipfile.ZipFile(io.BytesIO(storage.read_bytes(path, MOST_BYTES))) as archive:
            sheet = _parsed(archive, SHEET)
            has_strings = STRINGS in archive.namelist()
            strings = [_text(item) for item in _parsed(archive, STRINGS)] if has_strings else []
    except (zipfile.BadZipFile, KeyError, ET.ParseError, ValueError, NotImplementedError) as e:
        raise DataError(f"{path}: is no .xlsx file with a sheet ({e})") from None
    for row in sheet.iter(f"{MAIN}row"):
        yield {
            re.sub(r"\d+", "", cell.get("r", "")): _value(cell, strings)
            for cell in row.iter(f"{MAIN}c")
        }


def _parsed(archive: zipfile.ZipFile, name: str) -> ET.Element:
    with archive.open(name) as member:
        data = member.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES or b"<!DOCTYPE" in data:
        raise ValueError(f"{name} is too large, or has a document type")
    return ET.fromstring(data)


def _value(cell: ET.Element, strings: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return _text(cell)
    value = cell.findtext(f"{MAIN}v", "")
    if cell.get("t") == "s":
        return strings[int(value)] if value.isdecimal() and int(value) < len(strings) else ""
    return value


def _text(element: ET.Element) -> str:
    return "".join(piece.text or "" for piece in element.iter(f"{MAIN}t"))
