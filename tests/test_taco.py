"""TaCo: rows joined with their translation, and generated chains taken apart again."""

import json
from pathlib import Path

from conftest import DATA, needs_data
from hand_tokenizer import make
import pytest

from lrl_jax.data import dataset as datasets
from lrl_jax.data.templates import table as templates
from lrl_jax.data.templates import taco
from lrl_jax.recipe import data as recipe_data
from lrl_jax.text import Bad


def dataset(english, translated, language="kor_Hang") -> recipe_data.Dataset:
    one = {"kind": "taco", "english": str(english), "translated": str(translated)}
    data = recipe_data.Data(sequence_length=8, datasets={"d": {**one, "language": language}})
    return data.datasets["d"]


def read(one: recipe_data.Dataset) -> list[dict[str, str] | Bad]:
    return [record for shard in datasets.shards(one) for record in datasets.read(one, shard)]


def row(instruction: str, output: str, input_: str = "") -> dict[str, str]:
    return {"instruction": instruction, "input": input_, "output": output}


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_rows_are_joined_with_their_translation(tmp_path):
    english = write(tmp_path / "en", [row("Add.", "Three", "1 2")])
    korean = write(tmp_path / "ko", [row("더해라.", "셋", "1 2")])
    assert read(dataset(english, korean)) == [
        {
            "instruction": "더해라.", "input": "1 2", "output": "셋", "language": "kor_Hang",
            "english_instruction": "Add.", "english_input": "1 2", "english_output": "Three",
        }
    ]  # fmt: skip


def test_a_translation_that_is_still_english_is_left_out(tmp_path):
    english = write(tmp_path / "en", [row("Add.", "Three"), row("Say.", "Hello")])
    korean = write(tmp_path / "ko", [row("더해라.", "셋"), row("말해라.", "Hello ")])
    kept, left = read(dataset(english, korean))
    assert kept["output"] == "셋"
    assert left == Bad(f"{korean}: row 2", "the output is still the English one", "untranslated")


def test_files_of_unequal_length_are_refused(tmp_path):
    english = write(tmp_path / "en", [row("a", "b"), row("c", "d")])
    korean = write(tmp_path / "ko", [row("가", "나")])
    with pytest.raises(ValueError, match=r"ko has 1 rows and .*en more; row n of one must be"):
        read(dataset(english, korean))


def test_an_input_on_one_side_only_shows_that_rows_are_not_aligned(tmp_path):
    english = write(tmp_path / "en", [row("a", "b", "c")])
    korean = write(tmp_path / "ko", [row("가", "나")])
    with pytest.raises(ValueError, match=r"ko: row 1 and .*en: row 1: only one of them has an inp"):
        read(dataset(english, korean))


@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_learnt_parses_into_what_it_was_made_of(legacy):
    record = {
        "language": "npi_Deva", "instruction": "x", "input": "", "output": "उत्तर: एक\nदुई",
        "english_instruction": "Say: a\nb", "english_input": "", "english_output": "One.",
    }  # fmt: skip
    found = taco.parse("".join(taco.sections(record, legacy)))
    assert (found.answer, found.language) == ("उत्तर: एक\nदुई", "Nepali")
    assert (found.english_instruction, found.english_answer) == ("Say: a\nb", "One.")


CHAIN = {
    "language": "npi_Deva", "instruction": "x", "input": "", "output": "उ",
    "english_instruction": "I", "english_input": "", "english_output": "O",
}  # fmt: skip


def weighed(template: str, prompt: str = "alpaca", **weights: float) -> list[tuple[str, float]]:
    """What is written of CHAIN after its prompt."""
    one = {"kind": "taco", "path": ["x"], "language": "npi_Deva", "template": template}
    one |= {"prompt": prompt, "weights": weights}
    data = recipe_data.Data(sequence_length=8, datasets={"d": one})
    parts = templates.writer(data.datasets["d"], make())(CHAIN)
    assert not parts[0].trained
    return [(part.text, part.weight) for part in parts[1:]]


def test_sections_weigh_what_the_recipe_says():
    got = weighed("taco", english_instruction=0, english_answer=0.5, answer=2)
    assert got == [
        ("Instruction in English: I\n", 0),
        ("Response in English: O\n", 0.5),
        ("Response in Nepali: उ", 2),
    ]
    got = weighed("taco_legacy", english_instruction=0.3)
    assert got == [
        ("Instruction in English: I. \n", 0.3),
        (" " * 24 + "Response in English: O. \n" + " " * 24 + "Response in Nepali: उ ", 1),
    ]


def test_a_chain_of_one_weight_is_tokenised_whole():
    whole = "Instruction in English: I\nResponse in English: O\nResponse in Nepali: उ"
    assert weighed("taco") == [(whole, 1)]


def test_a_chain_is_asked_for_in_the_turns_of_guanaco_where_the_recipe_says_so():
    asked = templates.chain(CHAIN, prompt="guanaco")[0].text
    assert asked == (
        "### Human: Translate the following instructions from Nepali to English, formulate a "
        "response in English, and then translate that response back into Nepali.\nx"
        "### Assistant:"
    )
    assert weighed("taco", prompt="guanaco") == weighed("taco")


def test_every_chain_begins_with_the_words_that_open_a_generation():
    assert all(taco.sections(CHAIN, legacy)[0].startswith(taco.PREFIX) for legacy in (False, True))
    opened = make().encode(taco.PREFIX)
    assert make().encode("".join(taco.sections(CHAIN, legacy=False)))[: len(opened)] == opened


def test_a_chain_cut_short_is_a_failed_generation():
    whole = "Instruction in English: a\nResponse in English: b\nResponse in Tamil: c"
    assert taco.parse(whole).answer == "c"
    assert taco.parse(whole[:-16]) is None
    assert taco.parse("") is None


@needs_data
@pytest.mark.parametrize(
    ("language", "parsed", "short"),
    [("nepali", 77, 48), ("persian", 80, 69)],
)
def test_published_outputs_parse_as_published(language, parsed, short):
    """Oracle: the last section is the answer that was judged; truncated ones do not parse."""
    folder = DATA / "judge/taco"
    judged = {
        r["id"]: r for r in json.loads((folder / f"{language}_gpt4_evaluated.json").read_text())
    }
    texts = {i: (folder / f"responses/{language}/{i}.txt").read_text() for i in range(1, 81)}
    found = {i: sections for i, text in texts.items() if (sections := taco.parse(text))}
    assert len(found) == parsed
    if language == "nepali":
        assert texts.keys() - found.keys() == {42, 65, 66}
    assert all(s.answer == judged[i]["answer"].strip() for i, s in found.items())
    assert sum("less than 6 sentences" in text for text in texts.values()) == short


@needs_data
def test_the_aligned_german_rows_all_carry_the_scaffold():
    folder = DATA / "instruct"
    one = dataset(folder / "alpaca_en_12k.json", folder / "alpaca_de_openai_12k.json", "deu_Latn")
    rows = read(one)
    kept = [record for record in rows if not isinstance(record, Bad)]
    answers = [templates.parts("taco", record)[1].text for record in kept]
    assert (len(rows), len(rows) - len(kept)) == (12_000, 1_101)
    assert all(taco.parse(text).answer for text in answers)
