"""Draws the figures of the fertility page as shapes, which a template writes as SVG.

Drawn by hand, not by matplotlib: every dot says on hover which language it is. Classes s0, s1 and
so on are colours of scripts, t0, t1 those of tokenizers; fertility.html.j2 defines both.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any, NamedTuple

WIDTH = 900  # units of the figure; the page scales it
LINE = 14  # height of a line of letters
TICKS = tuple(2.0**i for i in range(-6, 10))


class Shape(NamedTuple):
    """Describes an element of SVG; `text` is what it says, on hover where it is no text."""

    tag: str
    attributes: Mapping[str, Any]
    text: str = ""


class Picture(NamedTuple):
    """Holds a figure: its shapes, its height in units, and what it says to who cannot see it."""

    shapes: Sequence[Shape]
    height: int
    description: str
    width: int = WIDTH


@dataclasses.dataclass(frozen=True)
class Dot:
    """Describes one language: its name, value, and the colour of its script."""

    name: str
    value: float
    color: str


@dataclasses.dataclass(frozen=True)
class _Scale:
    """Maps values to units on a logarithmic axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        return [tick for tick in TICKS if self.low <= tick <= self.high]


def ranks(
    title: str, dots: Sequence[Dot], values: Sequence[float], marks: Sequence[float]
) -> Picture:
    """Draws languages from the cheapest to the dearest, a dot each, on a logarithmic axis.

    Args:
      values: all values of the page, so that figures below each other share an axis.
      marks: values at whose height the number of languages above is written.
    """
    top, bottom, left, right = 34, 270, 34, WIDTH - 96
    y = _Scale(0.85 * min(values), 1.15 * max(values), bottom, top)
    dots = sorted(dots, key=lambda dot: (dot.value, dot.name))
    step = (right - left - 24) / max(len(dots) - 1, 1)
    at = [(left + 12 + i * step, y(dot.value)) for i, dot in enumerate(dots)]
    shapes = [Shape("text", {"x": 0, "y": 16, "class": "title"}, title)]
    for tick in y.ticks():
        shapes.append(_line((left, y(tick)), (right, y(tick)), _grid(tick)))
        shapes.append(_label(left - 8, y(tick) + 4, f"{tick:g}", "end"))
        if tick in marks:
            above = sum(dot.value > tick for dot in dots)
            shapes.append(_label(right + 8, y(tick) + 4, f"{above} above {tick:g}", "start"))
    for (x, height), dot in zip(at, dots, strict=True):
        shapes.append(_circle(x, height, 3.4, dot.color, f"{dot.name}: {dot.value:.2f}"))
    free = 0.0
    for i in range(len(dots) - 1, max(len(dots) - 5, 0), -1):
        free = max(at[i][1] + 4, free + LINE)
        beside = min(x for x, height in at[1:] if x == at[i][0] or abs(height - free + 4) < 9)
        shapes.append(_label(beside - 9, free, f"{dots[i].name} {dots[i].value:.3g}", "end"))
    if dots:
        name = f"{dots[0].name} {dots[0].value:.3g}"
        shapes.append(_label(at[0][0] - 4, at[0][1] + 18, name, "start"))
    description = f"{title}: {len(dots)} languages from cheapest to dearest"
    return Picture(shapes, bottom + 22, description)


def bars(
    series: Mapping[str, Mapping[str, float]], colors: Mapping[str, str], unit: str
) -> Picture:
    """Draws horizontal bars: a group a language, a bar a tokenizer."""
    names = list(dict.fromkeys(name for values in series.values() for name in values))
    left, right = _margin(names), WIDTH - 60
    high = max(value for values in series.values() for value in values.values())
    shapes, y = [], 6.0
    for name in names:
        here = [(label, values[name]) for label, values in series.items() if name in values]
        shapes.append(_label(left - 10, y + 9 * len(here) + 4, name, "end", "name"))
        for label, value in here:
            width = max((right - left) * value / high, 1)
            box = {"x": f"{left}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": 14, "rx": 2}
            hover = f"{label}, {name}: {value:.3f} {unit}"
            shapes.append(Shape("rect", box | {"class": colors[label]}, hover))
            shapes.append(_label(left + width + 6, y + 11, f"{value:.2f}", "start", "value"))
            y += 18
        y += 12
    return Picture(shapes, math.ceil(y), _description(series, names, unit))


def spreads(
    series: Mapping[str, Mapping[str, float]], colors: Mapping[str, str], unit: str
) -> Picture:
    """Draws a line a name with a dot for each tokenizer, on a logarithmic axis."""
    names = list(dict.fromkeys(name for values in series.values() for name in values))
    numbers = [value for values in series.values() for value in values.values()]
    top, row, left = 26, 21, _margin(names)
    x = _Scale(0.9 * min(numbers), 1.1 * max(numbers), left, WIDTH - 30)
    bottom = top + row * len(names)
    shapes = []
    for tick in x.ticks():
        shapes.append(_line((x(tick), top - 8), (x(tick), bottom), _grid(tick)))
        shapes.append(_label(x(tick), top - 14, f"{tick:g}", "middle"))
    for i, name in enumerate(names):
        y = top + row * (i + 0.5)
        here = [(label, values[name]) for label, values in series.items() if name in values]
        ends = sorted(x(value) for _, value in here)
        shapes.append(_label(left - 12, y + 4, name, "end", "name"))
        shapes.append(_line((ends[0], y), (ends[-1], y), "span"))
        for label, value in here:
            hover = f"{label}, {name}: {value:.2f} {unit}"
            shapes.append(_circle(x(value), y, 5, colors[label], hover))
    return Picture(shapes, math.ceil(bottom + 6), _description(series, names, unit))


def _circle(x: float, y: float, radius: float, color: str, text: str) -> Shape:
    place = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{radius:g}"}
    return Shape("circle", place | {"class": color}, text)


def _line(start: tuple[float, float], end: tuple[float, float], kind: str) -> Shape:
    place = {"x1": start[0], "y1": start[1], "x2": end[0], "y2": end[1]}
    return Shape("line", {key: f"{value:.1f}" for key, value in place.items()} | {"class": kind})


def _grid(tick: float) -> str:
    return "grid strong" if tick == 1 else "grid"


def _label(x: float, y: float, text: str, anchor: str, kind: str | None = None) -> Shape:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "class": kind}
    return Shape("text", place, text)


def _margin(names: Sequence[str]) -> float:
    """Returns room for the longest name, letters being some 7 units wide."""
    return min(30 + 7.2 * max(map(len, names)), WIDTH / 3)


def _description(series: Mapping[str, Any], names: Sequence[str], unit: str) -> str:
    return f"{unit}, by {' and '.join(series)}, of {', '.join(names)}"
