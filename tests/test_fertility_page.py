"""The fertility page: what it says, that it is safe, and that few and many languages fit."""

import base64
import hashlib
import html
import html.parser
import re

import pytest

from lrl_jax.report import fertility as fertility_page
from lrl_jax.report import fertility_findings
from lrl_jax.vocab.fertility import FertilityRow

EVIL = "<script>alert('x')</script>&\"'"
VOID = ("meta", "input")


def row(tokenizer: str, language: str, tokens: int = 100, **fields) -> FertilityRow:
    """100 words of 500 letters in 10 lines; every number follows from the tokens."""
    known = {
        "name": "", "script": "Latn", "lines": 10, "words": 100, "characters": 500, "bytes": 500,
        "parity": tokens / 100, "relative": 1.0, "whole_types": 0.5, "whole_words": 0.25,
        "byte_share": 0.0, "floor": 1.0, "lost": 0,
    } | fields  # fmt: skip
    return FertilityRow(
        tokenizer=tokenizer,
        language=language,
        tokens=tokens,
        per_word=tokens / known["words"],
        per_character=tokens / known["characters"],
        per_byte=tokens / known["bytes"],
        per_line=tokens / known["lines"],
        **known,
    )


TWO = [
    row("base", "eng_Latn"),
    row("base", "kor_Hang", 300, script="Hang", byte_share=0.75),
    row("new", "eng_Latn"),
    row("new", "kor_Hang", 150, script="Hang", relative=0.5, whole_words=0.4),
]
# 30 languages: parity 1.0, 1.2, ... 6.8; all a tenth cheaper under "new".
MANY = [
    row(name, "eng_Latn" if i == 0 else f"l{i:02}", 100 + 20 * i, relative=relative,
        name=f"Language {i:02}", script=("Latn", "Cyrl", "Deva", "Thai")[i % 4])
    for name, relative in (("base", 1.0), ("new", 0.9))
    for i in range(30)
]  # fmt: skip
HOSTILE = [
    row(name, language, name=EVIL, script=EVIL, lost=1)
    for name in (EVIL, "b")
    for language in ("eng_Latn", EVIL)
]
PAGES = {
    "two": TWO,
    "many": MANY,
    "hostile": HOSTILE,
    "hostile many": [
        row(EVIL, f"{EVIL}{i}" if i else "eng", 100 + i, script=EVIL) for i in range(30)
    ],
    "one": TWO[:1],
    "one tokenizer": TWO[:2],
    "no parity": [row("t", f"l{i}", 100 + i, parity=None) for i in range(30)],
    "no words": [row("t", f"l{i}", 200, characters=5000) for i in range(30)],
}


def render(rows) -> str:
    return fertility_page.render(rows, "eng_Latn", 4096)


def findings(rows) -> list[str]:
    """The sentences of the page's first section."""
    (section,) = re.findall(r'<ul class="findings">(.*?)</ul>', render(rows), flags=re.S)
    return [html.unescape(sentence) for sentence in re.findall(r"<li>(.*?)</li>", section)]


