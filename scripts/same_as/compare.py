"""Finds the first difference between what two checkouts left, and says where it is."""

from collections.abc import Mapping
import dataclasses

Value = str | bytes  # texts are compared by lines, bytes by place
SHOWN = 160  # characters of a line in a message


@dataclasses.dataclass(frozen=True)
class Result:
    """Holds the outcome of one check.

    Attributes:
      compared: what was compared, and how many of it.
      difference: the first one; empty if all is equal.
      expected: a difference was asked for, and does not count.
    """

    name: str
    compared: str
    difference: str = ""
    expected: bool = False

    @property
    def failed(self) -> bool:
        return bool(self.difference) and not self.expected

    def line(self) -> str:
        """Returns the result as a line of the output."""
        verdict = "expected" if self.expected else "DIFFERENT"
        if not self.difference:
            return f"equal     {self.name:<12} {self.compared}"
        return f"{verdict:<9} {self.name:<12} {self.difference}"


def first_difference(base: Mapping[str, Value], work: Mapping[str, Value]) -> str:
    """Returns where the two differ first, in the order of BASE, and in how many more places.

    Returns "" if they are equal; two empty ones are not, as nothing was compared.

    >>> first_difference({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"})
    "b: line 1 is '2' in BASE, '3' here (1 more place differs)"
    """
    if not base and not work:
        return "nothing was left to compare, neither by BASE nor here"
    places = [place for place in {**base, **work} if base.get(place) != work.get(place)]
    if not places:
        return ""
    first, more = places[0], len(places) - 1
    suffix = f" ({more:,} more {'place differs' if more == 1 else 'places differ'})" if more else ""
    if first not in base or first not in work:
        return f"{first}: only {'in BASE' if first in base else 'here'}{suffix}"
    return f"{first}: {_difference(base[first], work[first])}{suffix}"


def _difference(base: Value, work: Value) -> str:
    """Returns how two different values differ."""
    if isinstance(base, bytes) and isinstance(work, bytes):
        pairs = enumerate(zip(base, work, strict=False))
        place = next((i for i, (old, new) in pairs if old != new), min(len(base), len(work)))
        return f"byte {place:,} differs ({len(base):,} bytes in BASE, {len(work):,} here)"
    old_lines, new_lines = str(base).split("\n"), str(work).split("\n")
    for number, (old, new) in enumerate(zip(old_lines, new_lines, strict=False), start=1):
        if old != new:
            return f"line {number} is {old[:SHOWN]!r} in BASE, {new[:SHOWN]!r} here"
    return f"{len(old_lines)} lines in BASE, {len(new_lines)} here"
