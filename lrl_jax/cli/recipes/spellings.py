"""Knows how recipes spell a language, in codes, names, paths and names of datasets, and swaps two.

exchange("corpora/korean_web/*.ko.txt", spellings("kor_Hang"), spellings("npi_Deva"))
"corpora/nepali_web/*.ne.txt"
"""

import dataclasses
import re

from lrl_jax.recipe import languages


@dataclasses.dataclass(frozen=True)
class Spellings:
    """Holds the ways in which a recipe spells a language.

    Attributes:
      code: FLORES code.
      name: English name.
      short: ISO 639-1 code where there is one, else the first three letters of the code.
      longs: ISO 639-3 codes that are used for it, its own first.
    """

    code: str
    name: str
    short: str
    longs: tuple[str, ...]

    @property
    def script(self) -> str:
        return self.code[4:]

    @property
    def plain_name(self) -> str:
        """Returns the name without what stands in brackets: Chinese, of Chinese (Simplified)."""
        return re.sub(r" *\(.*\)", "", self.name)


def spellings(code: str, name: str = "") -> Spellings:
    """Returns how recipes spell a language; `name` is for a code that is in no table."""
    short, *longs = languages.iso_codes(code)
    return Spellings(
        code, name or languages.english_name(code), short, tuple(dict.fromkeys([code[:3], *longs]))
    )


def exchange(text: str, old: Spellings, new: Spellings) -> str:
    """Returns a text of a recipe in which every spelling of a language is another language's.

    ISO codes are exchanged only in what has no space in it: paths, ids and names.

    >>> korean, nepali = spellings("kor_Hang"), spellings("npi_Deva")
    >>> exchange("Llama 2 in Korean", korean, nepali)
    'Llama 2 in Nepali'
    >>> exchange("sentences_korean", korean, nepali), exchange("20231101.ko", korean, nepali)
    ('sentences_nepali', '20231101.ne')
    """
    prose = " " in text.strip()
    swaps = {old.code: new.code}
    for name in dict.fromkeys((old.name, old.plain_name)):
        swaps[name] = new.name if prose else _joined(new.plain_name)
        swaps[_joined(name).lower()] = _joined(new.plain_name).lower()
    if not prose:
        swaps |= {long: new.longs[0] for long in old.longs if long not in swaps}
        swaps.setdefault(old.short, new.short)
    words = "|".join(re.escape(word) for word in sorted(swaps, key=len, reverse=True))
    whole = rf"(?<![A-Za-z0-9])({words})(?![A-Za-z0-9])"
    return re.sub(whole, lambda match: swaps[match[1]], text)


def _joined(name: str) -> str:
    """Returns a name as paths have it.

    >>> _joined("Standard Malay")
    'Standard_Malay'
    """
    return re.sub(r"[^\w'-]+", "_", name).strip("_")
