"""Reads what an answer says: the number it ends in, the letter it chooses, the script it is in."""

from collections.abc import Sequence
from decimal import Decimal
import re
import unicodedata

import regex

from lrl_jax.recipe.scripts import parts
from lrl_jax.vocab import scripts

# What stands between the digits of a number, as ASCII: Arabic's comma and point, those of full
# width, and quotes and no-break spaces, which only group digits. Dashes of a minus are here too.
SIGNS = str.maketrans({
    "\u066b": ".", "\uff0e": ".", "\u066c": ",", "\u060c": ",", "\uff0c": ",", "\u2019": "'",
    "\u00a0": "'", "\u202f": "'", "\u2009": "'", "\u2212": "-", "\u2013": "-", "\uff0d": "-",
})  # fmt: skip
# A minus is one where no digit or letter is before it: not in 3-5. A sign of currency may follow.
NUMBER = re.compile(r"((?<![\w.,)%])-(?: ?[^\w\s.,'-])? ?)?(\d+(?: \d{3}(?!\d))*(?:[.,']\d+)*)")
TRIPLES = re.compile(r"\d{1,3}([.,' ])\d{3}(\1\d{3})*")
INDIAN = re.compile(r"\d{1,2}(,\d{2})*,\d{3}")
LETTERS = "ABCDEFGHIJ"  # of choices, at most as many as in MMLU-Pro
OPENING = "\\s([*\"'`\u300c\u300e\uff08"  # what may stand before the letter of a choice
OTHER = r"[^\P{L}\p{Latin}]"  # a letter of another script, in which A is no word
END = rf"\s*(?:[)\]\n]|[^\P{{STerm}}!?]|$)|\s?{OTHER}"  # what may follow a letter that is chosen


# ---------------------------------------------------------------------------- numbers
def last_number(answer: str) -> Decimal | None:
    """Returns the last number of an answer, which is what a chain of thought ends in, or None.

    Digits are those of any script. Of the readings of an ambiguous number, such as 2,125, this is
    the usual one: a comma groups digits, and a point begins a fraction. Numbers in words or in Han
    characters are not read, and of 1/2 the 2 is.

    >>> last_number("18 - 3 = 15, so it makes $2,125."), last_number("none")
    (Decimal('2125'), None)
    """
    numbers = readings(answer)
    return numbers[0] if numbers else None


def same_number(answer: str, target: str) -> bool:
    """Tells whether the last number of an answer is the last number of the target.

    Half of the world writes a comma where the other half writes a point, and models mix both: an
    ambiguous number counts if it can be read as the target.

    >>> same_number("2.125 Euro", "2,125"), same_number("3-5", "5"), same_number("", "5")
    (True, True, False)
    """
    wanted = last_number(target)
    if wanted is None:
        raise ValueError(f"the target {target!r} has no number; want one such as 2,125")
    return wanted in readings(answer)


def readings(answer: str) -> tuple[Decimal, ...]:
    """Returns what the last number of an answer may mean, the usual reading first; () for none.

    >>> [str(number) for number in readings("3,500")]
    ['3500', '3.500']
    >>> [str(readings(text)[0]) for text in ("1.250,75", "12,34,567.5", "-7", "1 250", "3, 4")]
    ['1250.75', '1234567.5', '-7', '250', '4']
    """
    matches = NUMBER.findall(answer.translate(SIGNS))  # \d matches digits of every script
    if not matches:
        return ()
    sign, digits = matches[-1]
    spellings = [digits.replace(" ", "")]
    if " " in digits:  # it may be several numbers, one after the other
        spellings.insert(0, digits.rpartition(" ")[2])
    numbers = dict.fromkeys(Decimal(plain) for text in spellings for plain in _plain(text))
    return tuple(-number if sign else number for number in numbers)


