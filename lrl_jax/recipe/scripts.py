"""Names the scripts of the world by ISO 15924 code: every one that Unicode has characters of."""

from collections.abc import Sequence
import difflib
import re
from typing import Annotated

import pydantic

# ISO 15924 code -> Unicode's name, of all scripts that characters have.
SCRIPTS: dict[str, str] = dict(
    re.findall(
        r"(\w{4}) ([^,\n]+)",
        """
Adlm Adlam, Aghb Caucasian Albanian, Ahom Ahom, Arab Arabic, Armi Imperial Aramaic,
Armn Armenian, Avst Avestan, Bali Balinese, Bamu Bamum, Bass Bassa Vah, Batk Batak,
Beng Bengali, Berf Beria Erfe, Bhks Bhaiksuki, Bopo Bopomofo, Brah Brahmi, Brai Braille,
Bugi Buginese, Buhd Buhid, Cakm Chakma, Cans Canadian Aboriginal, Cari Carian, Cham Cham,
Cher Cherokee, Chrs Chorasmian, Copt Coptic, Cpmn Cypro-Minoan, Cprt Cypriot, Cyrl Cyrillic,
Deva Devanagari, Diak Dives Akuru, Dogr Dogra, Dsrt Deseret, Dupl Duployan,
Egyp Egyptian Hieroglyphs, Elba Elbasan, Elym Elymaic, Ethi Ethiopic, Gara Garay,
Geor Georgian, Glag Glagolitic, Gong Gunjala Gondi, Gonm Masaram Gondi, Goth Gothic,
Gran Grantha, Grek Greek, Gujr Gujarati, Gukh Gurung Khema, Guru Gurmukhi, Hang Hangul,
Hani Han, Hano Hanunoo, Hatr Hatran, Hebr Hebrew, Hira Hiragana, Hluw Anatolian Hieroglyphs,
Hmng Pahawh Hmong, Hmnp Nyiakeng Puachue Hmong, Hung Old Hungarian, Ital Old Italic,
Java Javanese, Jurc Jurchen, Kali Kayah Li, Kana Katakana, Kawi Kawi, Khar Kharoshthi,
Khmr Khmer, Khoj Khojki, Kits Khitan Small Script, Knda Kannada, Krai Kirat Rai, Kthi Kaithi,
Lana Tai Tham, Laoo Lao, Latn Latin, Lepc Lepcha, Limb Limbu, Lina Linear A, Linb Linear B,
Lisu Lisu, Lyci Lycian, Lydi Lydian, Mahj Mahajani, Maka Makasar, Mand Mandaic,
Mani Manichaean, Marc Marchen, Medf Medefaidrin, Mend Mende Kikakui, Merc Meroitic Cursive,
Mero Meroitic Hieroglyphs, Mlym Malayalam, Modi Modi, Mong Mongolian, Mroo Mro,
Mtei Meetei Mayek, Mult Multani, Mymr Myanmar, Nagm Nag Mundari, Nand Nandinagari,
Narb Old North Arabian, Nbat Nabataean, Newa Newa, Nkoo N'Ko, Nshu Nushu, Ogam Ogham,
Olck Ol Chiki, Onao Ol Onal, Orkh Old Turkic, Orya Oriya, Osge Osage, Osma Osmanya,
Ougr Old Uyghur, Palm Palmyrene, Pauc Pau Cin Hau, Pcun Proto-Cuneiform, Perm Old Permic,
Phag Phags-pa, Phli Inscriptional Pahlavi, Phlp Psalter Pahlavi, Phnx Phoenician, Plrd Miao,
Prti Inscriptional Parthian, Rjng Rejang, Rohg Hanifi Rohingya, Runr Runic, Samr Samaritan,
Sarb Old South Arabian, Saur Saurashtra, Seal Seal, Sgnw SignWriting, Shaw Shavian,
Shrd Sharada, Sidd Siddham, Sidt Sidetic, Sind Khudawadi, Sinh Sinhala, Sogd Sogdian,
Sogo Old Sogdian, Sora Sora Sompeng, Soyo Soyombo, Sund Sundanese, Sunu Sunuwar,
Sylo Syloti Nagri, Syrc Syriac, Tagb Tagbanwa, Takr Takri, Tale Tai Le, Talu New Tai Lue,
Taml Tamil, Tang Tangut, Tavt Tai Viet, Tayo Tai Yo, Telu Telugu, Tfng Tifinagh, Tglg Tagalog,
Thaa Thaana, Thai Thai, Tibt Tibetan, Tirh Tirhuta, Tnsa Tangsa, Todr Todhri,
Tols Tolong Siki, Toto Toto, Tutg Tulu-Tigalari, Ugar Ugaritic, Vaii Vai, Vith Vithkuqi,
Wara Warang Citi, Wcho Wancho, Xpeo Old Persian, Xsux Cuneiform, Yezi Yezidi, Yiii Yi,
Zanb Zanabazar Square
""",
    )
)
# Codes that stand for several scripts, or for a variant that Unicode encodes with its script.
UNIONS = {
    "Aran": ("Arab",), "Cyrs": ("Cyrl",), "Geok": ("Geor",), "Hanb": ("Hani", "Bopo"),
    "Hans": ("Hani",), "Hant": ("Hani",), "Hrkt": ("Hira", "Kana"), "Jamo": ("Hang",),
    "Jpan": ("Hani", "Hira", "Kana"), "Kore": ("Hang", "Hani"), "Latf": ("Latn",),
    "Latg": ("Latn",), "Qaac": ("Copt",), "Syre": ("Syrc",), "Syrj": ("Syrc",), "Syrn": ("Syrc",),
}  # fmt: skip


def parts(scripts: Sequence[str]) -> tuple[str, ...]:
    """Returns the codes of SCRIPTS that these codes stand for; an unknown one is a ValueError.

    >>> parts(("Kore", "Hani", "Latn"))
    ('Hang', 'Hani', 'Latn')
    """
    for code in scripts:
        if code not in SCRIPTS and code not in UNIONS:
            raise ValueError(unknown(code))
    return tuple(dict.fromkeys(single for code in scripts for single in UNIONS.get(code, (code,))))


def unknown(code: str) -> str:
    """Returns what to tell someone who names a script that there is not."""
    codes = {code.lower(): code for code in (*SCRIPTS, *UNIONS)}
    codes |= {name.lower(): code for code, name in SCRIPTS.items()}
    near = difflib.get_close_matches(code.lower(), codes, n=1)
    nearest = f", the nearest is {codes[near[0]]}" if near else ""
    return f"unknown script {code!r}{nearest}; name ISO 15924 codes, such as Hang, Deva or Latn"


def _written(code: str) -> str:
    parts((code,))
    return code


Script = Annotated[str, pydantic.AfterValidator(_written)]  # an ISO 15924 code of the tables above
