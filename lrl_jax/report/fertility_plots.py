"""The figures of the fertility page, as SVG elements that take their colours from the page.

Written by hand, not by matplotlib: every dot says on hover which language it is. Classes s0, s1
and so on are colours of scripts, t0, t1 those of tokenizers; `fertility_page` defines both.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math

from lrl_jax.report.markup import Html, h

WIDTH = 900  # units of the figure; the page scales it
LINE = 14  # height of a line of letters
TICKS = tuple(2.0**i for i in range(-6, 10))


@dataclasses.dataclass(frozen=True)
class Dot:
    """One language: its name, value, and the colour of its script."""

    name: str
    value: float
    color: str


@dataclasses.dataclass(frozen=True)
class _Scale:
    """A logarithmic axis from values to units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        return [tick for tick in TICKS if self.low <= tick <= self.high]


def ranks(title: str, dots: Sequence[Dot], values: Sequence[float], marks: Sequence[float]) -> Html:
    """Languages from the cheapest to the dearest, a dot each, on a logarithmic axis.

    Args:
      values: all values of the page, so that figures below each other share an axis.
      marks: values at whose height the number of languages above is written.
    """
    top, bottom, left, right = 34, 270, 34, WIDTH - 96
    y = _Scale(0.85 * min(values), 1.15 * max(values), bottom, top)
    dots = sorted(dots, key=lambda dot: (dot.value, dot.name))
    step = (right - left - 24) / max(len(dots) - 1, 1)
    at = [(left + 12 + i * step, y(dot.value)) for i, dot in enumerate(dots)]
    parts = [h("text", title, x="0", y="16", class_="title")]
    for tick in y.ticks():
        parts += _rule(left, right, y(tick), f"{tick:g}", strong=tick == 1)
        if tick in marks:
            above = sum(dot.value > tick for dot in dots)
            parts.append(_label(right + 8, y(tick) + 4, f"{above} above {tick:g}", "start"))
    parts += [_circle(x, height, dot) for (x, height), dot in zip(at, dots, strict=True)]
    free = 0.0
    for i in range(len(dots) - 1, max(len(dots) - 5, 0), -1):
        free = max(at[i][1] + 4, free + LINE)
        beside = min(x for x, height in at[1:] if x == at[i][0] or abs(height - free + 4) < 9)
        parts.append(_label(beside - 9, free, f"{dots[i].name} {dots[i].value:.3g}", "end"))
    if dots:
        name = f"{dots[0].name} {dots[0].value:.3g}"
        parts.append(_label(at[0][0] - 4, at[0][1] + 18, name, "start"))
    return _svg(parts, bottom + 22, f"{title}: {len(dots)} languages from cheapest to dearest")


def bars(series: Mapping[str, Mapping[str, float]], colors: Mapping[str, str], unit: str) -> Html:
    """Horizontal bars: a group a language, a bar a tokenizer."""
    names = list(dict.fromkeys(name for values in series.values() for name in values))
    left, right = _margin(names), WIDTH - 60
    high = max(value for values in series.values() for value in values.values())
    parts, y = [], 6.0
    for name in names:
        here = [(label, values[name]) for label, values in series.items() if name in values]
        parts.append(_label(left - 10, y + 9 * len(here) + 4, name, "end", "name"))
        for label, value in here:
            width = max((right - left) * value / high, 1)
            box = {"x": f"{left}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": "14"}
            tip = h("title", f"{label}, {name}: {value:.3f} {unit}")
            parts.append(h("rect", tip, rx="2", class_=colors[label], **box))
            parts.append(_label(left + width + 6, y + 11, f"{value:.2f}", "start", "value"))
            y += 18
        y += 12
    return _svg(parts, y, f"{unit}, by {' and '.join(series)}, of {', '.join(names)}")


def spreads(
    series: Mapping[str, Mapping[str, float]], colors: Mapping[str, str], unit: str
) -> Html:
    """A line a name with a dot for each tokenizer, on a logarithmic axis."""
    names = list(dict.fromkeys(name for values in series.values() for name in values))
    every = [value for values in series.values() for value in values.values()]
    top, row, left = 26, 21, _margin(names)
    x = _Scale(0.9 * min(every), 1.1 * max(every), left, WIDTH - 30)
    bottom = top + row * len(names)
    parts = []
    for tick in x.ticks():
        strong = "strong" if tick == 1 else None
        place = {"x1": f"{x(tick):.1f}", "x2": f"{x(tick):.1f}", "y1": f"{top - 8}"}
        parts.append(h("line", y2=f"{bottom}", class_=f"grid {strong or ''}".strip(), **place))
        parts.append(_label(x(tick), top - 14, f"{tick:g}", "middle"))
    for i, name in enumerate(names):
        y = top + row * (i + 0.5)
        here = [(label, values[name]) for label, values in series.items() if name in values]
        ends = sorted(x(value) for _, value in here)
        parts.append(_label(left - 12, y + 4, name, "end", "name"))
        place = {"x1": f"{ends[0]:.1f}", "x2": f"{ends[-1]:.1f}", "y1": f"{y}", "y2": f"{y}"}
        parts.append(h("line", class_="span", **place))
        for label, value in here:
            tip = h("title", f"{label}, {name}: {value:.2f} {unit}")
            place = {"cx": f"{x(value):.1f}", "cy": f"{y}"}
            parts.append(h("circle", tip, r="5", class_=colors[label], **place))
    return _svg(parts, bottom + 6, f"{unit}, by {' and '.join(series)}, of {', '.join(names)}")


def _circle(x: float, y: float, dot: Dot) -> Html:
    tip = h("title", f"{dot.name}: {dot.value:.2f}")
    return h("circle", tip, cx=f"{x:.1f}", cy=f"{y:.1f}", r="3.4", class_=dot.color)


def _rule(left: float, right: float, y: float, name: str, *, strong: bool) -> list[Html]:
    place = {"x1": f"{left}", "x2": f"{right}", "y1": f"{y:.1f}", "y2": f"{y:.1f}"}
    line = h("line", class_="grid strong" if strong else "grid", **place)
    return [line, _label(left - 8, y + 4, name, "end")]


def _label(x: float, y: float, text: str, anchor: str, kind: str = "") -> Html:
    return h("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=kind or None)


def _margin(names: Sequence[str]) -> float:
    """Room for the longest name, letters being some 7 units wide."""
    return min(30 + 7.2 * max(map(len, names)), WIDTH / 3)


def _svg(parts: Sequence[Html], height: float, description: str) -> Html:
    box = f"0 0 {WIDTH} {math.ceil(height)}"
    return h("svg", *parts, viewBox=box, role="img", aria_label=description, class_="plot")
