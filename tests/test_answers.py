"""The number an answer ends in, the letter it chooses, and the script it is written in."""

from decimal import Decimal

from conftest import data_file
import pytest

from lrl_jax.evaluate.benchmark import answers


@pytest.mark.parametrize(
    ("answer", "want"),
    [
        ("The answer is 2,125.", "2125"),
        ("उत्तर १८ है।", "18"),  # Devanagari
        ("الجواب ٧٠٬٠٠٠ دولار", "70000"),  # Arabic digits and separator
        ("٣٫٥", "3.5"),
        ("คำตอบคือ ๑๒๓ บาท", "123"),  # Thai
        ("উত্তর: ৪২", "42"),  # Bengali
        ("答案是２，１２５元", "2125"),  # full width
        ("18 + 3 = 21. So 21 - 5 = 16", "16"),
        ("It makes $18.50 a day", "18.5"),
        ("1.250,75 Euro", "1250.75"),
        ("12,34,567 rupees", "1234567"),
        ("12,345,678", "12345678"),
        ("1.234.567", "1234567"),
        ("70\u202f000 euros", "70000"),
        ("1\u00a0250,5 euros", "1250.5"),
        ("1'250.5 Franken", "1250.5"),
        ("between 3-5", "5"),
        ("it is -5 degrees", "-5"),
        ("a loss of -$1,200", "-1200"),
        ("\u22127", "-7"),
        ("150%", "150"),
        ("0,125", "0.125"),
        ("\u0660,\u0661\u0662\u0665", "0.125"),
        ("version 1.2.3", "3"),
        ("3, 4, 5", "5"),
        ("no number here", None),
        ("", None),
    ],
)
def test_the_last_number_of_an_answer_is_read(answer, want):
    assert answers.last_number(answer) == (want if want is None else Decimal(want))


@pytest.mark.parametrize(
    ("answer", "target", "want"),
    [
        ("2125", "2,125", True),
        ("2.125", "2,125", True),  # as German writes it
        ("2,125.00", "2,125", True),
        ("2 125", "2,125", True),
        ("3.5", "3,5", True),
        ("2.1250", "2,125", False),
        ("21250", "2,125", False),
        ("-2125", "2,125", False),
        ("5 apples of 2125", "2125", True),
        ("2125 apples of 5", "2125", False),  # the last number counts
        ("no idea", "5", False),
    ],
)
def test_numbers_are_the_same_however_they_are_written(answer, target, want):
    assert answers.same_number(answer, target) is want


def test_a_target_without_a_number_is_refused():
    with pytest.raises(ValueError, match="the target 'five' has no number"):
        answers.same_number("5", "five")


@pytest.mark.parametrize("language", ["en", "sw", "th", "zh"])
def test_every_answer_of_mgsm_is_one_number_and_equals_itself(language):
    lines = data_file(f"nlu/mgsm/mgsm_{language}.tsv").read_text(encoding="utf-8").splitlines()
    targets = [line.split("\t")[1] for line in lines]
    assert len(targets) == 250
    assert sum("," in target for target in targets) > 0
    for target in targets:
        assert answers.last_number(target) == Decimal(target.replace(",", ""))
        assert answers.same_number(f"... = {target}.", target)


@pytest.mark.parametrize(
    ("answer", "want"),
    [
        ("B", "B"),
        (" (C) because", "C"),
        ("D. Paris", "D"),
        ("**A**", "A"),
        ("답: B", "B"),
        ("答案是（C）", "C"),
        ("Ｂ", "B"),
        ("The answer is D.", "D"),
        ("The answer is (A), not the others", "A"),
        ("First A) then B)", "B"),
        ("B입니다.", "B"),
        ("정답은 B 입니다.", "B"),
        ("답은 B이고", "B"),
        ("答案是C", "C"),
        ("答案是B，因为", "B"),
        ("正解はB。", "B"),
        ("คำตอบคือ B ครับ", "B"),
        ("The answer is A, not B.", "A"),
        ("Answer: C, for D is wrong.", "C"),
        ("비타민 B12", ""),
        ("IBM입니다", ""),
        ("A dog is in the picture", ""),
        ("A's", ""),
        ("Because", ""),
        ("E", ""),
        ("", ""),
    ],
)
def test_the_chosen_letter_is_read(answer, want):
    assert answers.chosen_letter(answer) == want


def test_a_target_is_read_as_an_answer_is_and_one_without_a_letter_is_refused():
    for target in ("B", "(B)", "Answer: B", "B. Paris"):
        assert answers.same_letter("It is B.", target)
        assert not answers.same_letter("It is C.", target)
    for target in ("b", "K", "\uac00", "Because"):
        with pytest.raises(ValueError, match=f"the target '{target}' names no letter from A to J"):
            answers.same_letter("B", target)


def test_other_letters_can_be_asked_for():
    assert answers.chosen_letter("Answer: 3)", "12345") == "3"


def test_the_first_line_with_text_is_the_answer():
    assert answers.first_line("\n  서울 \nQuestion: next") == "서울"
    assert answers.first_line("") == ""


@pytest.mark.parametrize(
    ("answer", "language", "references", "want"),
    [
        ("서울", "kor_Hang", [], True),
        ("Seoul", "kor_Hang", [], False),
        ("Seoul", "kor_Hang", ["서울", "Seoul"], True),  # a name that the reference writes so
        ("KBS 한국방송", "kor_Hang", [], True),
        ("大韓民國", "kor_Hang", [], False),
        ("東京に行く", "jpn_Jpan", [], True),
        ("北京", "zho_Hans", [], True),
        ("北京", "zho_Hant", [], True),
        ("साल", "npi_Deva", [], True),
        ("1989", "kor_Hang", [], None),
        ("", "kor_Hang", [], None),
    ],
)
def test_the_script_of_an_answer_is_compared_with_its_language(answer, language, references, want):
    assert answers.in_script(answer, language, references) is want
