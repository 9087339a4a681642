"""Changes a YAML text in place, and marks the lines that differ by a comment at their end."""

from collections.abc import Iterator
import itertools


class Marked:
    """Collects changes of a text, and yields its lines with all of them.

    >>> text = Marked("a: Korean\\nb: 1", "npi_Deva")
    >>> text.replace(3, 9, "Nepali")
    >>> text.look(text.line_at(13), "chosen for Korean")
    >>> print(*(line for line, _ in text.lines()), sep="\\n")
    a: Nepali  # npi_Deva
    b: 1  # npi_Deva, look: chosen for Korean
    """

    def __init__(self, source: str, mark: str):
        self._lines, self._mark = source.splitlines(), mark
        lengths = [len(line) for line in source.splitlines(keepends=True)]
        self._starts = [0, *itertools.accumulate(lengths)][: len(lengths)]
        self._pieces: dict[int, list[tuple[int, int, str]]] = {}  # line -> columns, new text
        self._reasons: dict[int, list[str]] = {}
        self._commented: set[int] = set()
        self._added: dict[int, list[str]] = {}

    def line_at(self, place: int) -> int:
        """Returns the index of the line that holds a character of the source."""
        return max(sum(start <= place for start in self._starts) - 1, 0)

    def replace(self, start: int, end: int, text: str, marked: int | None = None) -> None:
        """Writes `text` in place of characters of one line; the mark goes to `marked`, or there."""
        line = self.line_at(start)
        columns = start - self._starts[line], end - self._starts[line]
        self._pieces.setdefault(line, []).append((*columns, text))
        self._reasons.setdefault(line if marked is None else marked, [])

    def look(self, line: int, why: str) -> None:
        """Marks a line with what is to be decided there."""
        reasons = self._reasons.setdefault(line, [])
        if why not in reasons:
            reasons.append(why)

    def comment_out(self, first: int, last: int, why: str) -> None:
        """Turns lines into comments, the first of which says why."""
        for line in range(first, last + 1):
            self._commented.add(line)
            self._reasons.setdefault(line, [])
        self.look(first, why)

    def add_below(self, line: int, text: str) -> None:
        """Adds a line below another one."""
        self._added.setdefault(line, []).append(text)

    def lines(self) -> Iterator[tuple[str, str | None]]:
        """Yields each line, and what is to be decided there; None where it is as it was."""
        for i, line in enumerate(self._lines):
            for start, end, text in sorted(self._pieces.get(i, ()), reverse=True):
                line = line[:start] + text + line[end:]
            if i in self._commented:
                indent = len(line) - len(line.lstrip())
                line = f"{line[:indent]}# {line[indent:]}"
            if i in self._reasons:
                why = "; ".join(self._reasons[i])
                yield f"{line}  # {self._mark}" + (f", look: {why}" if why else ""), why
            else:
                yield line, None
            for added in self._added.get(i, ()):
                yield f"{added}  # {self._mark}", ""
