"""Scores short answers against references: exact match, F1 over tokens, and containment.

    scores("The Denver Broncos", ["Denver Broncos"], "eng_Latn")
        {"exact_match": 1.0, "f1": 1.0, "contains": 1.0}

Three published scripts disagree on what counts as the same answer, so a task names one of them:

    squad     SQuAD 1.1's: ASCII punctuation and a, an, the are dropped; tokens stand between spaces
    mlqa      MLQA's: punctuation of every script, articles of the language; Han is one token each
    korquad   KorQuAD 1.0's: ASCII punctuation is dropped, and F1 counts characters

XQuAD's authors scored all languages by `squad`. Where nothing is named, English gets `squad`
and every other language `mlqa`.
"""

from collections import Counter
from collections.abc import Sequence
import functools
import re
import string
from typing import Literal, get_args
import unicodedata

from lrl_jax.recipe.vocab import did_you_mean
from lrl_jax.vocab import scripts

Rules = Literal["squad", "mlqa", "korquad"]
RULES: tuple[Rules, ...] = get_args(Rules)
ENGLISH = r"\b(?:a|an|the)\b"
# Articles by language, as MLQA's script has them (arXiv 1910.07475). Its pattern for Arabic is
# meant to drop the article before a word, and drops these two letters anywhere; so do we, as all
# published numbers do.
ARTICLES = {
    "eng": ENGLISH,
    "spa": r"\b(?:un|una|unos|unas|el|la|los|las)\b",
    "deu": r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "vie": "\\b(?:c\u1ee7a|l\xe0|c\xe1i|chi\u1ebfc|nh\u1eefng)\\b",
    "ara": "\u0627\u0644",
    "arb": "\u0627\u0644",
}
# Quotes and brackets that KorQuAD's script turns into spaces before it drops punctuation.
QUOTES = re.compile("['\"\u300a\u300b<>\u3008\u3009()\u2018\u2019]")
ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)


def scores(
    prediction: str, references: Sequence[str], language: str, rules: Rules | Literal[""] = ""
) -> dict[str, float]:
    """Returns exact_match, f1 and contains, each from 0 to 1: the best over the references.

    Args:
      language: a FLORES code.
      rules: whose script is followed; "" is chosen by language.

    Raises:
      ValueError: there is no reference, or no script of that name.
    """
    if not references:
        raise ValueError("an answer was to be scored without a reference; give at least one")
    rules = chosen(language, rules)
    return {
        "exact_match": max(exact_match(prediction, r, language, rules) for r in references),
        "f1": max(f1(prediction, r, language, rules) for r in references),
        "contains": max(contains(prediction, r) for r in references),
    }


def chosen(language: str, rules: str = "") -> Rules:
    """Returns the rules that an answer in this language is scored by.

    >>> chosen("eng_Latn"), chosen("kor_Hang"), chosen("kor_Hang", "korquad")
    ('squad', 'mlqa', 'korquad')
    """
    if not rules:
        return "squad" if language.startswith("eng") else "mlqa"
    for name in RULES:
        if rules == name:
            return name
    raise ValueError(
        f"no rules {rules!r} to compare answers by; there are {', '.join(RULES)}"
        f"{did_you_mean(rules, RULES)}"
    )


def exact_match(prediction: str, reference: str, language: str, rules: Rules) -> float:
    """Returns 1.0 where both texts are the same after `normalised`, else 0.0."""
    same = normalised(prediction, language, rules) == normalised(reference, language, rules)
    return float(same)


def f1(prediction: str, reference: str, language: str, rules: Rules) -> float:
    """Returns the harmonic mean of precision and recall of the tokens that both texts have.

    As in the scripts, texts of which nothing is left share no token and score 0.

    >>> round(f1("in the year 1912", "1912", "eng_Latn", "squad"), 3)  # 1 of 3 and 1 of 1
    0.5
    """
    predicted = Counter(_tokens(normalised(prediction, language, rules), rules))
    wanted = Counter(_tokens(normalised(reference, language, rules), rules))
    shared = (predicted & wanted).total()
    return 2 * shared / (predicted.total() + wanted.total()) if shared else 0.0


def contains(prediction: str, reference: str) -> float:
    """Returns 1.0 where the reference stands in the prediction, whatever the case of letters.

    Source: x-LLaMA (arXiv 2308.04948), whose script compares lower-cased text and nothing more.
    A reference of one letter or digit is contained in much.
    """
    return float(reference.lower() in prediction.lower())


def normalised(text: str, language: str, rules: Rules) -> str:
    """Returns the words of an answer that count, in lower case, with single spaces between them.

    >>> normalised("The  Fall of Rome!", "eng_Latn", "squad")
    'fall of rome'
    """
    text = text.lower()
    if rules == "korquad":
        return " ".join(QUOTES.sub(" ", text).translate(ASCII_PUNCTUATION).split())
    if rules == "squad":
        return " ".join(re.sub(ENGLISH, " ", text.translate(ASCII_PUNCTUATION)).split())
    text = "".join(c for c in text if c not in string.punctuation and not _is_punctuation(c))
    if pattern := ARTICLES.get(language[:3]):
        text = re.sub(pattern, " ", text)
    return " ".join(_characters_apart(language).sub(r" \g<0> ", text).split())


def _tokens(text: str, rules: Rules) -> list[str]:
    return [*text.replace(" ", "")] if rules == "korquad" else text.split()


@functools.lru_cache(maxsize=4096)
def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P")


@functools.cache
def _characters_apart(language: str) -> re.Pattern[str]:
    """Matches characters that are words of their own where a language is written without spaces.

    MLQA's script knows Chinese alone; Thai, Japanese and the others are ours.
    """
    code = language.rpartition("_")[2]
    if not code or scripts.spaced(code):
        return re.compile("(?!)")
    return scripts.own((code,))
