"""F1 and exact match of short answers, against the published scripts written down once more."""

from collections import Counter
from collections.abc import Iterator
import json
import random
import re
import string
import unicodedata

from conftest import data_file
import pytest

from lrl_jax.evaluate.benchmark import squad


# ---------------------------------------------------------------------------- the scripts, again
class Transcribed:
    """SQuAD 1.1's evaluate-v1.1.py, from its description: a chain of four steps, then bags."""

    def __init__(self, language: str):
        self.language = language

    def bag(self, answer: str) -> list[str]:
        kept = []
        for character in answer.lower():
            if character not in string.punctuation:
                kept.append(character)
        words = re.split(r"\s+", re.sub(r"\b(a|an|the)\b", " ", "".join(kept)))
        return [word for word in words if word]

    def exact(self, prediction: str, gold: str) -> bool:
        return " ".join(self.bag(prediction)) == " ".join(self.bag(gold))

    def f1(self, prediction: str, gold: str) -> float:
        remaining, shared = self.bag(gold), 0
        for word in self.bag(prediction):
            if word in remaining:
                remaining.remove(word)
                shared += 1
        if not shared:
            return 0.0
        precision = shared / len(self.bag(prediction))
        recall = shared / len(self.bag(gold))
        return 2 * precision * recall / (precision + recall)


class Mlqa(Transcribed):
    """mlqa_evaluation_v1.py: punctuation of every script, articles, Han one by one."""

    def bag(self, answer: str) -> list[str]:
        kept = []
        for character in answer.lower():
            if unicodedata.category(character)[0] != "P" and character not in string.punctuation:
                kept.append(character)
        text = "".join(kept)
        if self.language == "en":
            text = re.sub(r"\b(a|an|the)\b", " ", text)
        if self.language == "ar":
            text = re.sub(r"\sال^|ال", " ", text)
        if self.language == "zh":
            text = re.sub("([\u4e00-\u9fa5])", r" \1 ", text)
        return text.split()


class Korquad(Transcribed):
    """KorQuAD 1.0's script: quotes and brackets are spaces, and F1 counts characters."""

    def words(self, answer: str) -> list[str]:
        for mark in "'\"《》<>〈〉()‘’":
            answer = answer.replace(mark, " ")
        return "".join(c for c in answer.lower() if c not in string.punctuation).split()

    def bag(self, answer: str) -> list[str]:
        return [character for word in self.words(answer) for character in word]

    def exact(self, prediction: str, gold: str) -> bool:
        return self.words(prediction) == self.words(gold)


SCRIPTS = {"squad": Transcribed, "mlqa": Mlqa, "korquad": Korquad}
CODES = {"ar": "arb_Arab", "en": "eng_Latn", "hi": "hin_Deva", "ko": "kor_Hang",
         "tr": "tur_Latn", "zh": "zho_Hans"}  # fmt: skip
FILES = {
    **{code: f"qa/xquad/xquad.{code}.json" for code in ("ar", "en", "hi", "tr", "zh")},
    "ko": "qa/korquad/KorQuAD_v1.0_dev.part1.json",
}


