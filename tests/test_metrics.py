"""Translation scores and n-gram baselines, against numbers worked out by hand."""

import json
import math
import random

from conftest import DATA, NO_DATA
import pytest
import sacrebleu
from sacrebleu.tokenizers import tokenizer_spm
import sentencepiece as spm

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


# ---------------------------------------------------------------------------- spBLEU, ROUGE-L, F1
def test_spbleu_without_its_model_says_so_and_scores_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    got = metrics.spbleu(["a"], [["a"]], "flores101")
    want = tmp_path / "models" / "sacrebleu_tokenizer_spm.model"
    assert got["spbleu"] is None
    assert str(want) in got["spbleu_note"]
    assert got["spbleu_note"].startswith("spBLEU was not measured: place https://")


def test_spbleu_reads_the_model_at_its_place(tmp_path, monkeypatch):
    place = tmp_path / "models" / "flores200sacrebleuspm"
    place.parent.mkdir()
    with place.open("wb") as f:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(["the cat sat on the mat", "a dog"]), model_writer=f,
            vocab_size=16, minloglevel=2,
        )  # fmt: skip
    model = spm.SentencePieceProcessor(model_file=str(place))
    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    got = metrics.spbleu(["the cat sat on a mat"], [["the cat sat on the mat"]])
    pieces = [" ".join(model.encode_as_pieces(text)) for text in (
        "the cat sat on a mat", "the cat sat on the mat")]  # fmt: skip
    want = sacrebleu.corpus_bleu(
        [pieces[0]], [[pieces[1]]], tokenize="none", use_effective_order=True, force=True
    )
    assert got["spbleu"] == pytest.approx(want.score)
    assert "tok:flores200" in got["spbleu_signature"]


def test_an_unknown_spbleu_tokenizer_is_refused():
    with pytest.raises(ValueError, match=r"no spBLEU tokenizer 'flores2000'.*did you mean"):
        metrics.spbleu(["a"], [["a"]], "flores2000")


@pytest.mark.parametrize(
    ("hypothesis", "reference", "want"),
    [
        ("police killed the gunman", "police kill the gunman", 3 / 4),  # Lin 2004's example
        ("the gunman kill police", "police kill the gunman", 2 / 4),
        ("नया साल आया", "साल नया आया", 2 / 3),  # marks stay in their words
        ("北京是首都", "北京首都", 8 / 9),  # 4 characters of 5 and of 4
        ("", "word", 0.0),
        ("!?", "!?", 0.0),
    ],
)
def test_rouge_l_by_hand(hypothesis, reference, want):
    assert metrics.rouge_l(hypothesis, reference) == pytest.approx(want)


def test_macro_f1_by_hand():
    # class a: 1 right, 2 guessed, 2 wanted: 2/4; b: 1, 2, 1: 2/3; c: never guessed: 0
    assert metrics.macro_f1("aabb", "acab") == pytest.approx((2 / 4 + 2 / 3 + 0) / 3)
    assert metrics.macro_f1([1, 0], [1, 0]) == 1.0
    with pytest.raises(ValueError, match="2 guesses for 1 targets"):
        metrics.macro_f1([1, 0], [1])


def test_the_interval_of_a_corpus_score_is_near_sacrebleus_own():
    words = ["cat", "dog", "sat", "mat", "on", "the", "a", "saw", "red", "big"]
    dice = random.Random(0)
    references = [" ".join(dice.choices(words, k=9)) for _ in range(60)]
    hypotheses = [
        " ".join(word if dice.random() < 0.8 else "xyz" for word in reference.split())
        for reference in references
    ]
    low, high = metrics.interval(sacrebleu.CHRF(), hypotheses, [references])
    score = sacrebleu.CHRF().corpus_score(hypotheses, [references], n_bootstrap=1000)
    assert low < score.score < high
    assert (high - low) / 2 == pytest.approx(score._ci, rel=0.1)


def test_a_corpus_of_which_some_resamples_score_0_has_an_interval():
    hypotheses, references = ["xyz", "xyz", "the cat"], ["a dog", "it sat", "the cat"]
    low, high = metrics.interval(sacrebleu.CHRF(word_order=2), hypotheses, [references])
    assert low == 0 < high
