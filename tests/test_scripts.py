"""Scripts: what a piece is written in, and where a word is in a script."""

import sys

import pytest
import regex

from lrl_jax.vocab import scripts

ALL = "".join(map(chr, range(sys.maxunicode + 1)))
THIRTY = (
    "Arab", "Armn", "Batk", "Beng", "Bopo", "Bugi", "Cham", "Copt", "Cyrl", "Deva",
    "Ethi", "Geor", "Grek", "Hang", "Hani", "Hebr", "Hira", "Hmnp", "Kali", "Latn",
    "Lepc", "Limb", "Mong", "Mymr", "Newa", "Nkoo", "Osge", "Rohg", "Taml", "Thai",
)  # fmt: skip


@pytest.mark.parametrize(
    ("piece", "codes", "want"),
    [
        ("▁한국", ("Hang",), True),
        ("한자漢字", ("Hang",), False),
        ("한자漢字", ("Kore",), True),
        ("क्\u200dष", ("Deva",), True),
        ("\u200d", ("Deva",), False),
        ("▁e\u0301", ("Latn",), True),
        ("漢字かなカナー", ("Jpan",), True),
        ("한▁국", ("Hang",), False),
        ("▁", ("Hang",), False),
        ("12", ("Latn",), False),
        (" 한국", ("Hang",), True),
        ("  한국", ("Hang",), False),
        ("", ("Hang",), False),
        ("।", ("Deva",), True),
        ("।", ("Beng",), True),
        ("বাংলা।", ("Beng",), True),
        ("।", ("Latn",), False),
        ("\U00010d00\U00010d01", ("Rohg",), True),
        ("漢字。", ("Hans",), True),
        ("ـ", ("Arab",), True),
        ("ـ", ("Hebr",), False),
        ("ʼyan", ("Latn",), True),  # Hausa's apostrophe is a letter that Latin shares
        ("ⲁϣ", ("Qaac",), True),
    ],
)
def test_scripts_are_told_apart(piece, codes, want):
    assert scripts.written_in(piece, codes) == want


@pytest.mark.parametrize("code", THIRTY)
def test_a_script_has_the_characters_that_unicode_extends_it_to(code):
    want = set(regex.findall(rf"\p{{Script_Extensions={code}}}", ALL))
    if code in ("Latn", "Cyrl"):  # letters of no script, such as the okina
        want |= set(regex.findall(r"(?V1)[\p{Lm}&&\p{Script_Extensions=Zyyy}]", ALL))
    assert set(scripts.own((code,)).findall(ALL)) == want
    assert len(want) > 20


def test_every_script_that_characters_have_is_there():
    not_of_one = regex.compile(r"[\p{Script=Zyyy}\p{Script=Zinh}\p{Script=Zzzz}]+")
    left = not_of_one.sub("", ALL)
    for code in scripts.SCRIPTS:
        left, count = regex.subn(rf"\p{{Script={code}}}+", "", left)
        assert count, code
    assert left == ""


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("K팝 2024", {"Latn": 1, "Hang": 1}),
        ("ᚠᚢ가", {"Runr": 2, "Hang": 1}),
        ("𐴀𐴁ᤁ", {"Rohg": 2, "Limb": 1}),
        ("𝐱ー", {}),  # letters of no one script
    ],
)
def test_letters_are_counted_by_their_script(text, want):
    assert scripts.letters(text) == want


@pytest.mark.parametrize(
    ("word", "want"),
    [
        (" 한국", [" 한국"]),
        ("(한국)", ["한국"]),
        ("K팝과 R송", ["팝과", "송"]),
        (" 1월", ["월"]),
        ("한국 사람", ["한국", "사람"]),
        ("seoul", []),
        ("\u200d\u200d", []),
    ],
)
def test_a_word_is_cut_where_its_script_changes(word, want):
    data = word.encode()
    got = [data[start:stop].decode() for start, stop in scripts.stretches(data, ("Hang",))]
    assert got == want


@pytest.mark.parametrize(
    ("code", "nearest"),
    [("Korean", "Kore"), ("hang", "Hang"), ("Devanagari", "Deva"), ("Rohingya", "Rohg")],
)
def test_an_unknown_script_is_refused_with_the_nearest(code, nearest):
    why = f"unknown script '{code}', the nearest is {nearest}; name ISO 15924 codes, such as Hang"
    with pytest.raises(ValueError, match=why):
        scripts.written_in("한국", (code,))


@pytest.mark.parametrize("code", ["Zyyy", "Zinh", "Zzzz", ""])
def test_what_names_no_script_is_refused(code):
    with pytest.raises(ValueError, match="unknown script"):
        scripts.parts((code,))
