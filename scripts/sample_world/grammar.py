"""Inflects the words of the sample world: Korean particles and verbs, English verbs and nouns.

Dedicated to the public domain (CC0 1.0). Standard library only; pure functions.
"""

from typing import NamedTuple

# A precomposed syllable is 0xAC00 + (initial * 21 + vowel) * 28 + final (Unicode, section 3.12).
FIRST, VOWELS, FINALS = 0xAC00, 21, 28
A, AE, YA, YAE, EO, E, YEO, O, WA, U, WO, EU, I = 0, 1, 2, 3, 4, 5, 6, 8, 9, 13, 14, 18, 20
NONE, N, L, SS = 0, 4, 8, 20  # finals; above, vowels
R, VERB_HA = 5, "하"  # initial ㄹ; every verb in -하다 is conjugated alike

# After a consonant, after a vowel.
PARTICLES = {
    "topic": ("은", "는"),
    "subject": ("이", "가"),
    "object": ("을", "를"),
    "with": ("과", "와"),
    "by": ("으로", "로"),  # ㄹ counts as a vowel: 지하철로
    "quote": ("이라고", "라고"),
    "is": ("이다", "다"),
    "was": ("이었다", "였다"),
}


class Stem(NamedTuple):
    """Holds the stem of a verb or adjective and the class of its irregular forms.

    kind: "" for a regular stem (also ㄹ, ㅡ and 하 stems, whose rules need no mark), "ㄷ", "ㅂ",
    "오" (ㅂ before ㅏ), "르", "ㅎ", or "있" for an adjective with a verb's adnominal ending
    (맛있다, 재미있다).
    """

    text: str
    kind: str = ""


def split(syllable: str) -> tuple[int, int, int]:
    """Returns (initial, vowel, final) indices of a Hangul syllable; final 0 is an open syllable."""
    code = ord(syllable) - FIRST
    if not 0 <= code < 19 * VOWELS * FINALS:
        raise ValueError(f"got {syllable!r}, which is not a Hangul syllable")
    return code // (VOWELS * FINALS), code // FINALS % VOWELS, code % FINALS


def join(initial: int, vowel: int, final: int) -> str:
    """Returns the syllable of three indices; the inverse of `split`."""
    return chr(FIRST + (initial * VOWELS + vowel) * FINALS + final)


def with_final(text: str, final: int) -> str:
    """Replaces the final consonant of the last syllable: ("가", SS) -> "갔"."""
    initial, vowel, _ = split(text[-1])
    return text[:-1] + join(initial, vowel, final)


def particle(word: str, name: str) -> str:
    """Appends a particle in the form that the last sound of the word requires.

    >>> particle("사과", "object"), particle("책", "object"), particle("지하철", "by")
    ('사과를', '책을', '지하철로')
    """
    final = split(word.rstrip('"')[-1])[2]
    closed = final != NONE and not (name == "by" and final == L)
    return word + PARTICLES[name][0 if closed else 1]


def infinitive(stem: Stem) -> str:
    """Returns the -아/어 form, base of the past: 먹어, 가, 와, 마셔, 들어, 도와, 불러, 해."""
    head, last = stem.text[:-1], stem.text[-1]
    initial, vowel, final = split(last)
    if last == VERB_HA:
        return head + "해"
    if stem.kind == "ㄷ":
        return head + join(initial, vowel, L) + ("아" if vowel in (A, O) else "어")
    if stem.kind in ("ㅂ", "오"):
        return head + join(initial, vowel, NONE) + ("와" if stem.kind == "오" else "워")
    if stem.kind == "ㅎ":
        return head + join(initial, YAE if vowel == YA else AE, NONE)  # 하얘, 빨개
    if stem.kind == "르":
        is_bright = split(head[-1])[1] in (A, O)
        return with_final(head, L) + join(R, A if is_bright else EO, NONE)
    if final != NONE:
        return stem.text + ("아" if vowel in (A, O) else "어")
    return head + _contract(head, initial, vowel)


def _contract(head: str, initial: int, vowel: int) -> str:
    """Contracts an open last syllable with -아/어: 가+아 -> 가, 오+아 -> 와, 마시+어 -> 마셔."""
    syllable = join(initial, vowel, NONE)
    if vowel == EU:  # ㅡ is dropped; the vowel before it decides: 바빠, 예뻐, 써
        is_bright = bool(head.strip()) and head[-1] != " " and split(head[-1])[1] in (A, O)
        return join(initial, A if is_bright else EO, NONE)
    if syllable in ("보", "주", "추"):  # not contracted in writing: 보았다, 주었다, 추었다
        return syllable + ("아" if vowel == O else "어")
    merged = {A: A, AE: AE, EO: EO, E: E, YEO: YEO, O: WA, U: WO, I: YEO}
    if vowel in merged:
        return join(initial, merged[vowel], NONE)
    return syllable + "어"  # 쉬어


def past_root(stem: Stem) -> str:
    """Returns the past before its ending (-다, -다고, -지만, -나요): 먹었, 갔, 보았."""
    return with_final(infinitive(stem), SS)


def past(stem: Stem) -> str:
    """Returns the plain past: 먹었다, 갔다, 들었다, 도왔다, 빨갰다."""
    return past_root(stem) + "다"


def present(stem: Stem) -> str:
    """Returns a verb's plain present: 먹는다, 간다, 만든다, 돕는다."""
    final = split(stem.text[-1])[2]
    if final in (NONE, L):
        return with_final(stem.text, N) + "다"
    return stem.text + "는다"


def _before_eu(stem: Stem, final: int, syllable: str) -> str:
    """Adds -(으)ㄴ or -(으)ㄹ: `final` to an open stem, `syllable` after a closed one."""
    own = split(stem.text[-1])[2]
    if stem.kind in ("ㅂ", "오"):
        return with_final(stem.text, NONE) + with_final("우", final)
    if stem.kind == "ㄷ":
        return with_final(stem.text, L) + syllable
    if own in (NONE, L) or stem.kind == "ㅎ":
        return with_final(stem.text, final)
    return stem.text + syllable


def done(stem: Stem) -> str:
    """Returns the -(으)ㄴ form: past for a verb (먹은, 산, 만든), present for an adjective (큰)."""
    if stem.kind == "있":
        return stem.text + "는"
    return _before_eu(stem, N, "은")


def coming(stem: Stem) -> str:
    """Returns the -(으)ㄹ form: 먹을, 갈, 만들, 들을, 도울."""
    return _before_eu(stem, L, "을")


def future(stem: Stem) -> str:
    """Returns the plain future: 먹을 것이다, 갈 것이다."""
    return coming(stem) + " 것이다"


def article(phrase: str) -> str:
    """Puts a or an before a phrase, by its first letter: no word of the lexicon is an exception."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def third(verb: str) -> str:
    """Returns the third person singular of a verb phrase: "listen to" -> "listens to"."""
    head, _, rest = verb.partition(" ")
    if head.endswith(("s", "sh", "ch", "x", "o")):
        head += "es"
    elif head.endswith("y") and head[-2] not in "aeiou":
        head = head[:-1] + "ies"
    else:
        head += "s"
    return f"{head} {rest}" if rest else head


def plural(noun: str) -> str:
    """Returns the regular plural; the lexicon lists the irregular ones."""
    if noun.endswith(("s", "sh", "ch", "x")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def capital(text: str) -> str:
    """Capitalises the first letter and leaves the rest as it is."""
    return text[:1].upper() + text[1:]
