"""Templates: what each one writes, word for word, and that generation starts where training did."""

import dataclasses
import json

from hand_tokenizer import NEWLINE, make, spell
import numpy as np
import pytest

from lrl_jax.data.templates import chat, documents, translation
from lrl_jax.data.templates import table as templates
from lrl_jax.data.templates.parts import TextPart, opening
from lrl_jax.recipe import data as recipe_data
from lrl_jax.recipe.languages import english_name
from lrl_jax.vocab.tokenizer.types import Tokenizer

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
HEADER = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
)
TALK = {
    "messages": json.dumps(
        [
            {"role": "system", "content": "c"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "a </s>"},
            {"role": "assistant", "content": "c b"},
        ]
    )
}
CONTROLS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
IM, MI = ("<|im_start|>", 0), ("<|im_end|>", 0)
IN_CHATML = [
    *(IM, ("system\nc", 0), MI, ("\n", 0)),
    *(IM, ("user\na", 0), MI, ("\n", 0)),
    *(IM, ("assistant\n", 0), ("b", 1), ("<|im_end|>", 1), ("\n", 0)),
    *(IM, ("user\na </s>", 0), MI, ("\n", 0)),
    *(IM, ("assistant\n", 0), ("c b", 1), ("<|im_end|>", 1), ("\n", 0)),
]
START, STOP, EOT = ("<|start_header_id|>", 0), ("<|end_header_id|>", 0), ("<|eot_id|>", 0)

# One entry a template: a record, and the stretches of its document with their weights in the loss;
# a name of a control token is that token. A new template is tested by listing it.
WANT = {
    "plain": ({"text": "a b"}, [("a b", 1)]),
    "pair": (PAIR, [("a b\n", 1), ("c", 1)]),
    "completion": ({"prompt": "a\n", "completion": "b c"}, [("a\n", 0), ("b c", 1)]),
    "task": ({"inputs": "a b", "targets": "c"}, [("a b", 0), ("c", 1)]),
    "translation": (
        PAIR,
        [("Translate the following sentence from English to Korean.\na b\n", 0), ("c", 1)],
    ),
    "translation_varied": (
        PAIR,
        [
            (
                f"{HEADER}Give the Korean equivalent of this English text.\n\n"
                "### Input:\na b\n\n### Response:",
                0,
            ),
            ("c", 1),
        ],
    ),
    "alpaca": (TASK, [(f"{HEADER}Add.\n\n### Input:\n1 2\n\n### Response:", 0), ("3", 1)]),
    "taco": (
        CHAIN,
        [
            (ASKED, 0),
            (
                "Instruction in English: Add.\n1 2\nResponse in English: Three\n"
                "Response in Korean: 셋",
                1,
            ),
        ],
    ),
    "taco_legacy": (
        CHAIN,
        [
            (ASKED, 0),
            (
                "Instruction in English: Add.\n1 2. \n                        "
                "Response in English: Three. \n                        Response in Korean: 셋 ",
                1,
            ),
        ],
    ),
    "llama2_chat": (
        TALK,
        [
            ("[INST] <<SYS>>\nc\n<</SYS>>\n\na [/INST]", 0),
            *((" b ", 1), ("</s>", 1), ("<s>", 0)),
            ("[INST] a </s> [/INST]", 0),
            *((" c b ", 1), ("</s>", 1)),
        ],
    ),
    "llama3_chat": (
        TALK,
        [
            *(START, ("system", 0), STOP, ("\n\nc", 0), EOT),
            *(START, ("user", 0), STOP, ("\n\na", 0), EOT),
            *(START, ("assistant", 0), STOP, ("\n\n", 0), ("b", 1), ("<|eot_id|>", 1)),
            *(START, ("user", 0), STOP, ("\n\na </s>", 0), EOT),
            *(START, ("assistant", 0), STOP, ("\n\n", 0), ("c b", 1), ("<|eot_id|>", 1)),
        ],
    ),
    "chatml": (TALK, IN_CHATML),
    "tokenizer": (TALK, IN_CHATML),
    "guanaco": (
        TALK,
        [
            ("c\n### Human: a### Assistant:", 0),
            (" b", 1),
            ("### Human: a </s>### Assistant:", 0),
            (" c b", 1),
        ],
    ),
}
OPENED = {  # what generation starts from, where that is not the text before the first learnt one
    "plain": "a b",  # nothing to answer: a text that goes on
    "pair": "a b\n",
    "translation_varied": (  # tests always ask in the first of all ways
        f"{HEADER}Translate the following sentences from English to Korean.\n\n"
        "### Input:\na b\n\n### Response:"
    ),
}
KINDS = {
    "plain": "text", "pair": "parallel", "translation": "parallel",
    "translation_varied": "parallel", "completion": "completion", "alpaca": "instructions",
    "taco": "taco", "taco_legacy": "taco", "task": "task",
}  # fmt: skip


