"""Translation scores and n-gram baselines, against numbers worked out by hand."""

import json
import math

from conftest import DATA, NO_DATA
import pytest
import sacrebleu

from lrl_jax.evaluate import metrics


def test_scores_equal_sacrebleus_own():
    hypotheses = ["the cat sat on the mat", "a dog barked at it"]
    references = ["the cat sat on a mat", "a dog barks at it"]
    got = metrics.translation(hypotheses, references, "eng_Latn")
    assert got["chrf"] == sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert got["bleu"] == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert got["chrf++"] == sacrebleu.corpus_chrf(hypotheses, [references], word_order=2).score
    assert got["lines"] == 2


def test_a_perfect_translation_scores_100_and_a_disjoint_one_0():
    line = "고양이가 매트 위에 앉아 있다 ."
    got = metrics.translation([line], [line], "kor_Hang")
    assert [round(got[name], 6) for name in ("chrf", "chrf++", "bleu")] == [100, 100, 100]
    got = metrics.translation(["xyz"], [line], "kor_Hang")
    assert [got[name] for name in ("chrf", "chrf++", "bleu")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("language", "want"),
    [("kor_Hang", "13a"), ("eng_Latn", "13a"), ("zho_Hans", "char"), ("tha_Thai", "char")],
)
def test_scripts_without_spaces_are_split_by_character(language, want):
    got = metrics.translation(["一二三四五"], ["一二三四六"], language)
    assert got["bleu_tokenizer"] == want
    assert f"tok:{want}" in got["signatures"]["bleu"]
    assert "nw:2" in got["signatures"]["chrf++"]


@pytest.mark.parametrize(("hypotheses", "references"), [(["a"], ["a", "b"]), ([], [])])
def test_missing_translations_are_refused(hypotheses, references):
    with pytest.raises(ValueError, match=r"want one each, and at least one"):
        metrics.translation(hypotheses, references, "eng_Latn")


def test_unigram_of_two_characters():
    # a: (3 + 2/3) / (4 + 2), b: (1 + 2/3) / (4 + 2), over the text "ab" of two bytes
    want = -(math.log2(11 / 18) + math.log2(5 / 18)) / 2
    assert metrics.ngram_bits_per_byte(["aaab"], ["ab"], 1) == pytest.approx(want)


def test_bigram_backs_off_by_the_number_of_kinds_seen():
    # after a: 2 a's and 1 b in 3; after the start: 1 a in 1
    a, b = 11 / 18, 5 / 18
    first, second = (1 + a) / 2, (1 + 2 * b) / 5
    want = -(math.log2(first) + math.log2(second)) / 2
    assert metrics.ngram_bits_per_byte(["aaab"], ["ab"], 2) == pytest.approx(want)


def test_an_unseen_character_is_spelt_in_bytes():
    # one kind seen once: escape (0 + 1 * 1/2) / 2 = 1/4, then three bytes of eight bits
    want = (2 + 24) / 3
    assert metrics.ngram_bits_per_byte(["a"], ["가"], 1) == pytest.approx(want)


def test_probabilities_sum_to_at_most_one():
    training = ["가나다라 가나", "라라나"]
    seen = set("".join(training))

    def after(c):  # the bits of c after the start of a line
        return metrics.ngram_bits_per_byte(training, [c], 2) * len(c.encode())

    total = sum(2 ** -after(c) for c in seen)
    assert 0.5 < total < 1
    assert total + sum(2 ** -after(chr(c)) for c in range(1, 0x800) if chr(c) not in seen) <= 1


def test_context_does_not_cross_lines():
    assert metrics.ngram_bits_per_byte(["ab"], ["a", "b"], 2) > metrics.ngram_bits_per_byte(
        ["ab"], ["ab"], 2
    )


@pytest.mark.parametrize(
    ("training", "test", "says"), [([], ["a"], "training text"), (["a"], [""], "test text")]
)
def test_baselines_without_text_are_refused(training, test, says):
    with pytest.raises(ValueError, match=says):
        metrics.ngram_bits_per_byte(training, test, 1)


def test_korean_baselines_on_flores():
    folder = DATA / "mono" / "ko"
    if not folder.exists():
        pytest.skip(NO_DATA)
    training = (folder / "korquad_dev_contexts.txt").read_text().splitlines()
    reviews = (folder / "nsmc_raw_sample.jsonl").read_text().splitlines()
    training += [json.loads(line)["text"] for line in reviews]
    path = DATA / "parallel" / "flores101_first200" / "kor.devtest"
    test = path.read_text().splitlines()
    unigram, bigram = (metrics.ngram_bits_per_byte(training, test, n) for n in (1, 2))
    # the same smoothing written another way gave 3.149 and 2.376
    assert unigram == pytest.approx(3.149, abs=5e-4)
    assert bigram == pytest.approx(2.376, abs=5e-4)
