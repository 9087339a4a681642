"""Gets fields of a row by column: a name, a path into nested values, or a position.

get = field("instances[0].output")
get({"instances": [{"output": "Yes."}]})        'Yes.'
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import decimal
import functools
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


def shown(names: Iterable[str]) -> str:
    """Returns names of columns for messages; in quotes where white space would not be seen.

    >>> shown(["id", " text"])
    "id, ' text'"
    """
    quoted = (name if name.strip() == name != "" else repr(name) for name in names)
    return ", ".join(quoted) or "none"


Read = Mapping[str, Any]  # steps of paths that are read, each with those inside of it


@functools.lru_cache
def steps_read(paths: tuple[str, ...]) -> Read:
    """Returns the steps of several paths as a tree; what is read as a whole has nothing inside.

    >>> steps_read(("a.b", "a[0].c", "d", "d.e"))
    {'a': {'0': {'c': {}}, 'b': {}}, 'd': {}}
    """
    tree: dict[str, Any] = {}
    for path in sorted(paths, key=lambda path: -len(STEP.findall(path))):
        inner = tree
        *outer, last = STEP.findall(path) or [path]
        for step in outer:
            inner = inner.setdefault(step, {})
        inner[last] = {}
    return tree


def beside(value: Any, read: Read, name: str) -> Iterator[tuple[str, Any]]:
    """Yields the path and the value of everything inside of `value` that no path of `read` meets.

    >>> [*beside({"b": "x", "c": [1]}, {"b": {}}, "a")]
    [('a.c', [1])]
    >>> [*beside(["x", "y", "z"], {"1": {}}, "a")]
    [('a[0]', 'x'), ('a[2:]', ['z'])]
    """
    if not read:
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            path = f"{name}.{key}"
            yield from beside(item, read[key], path) if key in read else [(path, item)]
    elif isinstance(value, list | tuple):
        end = 1 + max((int(step) for step in read if step.isdecimal()), default=-1)
        for i, item in enumerate(value[:end]):
            path = f"{name}[{i}]"
            yield from beside(item, read[str(i)], path) if str(i) in read else [(path, item)]
        yield f"{name}[{end}:]", value[end:]
    else:
        yield name, value


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
            raise UnusableError(f"has no field {column!r}; it has {shown(row)}")
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
