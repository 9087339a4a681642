"""Lays out the figures of the fertility page, which the macro `drawing` writes as SVG.

Not by matplotlib: every dot and bar says on hover which language it is. Classes s0, s1 and so on
are colours of scripts, t0, t1 those of tokenizers; fertility.html.j2 defines both.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
from typing import Any, NamedTuple

WIDTH = 900  # units of a figure; the page scales it
LINE = 14  # height of a line of letters
TICKS = tuple(2.0**i for i in range(-6, 10))

Series = Mapping[str, Mapping[str, float]]  # tokenizer -> language or script -> value


class Dot(NamedTuple):
    """Describes one language: its name, value, and the colour of its script."""

    name: str
    value: float
    color: str


@dataclasses.dataclass
class Picture:
    """Holds what a figure draws, in units, and what it says to who cannot see it.

    Attributes:
      lines: x and y of both ends, and the class.
      bars: x, y, width, the class, and what it says on hover.
      dots: x, y, radius, the class, and what it says on hover.
      labels: x, y, where the text is anchored, the class or None, and the text.
    """

    description: str
    height: int
    lines: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    bars: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    dots: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    labels: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    width: int = WIDTH


def ranks(
    title: str, dots: Sequence[Dot], values: Sequence[float], marks: Sequence[float]
) -> Picture:
    """Draws languages from the cheapest to the dearest, a dot each, on a logarithmic axis.

    Args:
      values: all values of the page, so that figures below each other share an axis.
      marks: values at whose height the number of languages above is written.
    """
    top, bottom, left, right = 34, 270, 34, WIDTH - 96
    description = f"{title}: {len(dots)} languages from cheapest to dearest"
    picture = Picture(description, bottom + 22, labels=[(0, 16, None, "title", title)])
    y, ticks = _logarithmic(0.85 * min(values), 1.15 * max(values), bottom, top)
    for tick in ticks:
        picture.lines.append((left, y(tick), right, y(tick), _grid(tick)))
        picture.labels.append((left - 8, y(tick) + 4, "end", None, f"{tick:g}"))
        if tick in marks:
            above = f"{sum(dot.value > tick for dot in dots)} above {tick:g}"
            picture.labels.append((right + 8, y(tick) + 4, "start", None, above))
    dots = sorted(dots, key=lambda dot: (dot.value, dot.name))
    step = (right - left - 24) / max(len(dots) - 1, 1)
    at = [(left + 12 + i * step, y(dot.value)) for i, dot in enumerate(dots)]
    for (x, height), dot in zip(at, dots, strict=True):
        picture.dots.append((x, height, 3.4, dot.color, f"{dot.name}: {dot.value:.2f}"))
    names = [f"{dot.name} {dot.value:.3g}" for dot in dots]
    free = 0.0
    for i in range(len(dots) - 1, max(len(dots) - 5, 0), -1):
        free = max(at[i][1] + 4, free + LINE)
        beside = min(x for x, height in at[1:] if x == at[i][0] or abs(height - free + 4) < 9)
        picture.labels.append((beside - 9, free, "end", None, names[i]))
    if dots:
        picture.labels.append((at[0][0] - 4, at[0][1] + 18, "start", None, names[0]))
    return picture


def bars(series: Series, colors: Mapping[str, str], unit: str) -> Picture:
    """Draws horizontal bars: a group a language, a bar a tokenizer."""
    names = _names(series)
    left, right = _margin(names), WIDTH - 60
    high = max(value for values in series.values() for value in values.values())
    group = 18 * len(series) + 12
    picture = Picture(_description(series, unit), 6 + group * len(names))
    for i, name in enumerate(names):
        top = 6 + group * i
        picture.labels.append((left - 10, top + 9 * len(series) + 4, "end", "name", name))
        for j, (tokenizer, values) in enumerate(series.items()):
            if name not in values:
                continue
            y, value = top + 18 * j, values[name]
            width = max((right - left) * value / high, 1)
            hover = f"{tokenizer}, {name}: {value:.3f} {unit}"
            picture.bars.append((left, y, width, colors[tokenizer], hover))
            picture.labels.append((left + width + 6, y + 11, "start", "value", f"{value:.2f}"))
    return picture


def spreads(series: Series, colors: Mapping[str, str], unit: str) -> Picture:
    """Draws a line a name with a dot for each tokenizer, on a logarithmic axis."""
    names = _names(series)
    numbers = [value for values in series.values() for value in values.values()]
    top, row, left = 26, 21, _margin(names)
    bottom = top + row * len(names)
    picture = Picture(_description(series, unit), bottom + 6)
    x, ticks = _logarithmic(0.9 * min(numbers), 1.1 * max(numbers), left, WIDTH - 30)
    for tick in ticks:
        picture.lines.append((x(tick), top - 8, x(tick), bottom, _grid(tick)))
        picture.labels.append((x(tick), top - 14, "middle", None, f"{tick:g}"))
    for i, name in enumerate(names):
        y = top + row * (i + 0.5)
        having = {tokenizer: values for tokenizer, values in series.items() if name in values}
        ends = [x(values[name]) for values in having.values()]
        picture.labels.append((left - 12, y + 4, "end", "name", name))
        picture.lines.append((min(ends), y, max(ends), y, "span"))
        for (tokenizer, values), end in zip(having.items(), ends, strict=True):
            hover = f"{tokenizer}, {name}: {values[name]:.2f} {unit}"
            picture.dots.append((end, y, 5, colors[tokenizer], hover))
    return picture


def _logarithmic(
    low: float, high: float, start: float, end: float
) -> tuple[Callable[[float], float], list[float]]:
    """Returns what maps values from low to high to units from start to end, and the ticks."""
    units_per_log = (end - start) / math.log(high / low)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    return lambda value: start + units_per_log * math.log(value / low), ticks


def _grid(tick: float) -> str:
    return "grid strong" if tick == 1 else "grid"


def _names(series: Series) -> list[str]:
    """Returns the names that any series has; what is not compared has no value in some."""
    return list(dict.fromkeys(name for values in series.values() for name in values))


def _margin(names: Sequence[str]) -> float:
    """Returns room for the longest name, letters being some 7 units wide."""
    return min(30 + 7.2 * max(map(len, names)), WIDTH / 3)


def _description(series: Series, unit: str) -> str:
    return f"{unit}, by {' and '.join(series)}, of {', '.join(_names(series))}"
