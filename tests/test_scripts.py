"""Scripts: what a piece is written in, and where a word is in a script."""

import pytest

from lrl_jax.vocab import scripts


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
        ("।", ("Deva",), True),
        ("12", ("Latn",), False),
        (" 한국", ("Hang",), True),
        ("  한국", ("Hang",), False),
        ("", ("Hang",), False),
    ],
)
def test_scripts_are_told_apart(piece, codes, want):
    assert scripts.written_in(piece, codes) == want


@pytest.mark.parametrize(
    ("word", "want"),
    [
        (" 한국", [" 한국"]),
        ("(한국)", ["한국"]),
        ("K팝과 R송", ["팝과", "송"]),
        (" 1월", ["월"]),
        ("한국 사람", ["한국", "사람"]),
        ("seoul", []),
        ("\u0301\u0301", []),
    ],
)
def test_a_word_is_cut_where_its_script_changes(word, want):
    got = [word[start:stop] for start, stop in scripts.stretches(word, ("Hang",))]
    assert got == want


def test_an_unknown_script_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown script 'Korean'; there are Adlm, .*Hang"):
        scripts.written_in("한국", ("Korean",))
