"""Renders the pages of reports from `templates/`: every value escaped, each page one offline file.

Text of a model or a corpus cannot become markup: Jinja escapes all that templates print, but for
the figures of `plots`, which escape what they write.
"""

import base64
from collections import Counter
import hashlib
import json
from typing import Any
import unicodedata

import jinja2

from lrl_jax.evaluate.rows import number
from lrl_jax.recipe.languages import labelled


def render(template: str, **values: Any) -> str:
    """Returns the page that a file of `templates/` makes of some values; a missing value raises."""
    return _ENVIRONMENT.get_template(template).render(values)


def readable(value: Any) -> str:
    """Returns a value of some JSON as a reader wants it.

    >>> readable(True), readable(1234), readable({"count": 2, "examples": ["a", "b"]})
    ('yes', '1,234', '2, such as a')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    if isinstance(value, dict) and "count" in value:  # vocab.prove.Finding
        return ", such as ".join(map(str, [value["count"], *value.get("examples", [])[:1]]))
    if value is None or value == []:
        return "none" if value == [] else "not measured"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def fixed(value: Any) -> str:
    """Returns a number for a column of numbers.

    >>> fixed(61.3), fixed(0.6811), fixed(None)
    ('61.30', '0.681', '')
    """
    if (x := number(value)) is None:
        return ""
    return f"{x:.2f}" if abs(x) >= 1 else f"{x:.3f}"


def counted(count: int, noun: str) -> str:
    """Returns a number of things in words.

    >>> counted(1, "language"), counted(1200, "language")
    ('1 language', '1,200 languages')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Returns seconds in words.

    >>> duration(4.2), duration(75), duration(7322)
    ('4.2 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def direction(words: str, least: float = 0.5) -> str:
    """Returns the direction in which a text is read: rtl or ltr.

    >>> direction("\u0633\u0644\u0627\u0645 GPT"), direction("GPT 4"), direction("42")
    ('rtl', 'ltr', 'ltr')

    Args:
      least: the share of letters above which those that are read from the right decide.
    """
    classes = Counter(map(unicodedata.bidirectional, words))
    from_right = classes["R"] + classes["AL"]
    return "rtl" if from_right > least * (from_right + classes["L"]) else "ltr"


def _digest(script: str) -> str:
    """Returns what a Content-Security-Policy calls a script that may run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _slug(title: str) -> str:
    return title.lower().replace(" ", "-")


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("lrl_jax.report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters.update(
    counted=counted, digest=_digest, direction=direction, duration=duration, fixed=fixed,
    labelled=labelled, readable=readable, slug=_slug,
)  # fmt: skip