def tokenizer(jinja: str = CHATML) -> Tokenizer:
    found = make(controls=CONTROLS)
    return dataclasses.replace(found, files={**found.files, "chat_template.jinja": jinja.encode()})


def dataset(name: str, **more) -> recipe_data.Dataset:
    """A dataset whose template is `name`; what it reads does not matter here."""
    kind = KINDS.get(name, "chat")
    place = {"path": ["x"]}
    if kind == "parallel":
        place |= {"source_language": "eng_Latn", "target_language": "kor_Hang"}
    elif kind == "task":
        place = {"task": "x", "language": "kor_Hang"}
    else:
        place |= {"language": "kor_Hang"}
    template = {} if kind in ("text", "task") else {"template": name}
    data = {"sequence_length": 8, "datasets": {"d": {"kind": kind, **place, **template, **more}}}
    return recipe_data.Data(**data).datasets["d"]


def as_parts(stretches: list[tuple[str, float]]) -> list[TextPart]:
    names = (*CONTROLS, "<s>", "</s>")
    return [TextPart(text, weight, control=text in names) for text, weight in stretches]


def spelt(stretches: list[tuple[str, float]]) -> tuple[list[int], list[float]]:
    """Ids and weights of stretches by hand, with eos; what is read after the last learnt is not."""
    controls = {name: 266 + n for n, name in enumerate(CONTROLS)} | {"<s>": 1, "</s>": 2}
    while not stretches[-1][1]:
        stretches = stretches[:-1]
    ids: list[int] = []
    weights: list[float] = []
    for text, weight in stretches:
        own = [controls[text]] if text in controls else spell(text)
        ids, weights = ids + own, weights + [weight] * len(own)
    return (ids, weights) if stretches[-1][0] in controls else ([*ids, 2], [*weights, 1])


@pytest.mark.parametrize("name", [*templates.TEMPLATES, "tokenizer"])
def test_a_template_writes_these_words(name):
    record, want = WANT[name]
    if name != "tokenizer":
        assert templates.parts(name, record) == as_parts(want)
    assert templates.writer(dataset(name), byte_level())(record) == as_parts(want)


def byte_level() -> Tokenizer:
    """Without a dummy prefix; text is not tokenised with it here."""
    return dataclasses.replace(tokenizer(), family="byte_level")


@pytest.mark.parametrize("name", [*templates.TEMPLATES, "tokenizer"])
def test_a_template_gives_these_ids_with_these_weights(name):
    record, want = WANT[name]
    # With a dummy prefix an answer after text begins with a space by itself.
    if name in ("llama2_chat", "guanaco"):
        want = [(text.removeprefix(" "), weight) for text, weight in want]
    write = templates.writer(dataset(name), tokenizer())
    got = documents.encode([write(record)], tokenizer())[0]
    ids, weights = spelt(want)
    assert (got.tokens.tolist(), got.weights.tolist()) == (ids, weights)


@pytest.mark.parametrize("name", [*templates.TEMPLATES, "tokenizer"])
def test_a_document_has_one_bos_learns_its_end_and_not_its_prompt(name):
    record, _ = WANT[name]
    write = templates.writer(dataset(name), tokenizer())
    got = documents.encode([write(record)], tokenizer())[0]
    assert got.tokens[0] != 1  # every document of a batch is given its bos: none of its own
    assert got.weights[-1] == 1
    assert got.tokens[-1] in (2, 268, 270)  # </s>, <|eot_id|>, <|im_end|>
    asked = documents.ids(opening(write(record)), tokenizer())
    assert not got.weights[: len(asked)].any()
    assert got.weights[len(asked)] == 1