class Tags(html.parser.HTMLParser):
    """Every tag and attribute of a page; they must close in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


# ---------------------------------------------------------------------------- safety
@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_well_formed_and_fetches_nothing(name):
    text = render(PAGES[name])
    got = Tags(text)
    assert got.open == []
    assert EVIL not in text
    assert got.tags.count("script") == 1
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(got.tags)
    assert not [name for name, _ in got.attributes if name.startswith("on")]
    links = [value for name, value in got.attributes if name in ("src", "href", "xlink:href")]
    assert all(link.startswith("#") for link in links)
    assert not re.findall(r"url\(|@import", text)


def test_no_script_runs_but_the_one_that_sorts():
    text = render(MANY)
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'; " in text


def test_the_same_rows_give_the_same_page():
    assert render(MANY) == render(list(MANY))


# ---------------------------------------------------------------------------- findings
def test_two_languages_are_spoken_of_by_name():
    assert findings(TWO) == [
        "Under base, kor_Hang takes 3.00 times the tokens of eng_Latn.",
        "Under new, kor_Hang takes 1.50 times the tokens of eng_Latn.",
        "new takes, of the tokens base takes, 1.00 in eng_Latn and 0.50 in kor_Hang.",
        "Under base, more than half of the tokens are single bytes in kor_Hang (75%).",
        "Words that base keeps as one token: 25% in eng_Latn and 25% in kor_Hang.",
        "Words that new keeps as one token: 25% in eng_Latn and 40% in kor_Hang.",
        "Every text comes back from every tokenizer as it went in.",
    ]


def test_many_languages_are_summed_up_with_their_extremes():
    first, _, third, *_ = findings(MANY)
    # Without the reference: 1.2, 1.4, ... 6.8; the middle one of 29 is 4.0.
    assert first == (
        "Under base the median of 29 languages takes 4.00 times the tokens of Language 00; "
        "24 take more than twice as many, 14 more than four times. Dearest: Language 29 (6.8), "
        "Language 28 (6.6) and Language 27 (6.4). Cheapest: Language 01 (1.20), Language 02 "
        "(1.40) and Language 03 (1.60)."
    )
    assert third == (
        "Of 30 languages new takes, compared with base, fewer in 30 (most so Language 00 0.90 "
        "times, Language 01 0.90 times and Language 02 0.90 times)."
    )


def test_a_tokenizer_that_is_dearer_somewhere_is_told_on():
    rows = [row("old", f"l{i}") for i in range(6)]
    rows += [row("new", f"l{i}", relative=(0.5, 1, 1, 1, 1, 1.13)[i]) for i in range(6)]
    assert (
        "Of 6 languages new takes, compared with old, fewer in 1 (namely l0 0.50 times); more in "
        "1 (namely l5 1.13 times); as many, within 1%, in 4."
    ) in findings(rows)


def test_a_pre_tokenizer_that_cuts_words_is_told_on():
    rows = [row("t", "eng_Latn", floor=1.5), row("t", "tam_Taml", 600, floor=4.25)]
    (said,) = [line for line in findings(rows) if "before any merge" in line]
    assert said.startswith(
        "t cuts words into more than 1.5 parts before any merge in 1 language, most so tam_Taml "
        "(4.25): new pieces cannot go below that"
    )


def test_texts_that_do_not_come_back_are_counted_by_language():
    rows = [row("t", "eng_Latn"), row("t", "npi_Deva", lost=3)]
    assert (
        "Under t, 3 texts of 1 language do not come back as they went in: npi_Deva (3)."
    ) in findings(rows)


def test_a_text_of_too_few_lines_is_not_praised_as_cheap():
    rows = [row("t", "eng_Latn"), *(row("t", f"l{i}", 200 + i) for i in range(5))]
    rows.append(row("t", "short", 110, lines=8))
    first, *rest = findings(rows)
    assert "Cheapest: l0 (2.00)" in first
    assert any(line.startswith("1 text may be partial") and "short" in line for line in rest)


def test_what_has_no_parity_says_why():
    (said,) = [line for line in findings([row("t", "kor", parity=None)]) if "parity" in line]
    assert said == "No parity: none of the texts is in the reference language."
    rows = [row("t", "eng_Latn"), row("t", "kor", parity=None)]
    (said,) = [line for line in findings(rows) if "parity" in line]
    assert said.startswith("1 language without parity: the text has not as many lines as that")


# ---------------------------------------------------------------------------- tables and figures
def test_few_languages_show_every_number_at_once():
    text = render(TWO)
    assert '<table class="detail">' in text
    assert "<b>1.50</b><span>new</span>" in text
    assert "words in 4,096 tokens" in text


def test_many_languages_are_switched_between_measures_and_sorted():
    text = render(MANY)
    assert text.count('type="radio"') == text.count(":checked~.wide .num:not(") > 5
    assert '<table class="sorts">' in text
    assert text.count("<circle") == 2 * 30 + 2 * 4  # two panels of languages, one of 4 scripts


def test_a_measure_that_says_nothing_has_no_column():
    assert "floor per word" not in render(MANY)
    assert "floor per word" in render([*MANY[:29], row("base", "kn", floor=2.5)])
    assert "relative to base" not in render(TWO[:2])


def test_words_of_scripts_without_spaces_are_left_empty():
    rows = [row("t", "eng_Latn"), row("t", "tha_Thai", 300, characters=2000)]
    cells = re.findall(r'<td class="num[^"]*\bper_word\b[^>]*>([^<]*)<', render(rows))
    assert cells == ["1.00", ""]


def test_figures_hold_tokenizers_against_one_measure():
    # English costs "new" half of what it costs "base": parity alone would call Korean dearer.
    rows = [
        row("base", "eng"), row("base", "kor", 300),
        row("new", "eng", 50, parity=1.0, relative=0.5),
        row("new", "kor", 200, parity=4.0, relative=2 / 3),
    ]  # fmt: skip
    report = fertility_findings.FertilityFindings(rows, "eng_Latn", 4096)
    assert report.unit == "tokens relative to eng under base"
    assert [value for _, value in report.costs("new")] == [0.5, 2.0]


def test_the_reader_learns_what_reading_costs():
    text = render(TWO)
    # r = 0.5, N = 4096, B = 50,410: 0.5 (1 + 0.0406) / (1 + 0.0813) = 0.481
    assert '<td class="num">0.50</td><td class="num">0.48</td>' in text
    assert '<td class="num">1,365</td><td class="num">2,730</td>' in text