def perturbed(context: str, answer: str, start: int, dice: random.Random) -> str:
    """What a model might say for this answer: right, nearly right, or something else."""
    end = start + len(answer)
    neighbour = context[max(0, start - dice.randrange(30)) : end + dice.randrange(30)]
    words = answer.split()
    dice.shuffle(words)
    return dice.choice([
        answer, answer.upper(), f"The {answer}.", f"  «{answer}», ", " ".join(words), neighbour,
        answer[: len(answer) // 2], answer + answer, f"the\n{answer}\t(an) 'X'", "", "the",
        context[:40], f"《{answer}》", f"그것은 {answer}입니다", f"ال{answer}",
    ])  # fmt: skip


def items(language: str) -> Iterator[tuple[str, str]]:
    """(prediction, reference) of every question, in which the predictions are perturbed."""
    dice = random.Random(language)
    for article in json.loads(data_file(FILES[language]).read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                answer = question["answers"][0]
                context, gold = paragraph["context"], answer["text"]
                yield perturbed(context, gold, answer["answer_start"], dice), gold


@pytest.mark.parametrize("rules", squad.RULES)
@pytest.mark.parametrize("language", FILES)
def test_every_question_scores_as_in_the_published_script(language, rules):
    script, count, partial = SCRIPTS[rules](language), 0, 0
    for prediction, gold in items(language):
        got = squad.scores(prediction, [gold], CODES[language], rules)
        assert got["exact_match"] == script.exact(prediction, gold), (prediction, gold)
        assert got["f1"] == pytest.approx(script.f1(prediction, gold), abs=1e-12), (
            prediction,
            gold,
        )
        assert got["contains"] == (gold.lower() in prediction.lower())
        count += 1
        partial += 0 < got["f1"] < 1
    assert count == (2865 if language == "ko" else 1190)
    assert partial > count / 20  # the predictions test more than 0 and 1


# ---------------------------------------------------------------------------- by hand
@pytest.mark.parametrize(
    ("prediction", "reference", "language", "rules", "exact", "f1"),
    [
        ("The Denver Broncos!", "denver broncos", "eng_Latn", "", 1, 1.0),
        ("Broncos of Denver", "Denver Broncos", "eng_Latn", "", 0, 0.8),  # 2 of 3, 2 of 2
        ("a an the", "", "eng_Latn", "", 1, 0.0),  # nothing is left of either
        ("सही।", "सही", "hin_Deva", "", 1, 1.0),  # the danda is punctuation
        ("सही।", "सही", "hin_Deva", "squad", 0, 0.0),  # which SQuAD's script does not know
        ("die Stadt", "Stadt", "deu_Latn", "", 1, 1.0),
        ("الكتاب", "كتاب", "arb_Arab", "", 1, 1.0),
        ("những con mèo", "con mèo", "vie_Latn", "", 1, 1.0),
        ("北京市。", "北京", "zho_Hans", "", 0, 0.8),  # 2 of 3 characters, 2 of 2
        ("北京市", "北京", "zho_Hans", "squad", 0, 0.0),  # words between spaces
        ("ไทย", "ไทยแลนด์", "tha_Thai", "", 0, 6 / 11),  # 3 characters of 3 and of 8
        ("서울에서", "서울", "kor_Hang", "", 0, 0.0),
        ("서울에서", "서울", "kor_Hang", "korquad", 0, 2 / 3),  # 2 of 4, 2 of 2
        ("《서울》", "서울", "kor_Hang", "korquad", 1, 1.0),
    ],
)
def test_answers_score_as_worked_out_by_hand(prediction, reference, language, rules, exact, f1):
    got = squad.scores(prediction, [reference], language, rules)
    assert (got["exact_match"], got["f1"]) == (exact, pytest.approx(f1))


def test_the_best_reference_counts():
    got = squad.scores("in 1912", ["1911", "year 1912", "in 1912 or so"], "eng_Latn")
    assert got == {"exact_match": 0.0, "f1": pytest.approx(2 * 2 / (2 + 4)), "contains": 0.0}
    assert squad.scores("IN 1912.", ["1911", "1912"], "eng_Latn")["contains"] == 1.0


def test_an_answer_without_reference_is_refused():
    with pytest.raises(ValueError, match="give at least one"):
        squad.scores("Paris", [], "eng_Latn")


def test_unknown_rules_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"no rules 'korqad'.*did you mean 'korquad'"):
        squad.chosen("kor_Hang", "korqad")


def test_counting_tokens_is_not_a_comparison_of_sets():
    assert squad.f1("x x x", "x y", "eng_Latn", "squad") == pytest.approx(2 * 1 / (3 + 2))
    assert Counter("xx") != Counter("x")