@pytest.mark.parametrize("name", [*templates.TEMPLATES, "tokenizer"])
def test_generation_starts_from_the_ids_that_training_had_before_the_answer(name):
    record, want = WANT[name]
    prompt = templates.prompt_parts(name, record, tokenizer())
    if name == "translation_varied":  # a pair that happens to be asked for in the first way
        answers = ({"target": str(n)} for n in range(999))
        record = record | next(one for one in answers if first(record | one))
    learn = {"learn": "last_answer"} if name not in KINDS else {}
    write = templates.writer(dataset(name, **learn), tokenizer())
    document = documents.encode([write(record)], tokenizer())[0]
    ids = documents.ids(prompt, tokenizer())
    assert document.tokens[: len(ids)].tolist() == ids
    answer = tokenizer().decode(document.tokens[len(ids) :]).rstrip(" ")
    assert answer == ("" if name == "plain" else record.get("target", want_last(want)).strip(" "))
    if name in OPENED:
        assert text_of(templates.prompt_parts(name, WANT[name][0])) == OPENED[name]


def text_of(parts: list[TextPart]) -> str:
    return "".join(part.text for part in parts)


def first(record: dict[str, str]) -> bool:
    return translation.varied(record) == translation.REQUESTS[0]


def want_last(stretches: list[tuple[str, float]]) -> str:
    names = (*CONTROLS, "</s>")
    return [text for text, weight in stretches if weight and text not in names][-1]


# ---------------------------------------------------------------------------- translation
def test_there_are_many_ways_to_ask_and_no_two_are_the_same():
    assert len(set(translation.REQUESTS)) == len(translation.REQUESTS) >= 32
    for words in translation.REQUESTS:
        assert words.count("{source}") == words.count("{target}") == 1, words


def test_every_way_to_ask_is_used_about_as_often():
    records = [PAIR | {"source": str(n)} for n in range(3600)]
    used = [translation.varied(record) for record in records]
    counts = [used.count(words) for words in translation.REQUESTS]
    assert min(counts) > 60
    assert max(counts) < 145


def test_the_way_a_pair_is_asked_for_does_not_depend_on_where_it_lies():
    assert templates.parts("translation_varied", PAIR) == templates.parts(
        "translation_varied", dict(reversed(PAIR.items()))
    )


# ---------------------------------------------------------------------------- documents
def test_alpaca_without_input_has_the_shorter_header():
    got = text_of(templates.prompt_parts("alpaca", {"instruction": "Say a."}))
    assert got == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nSay a.\n\n### Response:"
    )


def test_a_document_is_its_parts_tokens_and_a_trained_eos():
    parts = [TextPart("ab\n", 0), TextPart("b c", 0.5)]
    got = documents.encode([parts], make())[0]
    # "_a" "b" newline | "_b" "_c" | </s>: the answer starts with a word mark of its own
    assert got.tokens.tolist() == [263, 261, NEWLINE, 264, 265, 2]
    assert got.weights.tolist() == [0, 0, 0, 0.5, 0.5, 1]
    assert got.bytes == len("b c")


def test_an_empty_answer_still_trains_eos():
    got = documents.encode([[TextPart("a", 0), TextPart("", 1)]], make())[0]
    assert got.tokens.tolist() == [263, 2]
    assert (got.weights > 0).tolist() == [False, True]
    assert got.bytes == 0


def test_a_document_without_an_answer_trains_nothing():
    got = documents.encode([[TextPart("a", 0)], [TextPart("</s>", 0, control=True)]], make())
    assert [one.tokens.tolist() for one in got] == [[263, 2], [2, 2]]
    assert not any(one.weights.any() for one in got)


def test_what_is_read_after_the_last_answer_is_left_out():
    parts = [TextPart("a", 1), TextPart("b", 0), TextPart("</s>", 0, control=True)]
    assert documents.encode([parts], make())[0].tokens.tolist() == [263, 2]


