"""Reads what a judge decided from what it wrote, strictly: a verdict, or the name of a failure.

    rating("Well done. Rating: [[8.5]]")      Verdict(value=8.5)
    choice("[[A]] ... no, rather [[B]]")      Verdict(failure="several verdicts")

A number that stands anywhere else is no verdict: "10/10" may be quoted from the question, and the
first of two brackets may be what the judge argues against. Neither is what a judge thinks before it
answers, to the end of the thought; one that was cut off has no end.
"""

import dataclasses
import re
import unicodedata

NONE, SEVERAL, RANGE = "no verdict", "several verdicts", "out of range"
TAG = "(?:think|thinking|thought|reasoning|seed:think)"  # as models mark what they think
# What models write before they answer. Templates of R1 open the thought in the prompt, so that only
# its end is there; gpt-oss names a channel, and a server may leave out the marks around the name.
THOUGHTS = re.compile(
    rf"\A(?:\s*(?:<({TAG})>.*?(?:</\1>|\Z)|\[THINK\].*?(?:\[/THINK\]|\Z)))+"
    rf"|\A(?:(?!<{TAG}>|\[THINK\]).)*?(?:</{TAG}>|\[/THINK\])"
    r"|\A\s*(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary)\b.*?"
    r"(?:<\|channel\|>final<\|message\|>|\Z)"
    r"|\Aanalysis.*?assistantfinal",
    re.DOTALL,
)
NUMBER = r"\s*(\d+(?:\.\d+)?)\s*"
RATING = re.compile(rf"\[\[{NUMBER}\]\]")
LAST = re.compile(rf"(?<!\[)\[{NUMBER}\](?!\])\W*\Z")  # FastChat takes single brackets too
CHOICE = re.compile(r"\[\[\s*(A>>B|A>B|A=B|B>A|B>>A|A|B|C)\s*\]\]")
# The five grades of Arena-Hard mean the same three choices.
CHOICES = {"A": "A", "B": "B", "C": "tie", "A>>B": "A", "A>B": "A", "A=B": "tie", "B>A": "B",
           "B>>A": "B"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Holds a rating, or a choice "A", "B" or "tie"; or why there is none."""

    value: float | str | None = None
    failure: str = ""


def rating(written: str, scale: tuple[float, float] = (1, 10)) -> Verdict:
    """Returns the rating in double brackets, or in single ones at the very end.

    >>> rating("[[8]] because"), rating("10/10"), rating("[[11]]").failure
    (Verdict(value=8.0, failure=''), Verdict(value=None, failure='no verdict'), 'out of range')
    >>> rating("the list a[0] is empty. Rating: [4]").value, rating("[[7]] or [[8]]").failure
    (4.0, 'several verdicts')
    """
    plain = _plain(written)
    numbers = RATING.findall(plain) or LAST.findall(plain)
    ratings = {float(number) for number in numbers}
    if len(ratings) != 1:
        return Verdict(failure=SEVERAL if ratings else NONE)
    value = ratings.pop()
    return Verdict(value) if scale[0] <= value <= scale[1] else Verdict(failure=RANGE)


def choice(written: str) -> Verdict:
    """Returns the choice in double brackets: "A", "B" or "tie".

    >>> choice("So: [[C]]").value, choice("[[A>>B]]").value, choice("A is better").failure
    ('tie', 'A', 'no verdict')
    """
    choices = {CHOICES[mark] for mark in CHOICE.findall(_plain(written))}
    if len(choices) != 1:
        return Verdict(failure=SEVERAL if choices else NONE)
    return Verdict(choices.pop())


def _plain(written: str) -> str:
    """Returns the text without thoughts, and with brackets and digits of full width as ASCII."""
    return unicodedata.normalize("NFKC", THOUGHTS.sub("", written))