def _plain(digits: str) -> list[str]:
    """Returns what digits with commas, points and quotes may mean, as plain decimal numbers.

    >>> _plain("1,234,567"), _plain("2.125"), _plain("1,5"), _plain("1,2,3")
    (['1234567'], ['2.125', '2125'], ['1.5'], ['3'])
    """
    digits = digits.replace("'", "")
    whole, mark, fraction = _at_last_mark(digits)
    together = re.sub("[.,]", "", digits)
    if not mark:
        return [digits]
    if TRIPLES.fullmatch(digits) or INDIAN.fullmatch(digits):
        if digits.count(mark) > 1:
            return [together]
        decimal = f"{whole}.{fraction}"
        if not unicodedata.decimal(whole[0]):  # 0,125 groups nothing
            return [decimal]
        return [together, decimal] if mark == "," else [decimal, together]
    grouped = whole.isdigit() or TRIPLES.fullmatch(whole) or INDIAN.fullmatch(whole)
    if grouped and mark not in whole:
        return [re.sub("[.,]", "", whole) + "." + fraction]
    return [fraction]  # such as 1.2.3, which is no number


def _at_last_mark(digits: str) -> tuple[str, str, str]:
    at = max(digits.rfind("."), digits.rfind(","))
    return (digits, "", "") if at < 0 else (digits[:at], digits[at], digits[at + 1 :])


# ---------------------------------------------------------------------------- choices
def chosen_letter(answer: str, letters: str = "ABCD") -> str:
    """Returns the letter that an answer chooses; "" where it names none or leaves it open.

    It is the letter that the answer opens with, such as `B` or `(B) because`; else the first one
    after `answer is` or `answer:`, as in MMLU-Pro's script (arXiv 2406.01574); else the last one
    that stands alone before a bracket, a full stop or the end, or among letters of another script,
    with a space or without.

    >>> [chosen_letter(text) for text in ("(B)", "C. Paris", "The answer is D", "A dog", "Bad")]
    ['B', 'C', 'D', '', '']
    >>> [chosen_letter(text) for text in ("The answer is A, not B.", "\u7b54\u6848\u662fC")]
    ['A', 'C']
    """
    text = unicodedata.normalize("NFKC", answer)  # letters of full width
    alone = rf"([{re.escape(letters)}])(?![\p{{Latin}}\p{{M}}\p{{N}}'\u2019])"
    opening = regex.match(rf"[{OPENING}]*{alone}(?=[\s.:)\]*\"'`]|$|[^\x00-\x7f])(?! \w)", text)
    if opening:
        return opening[1]
    if announced := regex.search(rf"(?i:answer(?: is|:))[\s(*]*{alone}", text):
        return announced[1]
    among = rf"(?<={OTHER}\p{{M}}*\s?.)"
    marked = regex.findall(rf"(?<![\p{{Latin}}\p{{N}}]){alone}(?:(?={END})|{among})", text)
    return marked[-1] if marked else ""


def same_letter(answer: str, target: str) -> bool:
    """Tells whether an answer chooses the letter that the target names, from A to J.

    >>> same_letter("It is B.", "(B)"), same_letter("C", "(B)")
    (True, False)
    """
    wanted = chosen_letter(target, LETTERS)
    if not wanted:
        raise ValueError(f"the target {target[:60]!r} names no letter from A to J; want one as `B`")
    return chosen_letter(answer, LETTERS) == wanted


def first_line(answer: str) -> str:
    r"""Returns the first line of an answer that has text, without spaces around it.

    >>> first_line("\n Paris \nQuestion: ...")
    'Paris'
    """
    return answer.strip().partition("\n")[0].strip()


# ---------------------------------------------------------------------------- scripts
def in_script(answer: str, language: str, references: Sequence[str] = ()) -> bool | None:
    """Tells whether most letters of an answer are in a script of its language.

    A reference may itself be in another script, such as a name in Latin letters: its scripts are
    right too.

    Args:
      language: a FLORES code; the script is its second half.

    Returns:
      None where the answer has no letters, as a number.

    >>> in_script("\uc11c\uc6b8", "kor_Hang"), in_script("Seoul", "kor_Hang")
    (True, False)
    >>> in_script("NFL", "kor_Hang", ["NFL"]), in_script("308", "kor_Hang")
    (True, None)
    """
    written = parts((script,)) if (script := scripts.of(answer)) else ()
    if not written:
        return None
    allowed = [language.rpartition("_")[2], *filter(None, map(scripts.of, references))]
    return bool(set(written) & set(parts(allowed)))
