"""HTML by construction: elements that escape what they hold, and the look of the page.

Everything that `h` did not make is escaped, so text of a model or a corpus cannot be read as
markup.
"""

import base64
from collections.abc import Mapping, Sequence
import hashlib
import html
import json
import math
from typing import Any


class Html(str):
    """Text that is markup already."""


def h(tag: str, *children: Any, **attributes: Any) -> Html:
    """An element; children and attributes are escaped unless they are Html.

    >>> h("p", "1 < 2", h("b", "!"), class_="note")
    '<p class="note">1 &lt; 2<b>!</b></p>'
    """
    pairs = ((name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items())
    text = "".join(
        f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
        for name, value in pairs
        if value not in (False, None)
    )
    if tag in ("input", "meta"):
        return Html(f"<{tag}{text}>")
    return Html(f"<{tag}{text}>{join(*children)}</{tag}>")


def join(*children: Any) -> Html:
    """Children one after another, each escaped unless it is Html."""
    return Html("".join(c if isinstance(c, Html) else html.escape(str(c)) for c in children))


def document(title: str, *body: Any, css: str = "", script: str = "") -> str:
    """A whole page; nothing is fetched from anywhere, and no script runs but the one given.

    Args:
      css: style beyond the look all pages share.
      script: for comfort only: a page must read well where scripts are off.
    """
    policy = POLICY
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
    head = [
        h("meta", charset="utf-8"),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("meta", http_equiv="Content-Security-Policy", content=policy),
        h("title", title),
        h("style", Html(CSS + css)),
    ]
    tail = h("script", Html(script)) if script else ""
    page = h("html", h("head", *head), h("body", h("main", *body), tail), lang="en")
    return f"<!doctype html>\n{page}\n"


def figure(svg: str, caption: str = "") -> Html:
    """A figure of `plots`, and what to know when reading it."""
    return h("figure", Html(svg), h("figcaption", caption) if caption else "")


def table(
    columns: Sequence[str], cells: Sequence[Sequence[Any]], numeric: Sequence[int] = ()
) -> Html:
    """A table that scrolls sideways where it is too wide; `numeric` columns stand right."""

    def line(tag: str, values: Sequence[Any]) -> Html:
        marked = ("num" if i in numeric else None for i in range(len(values)))
        return h("tr", *(h(tag, v, class_=c) for v, c in zip(values, marked, strict=True)))

    head = h("thead", line("th", columns)) if columns else ""
    return h("div", h("table", head, h("tbody", *(line("td", c) for c in cells))), class_="wide")


def facts(values: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> Html:
    """A table of names and values; `labels` says a name in words."""
    labels = labels or {}
    rows = [[labels.get(k, k.replace("_", " ")), cell(value)] for k, value in values.items()]
    return table([], rows) if rows else Html()


def cell(value: Any) -> str:
    """A value of some JSON as a reader wants it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    if isinstance(value, dict) and "count" in value:  # vocab.prove.Finding
        return ", such as ".join(map(str, [value["count"], *value.get("examples", [])[:1]]))
    if value is None or value == []:
        return "none" if value == [] else "not measured"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def number(value: Any) -> float | None:
    """A finite number, or None for whatever else a file may hold.

    >>> number(2), number("2"), number(float("nan")), number(None)
    (2.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def fixed(value: Any) -> str:
    """A number for a column of numbers.

    >>> fixed(61.3), fixed(0.6811), fixed(None)
    ('61.30', '0.681', '')
    """
    if (x := number(value)) is None:
        return ""
    return f"{x:.2f}" if abs(x) >= 1 else f"{x:.3f}"


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(4.2), duration(75), duration(7322)
    ('4.2 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
CSS = """
:root { --ink:#1b1f24; --muted:#646c76; --grid:#dfe3e8; --page:#fff; --soft:#f5f7f9;
  --accent:#0b6e99; --good:#0a7a4b; --bad:#b3362b; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6e9ed; --muted:#98a2ad; --grid:#343b44;
  --page:#14181d; --soft:#1c2229; --accent:#58b6e0; --good:#57c596; --bad:#f0877c; } }
* { box-sizing:border-box }
body { margin:0; background:var(--page); color:var(--ink);
  font:16px/1.55 system-ui, "Segoe UI", "Noto Sans", "Noto Sans CJK KR", sans-serif }
main { max-width:60rem; margin:0 auto; padding:2.5rem 1.25rem 5rem }
h1 { font-size:2rem; line-height:1.2; margin:0 } header>p { color:var(--muted); margin:.3rem 0 }
h2 { font-size:1.3rem; margin:3.5rem 0 1rem; padding-top:1rem; border-top:1px solid var(--grid) }
h3 { font-size:1rem; margin:1.8rem 0 .4rem }
nav { display:flex; flex-wrap:wrap; gap:.2rem 1.2rem; margin-top:1.5rem; font-size:.9rem }
a { color:var(--accent); text-decoration:none } a:hover { text-decoration:underline }
.cards { display:grid; grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr)); gap:.8rem;
  list-style:none; padding:0; margin:1.8rem 0 0 }
.cards li { background:var(--soft); border-radius:.6rem; padding:.9rem 1rem }
.cards b { display:block; white-space:nowrap; font-size:1.35rem; line-height:1.25;
  font-variant-numeric:tabular-nums }
.cards span { display:block; font-size:.9rem }
small, .note, figcaption { color:var(--muted); font-size:.85rem }
.better { color:var(--good) } .worse { color:var(--bad) }
.wide { overflow-x:auto }
table { border-collapse:collapse; width:100%; font-size:.92rem; font-variant-numeric:tabular-nums }
th { text-align:left; font-weight:500; color:var(--muted); white-space:nowrap }
th, td { padding:.38rem .9rem .38rem 0; border-bottom:1px solid var(--grid); vertical-align:top }
.num { text-align:right; white-space:nowrap }
.num+td:not(.num) { padding-left:.8rem }
figure { margin:1.6rem 0 } figure svg { display:block; width:100%; height:auto; overflow:visible }
.switch>input { position:absolute; opacity:0 }
.switch>label { display:inline-block; padding:.25rem .9rem; margin-right:.4rem; cursor:pointer;
  border:1px solid var(--grid); border-radius:2rem; font-size:.88rem }
.switch>input:checked+label { background:var(--accent); border-color:var(--accent);
  color:var(--page) }
.switch>input:focus-visible+label { outline:2px solid var(--ink); outline-offset:2px }
#by-tokens_read:checked~.view:not(.tokens_read), #by-bytes_read:checked~.view:not(.bytes_read),
#by-step:checked~.view:not(.step) { display:none }
.bar { position:relative; width:9rem; height:.7rem; margin-top:.4rem; background:var(--soft);
  border-radius:2px }
.bar i { display:block; height:100%; background:var(--accent); border-radius:2px }
.bar b { position:absolute; top:-.2rem; width:2px; height:1.1rem; background:var(--ink) }
.sample td:first-child { width:7rem; color:var(--muted); white-space:nowrap }
.sample h3, dd, .sample td { white-space:pre-wrap; overflow-wrap:anywhere }
.example { display:grid; grid-template-columns:6.5rem 1fr; gap:.1rem .5rem; margin:0;
  padding:.7rem 0; border-bottom:1px solid var(--grid) }
dt { color:var(--muted); font-size:.85rem; line-height:1.75 } dd { margin:0 }
summary { cursor:pointer; color:var(--accent); margin:1rem 0 }
pre { background:var(--soft); padding:1rem; border-radius:.6rem; overflow-x:auto; font-size:.82rem }
@media print { .view { display:block !important } nav, .switch>label { display:none } }
"""
