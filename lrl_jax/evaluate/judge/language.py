"""Tells before a judge is asked whether an answer is empty, or not in the language asked for.

The script tells most languages from English, into which models fall back. Where the language is
written in Latin letters too, the commonest words of English tell it. Other languages of one script
are not told from each other: that is left to the judge.
"""

import re

from lrl_jax.evaluate.benchmark import answers

EMPTY, SCRIPT, ENGLISH = "empty", "wrong script", "wrong language"
ANY = "any"  # as the language of a question: its answer may be in whichever
# Code is in Latin letters whatever language it is explained in.
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
WORDS = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
# Words of English that are no words of other languages, or rare in them. Some 3 in 10 words of any
# English text are among these; in German, Indonesian or Swahili fewer than 1 in 30 are.
COMMON = frozenset({
    "are", "as", "be", "but", "by", "can", "for", "from", "has", "have", "is", "it", "its", "more",
    "not", "of", "or", "that", "the", "their", "these", "they", "this", "to", "was", "which",
    "will", "with", "would", "and", "you", "your",
})  # fmt: skip
SHARE = 0.15  # of the words; halfway between the two
LEAST = 10  # words below which nothing is told by them
# English, and languages that grew out of it and share its words.
ENGLISHES = ("eng", "sco", "pcm", "jam", "tpi", "bis", "srn", "pis", "hwc", "gul", "bzj")


def flaw(answer: str, language: str, reference: str = "") -> str:
    """Returns why an answer is not worth a call; "" if it is.

    Args:
      language: a FLORES code; "" or "any" to look only whether the answer is empty.
      reference: an answer whose script is right too.

    >>> flaw("Seoul", "kor_Hang"), flaw("\\uc11c\\uc6b8", "kor_Hang"), flaw(" ", "")
    ('wrong script', '', 'empty')
    """
    if not answer.strip():
        return EMPTY
    if language in ("", ANY):
        return ""
    prose = CODE.sub(" ", answer)
    if answers.in_script(prose, language, [reference] if reference else []) is False:
        return SCRIPT
    is_latin = language.endswith("_Latn") and language[:3] not in ENGLISHES
    return ENGLISH if is_latin and is_english(prose) else ""


def is_english(text: str) -> bool:
    """Tells whether a text in Latin letters is English, by its commonest words.

    >>> is_english("The best way to learn is to ask the people that you trust for their help.")
    True
    >>> is_english("Am besten lernt man, indem man Leute fragt, denen man vertraut, und zwar oft.")
    False
    """
    words = [word.lower() for word in WORDS.findall(text)]
    if len(words) < LEAST:
        return False
    return sum(word in COMMON for word in words) > SHARE * len(words)
