"""Fertility where spaces part phrases, where a tokenizer knows nothing, and under equal names."""

import io

import hand_tokenizer
import pytest
from rich.console import Console
from sentencepiece import sentencepiece_model_pb2 as spm

from lrl_jax.cli.verbs import _apart
from lrl_jax.report import fertility as fertility_report
from lrl_jax.report.fertility_findings import FertilityFindings
from lrl_jax.vocab import fertility
from lrl_jax.vocab.fertility import LanguageText, measure
from lrl_jax.vocab.tokenizer.load import from_bytes

HAND = hand_tokenizer.make()
BURMESE = "မြန်မာစကား ပြောတယ်"  # two stretches of nine characters


def without_bytes():
    """The tokenizer done by hand, which reads what it has no piece for as <unk>."""
    model = spm.ModelProto.FromString(HAND.files["tokenizer.model"])
    model.trainer_spec.byte_fallback = False
    for piece in model.pieces:
        if piece.type == piece.BYTE:
            piece.type = piece.UNUSED
    return from_bytes(model.SerializeToString())


def terminal(rows) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(fertility.table(rows))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_terminal_cuts_no_figure(width):
    texts = {"kor_Hang": ["ab " * 9000] * 2, "eng_Latn": ["ab " * 9000] * 2}
    rows = fertility.report({"runs/a/long/path": HAND, "other": without_bytes()}, texts)
    console = Console(file=io.StringIO(), width=width)
    console.print(fertility.table(rows))
    got = console.file.getvalue()
    assert "\u2026" not in got
    assert max(map(len, got.splitlines())) <= width
    words = got.replace("\u2502", " ").split()
    for figure in (f"{rows[0].per_line:.1f}", f"{rows[0].per_byte:.3f}", "Korean", "unknown"):
        assert figure in words
    assert got.count("tokens per ...") == 1


@pytest.mark.parametrize(
    ("code", "spaced"),
    [
        ("mya_Mymr", False),
        ("lao_Laoo", False),
        ("bod_Tibt", False),
        ("khm_Khmr", False),
        ("amh_Ethi", True),
        ("kor_Hang", True),
    ],
)
def test_a_language_whose_script_puts_no_spaces_between_words_has_no_numbers_per_word(code, spaced):
    (row,) = fertility.report({"t": HAND}, {code: [BURMESE]})
    assert row.characters < fertility.UNSPACED * row.words
    assert row.spaced is spaced
    assert (f" {row.per_word:.2f} " in terminal([row])) is spaced


def test_what_is_unknown_is_a_share_of_characters():
    rows = measure(
        {"bytes": HAND, "none": without_bytes()},
        {"x": LanguageText(["ab 가나", "abc"]), "y": LanguageText(["ab ab"])},
    )
    assert [row.unknown for row in rows] == [0.0, 0.0, 2 / 8, 0.0]
    assert [row.comparable for row in rows] == [True, True, False, True]


def test_a_tokenizer_that_does_not_know_a_language_is_never_ranked_there():
    texts = {
        "eng_Latn": LanguageText(["ab ab"] * 3),
        "kor_Hang": LanguageText(["가나다라마바 가나다라마바"] * 3),
    }
    rows = measure({"bytes": HAND, "none": without_bytes()}, texts)
    findings = FertilityFindings(rows, "eng_Latn", 4096)
    assert rows[3].tokens < rows[1].tokens / 4  # what is unknown costs next to nothing
    assert [row.language for _, row in findings.parities("none")] == []
    assert [row.language for row, _ in findings.costs("none")] == ["eng_Latn"]
    assert findings.changed("none") == ([], [])
    assert "(" in terminal(rows).splitlines()[-3]
    assert "85.7%" not in terminal(rows[:2])
    page = fertility_report.render(rows, "eng_Latn", 4096)
    assert "none does not know 92.3% of the characters of kor_Hang" in page
    assert "unknown characters" in page
    first = FertilityFindings(measure({"none": without_bytes(), "b": HAND}, texts), "eng_Latn", 9)
    assert first.changed("b") == ([], [])  # nothing to be relative to


def test_languages_of_one_name_are_told_apart():
    texts = {code: LanguageText(["ab"], "Chinese") for code in ("zho_Hans", "zho_Hant")}
    findings = FertilityFindings(measure({"t": HAND}, texts), "", 9)
    assert [findings.label(code) for code in texts] == ["Chinese (zho_Hans)", "Chinese (zho_Hant)"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/base", "y/base"], ["x/base", "y/base"]),
        (["x/base", "y/base", "runs/ko/vocab"], ["x/base", "y/base", "ko"]),
        (["a/ko/vocab", "b/ko/export"], ["a/ko", "b/ko"]),
        (["ko/vocab", "ko/export"], ["vocab", "export"]),
        (["a/tokenizer.model", "b.model"], ["a", "b.model"]),
    ],
)
def test_tokenizers_of_one_name_are_told_apart(paths, names):
    assert list(_apart(paths)) == names
    assert list(_apart(paths).values()) == paths


def test_a_tokenizer_given_twice_is_refused():
    with pytest.raises(ValueError, match="given twice; name each tokenizer once"):
        _apart(["x/base", "./x/base/"])
