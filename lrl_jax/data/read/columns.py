"""Gets fields of a row by column: a name, a path into nested values, or a position.

get = field("instances[0].output")
get({"instances": [{"output": "Yes."}]})        'Yes.'
"""

from collections.abc import Callable, Mapping
import decimal
import math
import re
from typing import Any

ABSENT: Any = object()
STEP = re.compile(r"[^.\[\]]+")


class UnusableError(ValueError):
    """Says why a row gives no record; `reason` is the name under which the report counts it."""

    def __init__(self, why: str, reason: str = "unreadable"):
        super().__init__(why)
        self.reason = reason


def lookup(row: Mapping[str, Any], column: str) -> Any:
    """Returns the value at a column, or ABSENT.

    A column of exactly that name comes before a path into nested values.

    >>> lookup({"a": {"b": ["c"]}, "d.e": 1}, "a.b.0"), lookup({"d.e": 1}, "d.e")
    ('c', 1)
    """
    if column in row:
        return row[column]
    value: Any = row
    for step in STEP.findall(column):
        if isinstance(value, Mapping):
            value = value.get(step, ABSENT)
        elif isinstance(value, list | tuple) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return ABSENT
    return value


def field(
    column: str, optional: bool = False, empty: bool = False
) -> Callable[[Mapping[str, Any]], str]:
    """Returns a function from a row to the text of a column, which raises UnusableError.

    An `optional` column that is absent or null gives ''; with `empty` the text may be blank or
    null.
    """

    def get(row: Mapping[str, Any]) -> str:
        value = row[column] if column in row else lookup(row, column)
        if (optional and value is ABSENT) or ((optional or empty) and is_null(value)):
            return ""
        if is_null(value):
            raise UnusableError(f"field {column!r} is null", "empty")
        if value is ABSENT:
            raise UnusableError(f"has no field {column!r}; it has {', '.join(row) or 'none'}")
        text = string(value, column)
        if not empty and (not text or text.isspace()):
            raise UnusableError(f"field {column!r} is empty", "empty")
        return text

    return get


def is_null(value: Any) -> bool:
    """Tells whether a value stands for none: null, or NaN, which is how pandas writes it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def string(value: Any, name: str) -> str:
    """Returns a value as text; UnusableError if it is none, or one that no UTF-8 file can hold.

    Whole numbers and decimals are text too. Others are not: how they were written is not known.
    """
    if isinstance(value, int | decimal.Decimal) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as e:
            raise UnusableError(f"field {name!r} is not UTF-8 at byte {e.start}") from None
    if not isinstance(value, str):
        more = ""
        if isinstance(value, float):
            more = "; 42 may be stored as 42.0: write numbers as they are to be read, as text"
        raise UnusableError(f"field {name!r} must be a string; got {str(value)[:60]!r}{more}")
    if "\0" in value:
        raise UnusableError(f"field {name!r} holds a NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnusableError(f"field {name!r} holds half a surrogate pair") from None
    return value
