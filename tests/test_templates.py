"""Templates: what each one writes, word for word, and that generation starts where training did."""

from hand_tokenizer import NEWLINE, make
import numpy as np
import pytest

from lrl_jax.data import documents, templates
from lrl_jax.languages import english_name
from lrl_jax.data.templates import Part

PAIR = {
    "source": "a b",
    "target": "c",
    "source_language": "eng_Latn",
    "target_language": "kor_Hang",
}
TASK = {"instruction": "Add.", "input": "1 2", "output": "3"}

CHAIN = {
    "language": "kor_Hang", "instruction": "더해라.", "input": "1 2", "output": "셋",
    "english_instruction": "Add.", "english_input": "1 2", "english_output": "Three",
}  # fmt: skip
ASKED = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
    "Translate the following instructions from Korean to English, formulate a response in English, "
    "and then translate that response back into Korean.\n더해라.\n\n### Input:\n1 2\n\n"
    "### Response:"
)

# One line a template: a record, its parts, and its prompt. A new template is tested by listing it.
WANT = {
    "plain": ({"text": "a b"}, [Part("a b", True)], "a b"),
    "pair": (PAIR, [Part("a b\n", True), Part("c", True)], "a b\n"),
    "translation": (
        PAIR,
        [
            Part("Translate the following sentence from English to Korean.\na b\n", False),
            Part("c", True),
        ],
        "Translate the following sentence from English to Korean.\na b\n",
    ),
    "alpaca": (
        TASK,
        [
            Part(
                "Below is an instruction that describes a task, paired with an input that "
                "provides further context. Write a response that appropriately completes the "
                "request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:",
                False,
            ),
            Part("3", True),
        ],
        "Below is an instruction that describes a task, paired with an input that "
        "provides further context. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:",
    ),
    "taco": (
        CHAIN,
        [
            Part(ASKED, False),
            Part(
                "Instruction in English: Add.\n1 2\nResponse in English: Three\n"
                "Response in Korean: 셋",
                True,
            ),
        ],
        ASKED,
    ),
    "taco_legacy": (
        CHAIN,
        [
            Part(ASKED, False),
            Part(
                "Instruction in English: Add.\n1 2. \n                        "
                "Response in English: Three. \n                        Response in Korean: 셋 ",
                True,
            ),
        ],
        ASKED,
    ),
}


@pytest.mark.parametrize("name", templates.TEMPLATES)
def test_a_template_writes_these_words(name):
    record, want, want_prompt = WANT[name]
    assert templates.parts(name, record) == want
    assert templates.prompt(name, record) == want_prompt


@pytest.mark.parametrize("name", templates.TEMPLATES)
def test_generation_starts_from_the_ids_that_training_had_before_the_answer(name):
    record, parts, _ = WANT[name]
    tokenizer = make()
    document = documents.encode([templates.parts(name, record)], tokenizer)[0]
    prompt = tokenizer.encode(templates.prompt(name, record))
    assert document.tokens[: len(prompt)].tolist() == prompt
    answer = document.tokens[len(prompt) :]
    assert tokenizer.decode(answer) == (parts[-1].text if len(parts) > 1 else "")


def test_alpaca_without_input_has_the_shorter_header():
    got = templates.prompt("alpaca", {"instruction": "Say a."})
    assert got == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nSay a.\n\n### Response:"
    )


def test_a_document_is_its_parts_tokens_and_a_trained_eos():
    parts = [Part("ab\n", False), Part("b c", True)]
    got = documents.encode([parts], make())[0]
    # "_a" "b" newline | "_b" "_c" | </s>: the answer starts with a word mark of its own
    assert got.tokens.tolist() == [263, 261, NEWLINE, 264, 265, 2]
    assert got.trained.tolist() == [False, False, False, True, True, True]
    assert got.bytes == len("b c")


def test_an_empty_answer_still_trains_eos():
    got = documents.encode([[Part("a", False), Part("", True)]], make())[0]
    assert got.tokens.tolist() == [263, 2]
    assert got.trained.tolist() == [False, True]
    assert got.bytes == 0


def test_bytes_are_utf8_bytes_of_trained_text():
    got = documents.encode([[Part("ab", False), Part("한", True)]], make())[0]
    assert got.bytes == 3


def test_splitting_drops_nothing():
    document = documents.Document(np.arange(7), np.arange(7) % 2 == 1, 0)
    pieces = list(documents.split(document, 3))
    assert [tokens.tolist() for tokens, _ in pieces] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [trained.tolist() for _, trained in pieces] == [
        [False, True, False],
        [True, False, True],
        [False],
    ]


def test_an_unknown_template_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="no template 'chat'; there are plain, pair, transl"):
        templates.parts("chat", {})


def test_a_missing_field_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="'pair' needs the field 'source'; the record has text"):
        templates.parts("pair", {"text": "a"})


def test_an_unknown_language_is_an_error_with_a_near_one():
    with pytest.raises(ValueError, match="'kor_Hangul'; did you mean kor_Hang"):
        english_name("kor_Hangul")


def test_a_template_fingerprint_follows_what_it_writes():
    korean = templates.fingerprint("translation", PAIR)
    swahili = templates.fingerprint("translation", PAIR | {"target_language": "swh_Latn"})
    assert korean != swahili
    assert korean == templates.fingerprint("translation", dict(PAIR))