def test_a_learnt_control_token_is_the_end_of_a_document():
    parts = [TextPart("a", 1), TextPart("</s>", 1, control=True)]
    got = documents.encode([parts, parts], make())
    assert [one.tokens.tolist() for one in got] == [[263, 2], [263, 2]]
    assert got[1].bytes == 1


def test_bytes_are_utf8_bytes_of_trained_text():
    got = documents.encode([[TextPart("ab", 0), TextPart("한", 1)]], make())[0]
    assert got.bytes == 3


@pytest.mark.parametrize("bad", [-1, 266])
def test_an_id_outside_of_the_vocabulary_is_refused(bad):
    documents.check(np.array([0, 265]), 266)
    with pytest.raises(ValueError, match=f"token 1 has id {bad}, but ids are 0 to 265"):
        documents.check(np.array([0, bad]), 266)


# ---------------------------------------------------------------------------- errors
def test_an_unknown_template_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="no template 'chat'; there are plain, pair, completion"):
        templates.parts("chat", {})
    with pytest.raises(ValueError, match=r"no template 'x'; there are .* guanaco, tokenizer"):
        templates.writer(dataset("pair", template="x"), make())


def test_a_missing_field_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="'pair' needs the field 'source'; the record has text"):
        templates.parts("pair", {"text": "a"})


def test_a_template_that_does_not_fit_the_records_is_refused_before_they_are_read():
    with pytest.raises(ValueError, match="'alpaca' needs the field 'input'; the record has source"):
        templates.writer(dataset("pair", template="alpaca"), make())


def test_a_template_whose_control_tokens_the_tokenizer_lacks_is_refused():
    with pytest.raises(ValueError, match=r"no control token '<\|start_header_id\|>'"):
        templates.writer(dataset("llama3_chat"), make())


def test_a_prompt_of_a_chat_has_its_control_tokens():
    got = templates.prompt_parts("chatml", {"instruction": "a"}, tokenizer())
    assert got == as_parts([IM, ("user\na", 0), MI, ("\n", 0), IM, ("assistant\n", 0)])


def test_an_unknown_language_is_an_error_with_a_near_one():
    with pytest.raises(ValueError, match="'kor_Hangul'; did you mean kor_Hang"):
        english_name("kor_Hangul")


# ---------------------------------------------------------------------------- fingerprints
WEIGHTS = {"weights": {"answer": 0.5}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (dataset("pair"), dataset("translation")),
        (dataset("translation"), dataset("translation", target_language="swh_Latn")),
        (dataset("taco"), dataset("taco", **WEIGHTS)),
        (dataset("taco"), dataset("taco_legacy")),
        (dataset("taco"), dataset("taco", prompt="guanaco")),
        (dataset("chatml"), dataset("chatml", system="a")),
        (dataset("chatml"), dataset("chatml", learn="last_answer")),
    ],
)
def test_a_mark_changes_with_what_is_written(one, other):
    assert templates.mark(one, tokenizer()) != templates.mark(other, tokenizer())
    assert templates.mark(one, tokenizer()) == templates.mark(one, tokenizer())


def test_a_mark_changes_with_a_tokenizers_own_template_where_specimens_do_not_show_it():
    other = CHATML + "{% if messages | length > 99 %}a{% endif %}"
    marks = {templates.mark(dataset("tokenizer"), tokenizer(one)) for one in (CHATML, other)}
    assert len(marks) == 2


def test_a_mark_changes_with_every_way_to_ask(monkeypatch):
    before = templates.mark(dataset("translation_varied"), make())
    monkeypatch.setattr(translation, "REQUESTS", (*translation.REQUESTS[:-1], "{source}{target}"))
    assert templates.mark(dataset("translation_varied"), make()) != before


def test_a_mark_changes_with_code_that_writes_otherwise(monkeypatch):
    before = templates.mark(dataset("chatml"), tokenizer())
    monkeypatch.setitem(chat.FORMATS, "chatml", lambda turns: [TextPart("b", 1)])
    assert templates.mark(dataset("chatml"), tokenizer()) != before
