"""How an export is asked: the template of training as a chat template, its stop token, its rows."""

import dataclasses
import json
from pathlib import Path

import hand_tokenizer
import pytest
from small_world import write_recipes
import test_chat
from test_sentencepieces import flagged, metaspace
from test_templates import CONTROLS, dataset
import transformers

from lrl_jax.cli import main
from lrl_jax.data.templates import as_jinja, documents, tokenizer_chat
from lrl_jax.data.templates import table as templates
from lrl_jax.data.templates.chat import Turn
from lrl_jax.data.templates.parts import TextPart
from lrl_jax.hf import card, families
from lrl_jax.pipeline import prompt
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.schema import Recipe
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.auto import AutoCodec
from lrl_jax.vocab.tokenizer.types import Tokenizer

ENDS = {"bos_token": "<s>", "eos_token": "</s>"}
BASES = {
    "sentencepiece": hand_tokenizer.make(controls=CONTROLS),
    "metaspace": tokenizers.from_files(metaspace(
        hand_tokenizer.make(),
        *[flagged(266 + n, name, rstrip=name == "<|im_end|>") for n, name in enumerate(CONTROLS)],
        config=ENDS,
    )),
    "bytes": test_chat.BYTES,
}  # fmt: skip
ASKED = [("q", "Who  is\nthis?"), ("a", "A cat."), ("q", "\uac00, 12"), ("a", "b")]


def saved(tokenizer: Tokenizer, folder: Path) -> AutoCodec:
    folder.mkdir(exist_ok=True)
    tokenizers.family(tokenizer).write(tokenizer, folder)
    return AutoCodec(folder)


def messages(count: int, system: str = "") -> list[dict[str, str]]:
    roles = {"q": "user", "a": "assistant"}
    said = [{"role": "system", "content": system}] if system else []
    return said + [{"role": roles[who], "content": text} for who, text in ASKED[:count]]


def read(auto: AutoCodec, source: str, count: int, system: str = "") -> list[int]:
    """Ids that transformers gives a conversation in a chat template."""
    return auto.tokenizer.apply_chat_template(
        messages(count, system), chat_template=source, tokenize=True, return_dict=False,
        add_generation_prompt=count % 2 == 1,
    )  # fmt: skip


# ---------------------------------------------------------------------------- Jinja
@pytest.mark.parametrize("base", BASES)
def test_templates_without_turns_open_in_transformers_with_the_ids_of_training(base, tmp_path):
    tokenizer, auto = BASES[base], saved(BASES[base], tmp_path)
    field = {"alpaca": "instruction", "taco": "instruction", "completion": "prompt"}
    for name, asked in (*field.items(), ("translation", "source")):
        made = as_jinja.write(dataset(name), tokenizer, auto.read_rendered)
        assert made is not None
        record = {asked: ASKED[0][1], "language": "kor_Hang", "source_language": "eng_Latn",
                  "target_language": "kor_Hang"}  # fmt: skip
        want = documents.ids(templates.prompt_parts(name, record, tokenizer), tokenizer)
        assert read(auto, made.source, 1) == [tokenizer.bos_id, *want], name
        assert tokenizer.control(made.stop) == tokenizer.eos_id


@pytest.mark.parametrize("base", BASES)
def test_chat_formats_have_in_transformers_the_ids_of_training(base, tmp_path):
    tokenizer, auto = BASES[base], saved(BASES[base], tmp_path)
    names = ["llama2_chat", "llama3_chat", "chatml", "guanaco"]
    for name in names:
        if base == "bytes" and name == "llama2_chat":
            continue  # its </s> ends no document of that tokenizer
        made = as_jinja.write(dataset(name), tokenizer, auto.read_rendered)
        assert made is not None
        write = templates.writer(dataset(name), tokenizer)
        for system in ("", "Be kind."):
            record = {"messages": json.dumps(messages(4, system))}
            document = documents.encode([write(record)], tokenizer)[0].tokens.tolist()
            want = [tokenizer.bos_id, *document]
            assert read(auto, made.source, 4, system)[: len(want)] == want, name
            asked = read(auto, made.source, 3, system)
            assert asked == want[: len(asked)], name
            assert tokenizer.decode(want[len(asked) :]).strip() == ASKED[3][1], name


def test_the_system_prompt_of_a_dataset_is_that_of_the_chat_template(tmp_path):
    tokenizer, auto = BASES["bytes"], saved(BASES["bytes"], tmp_path)
    made = as_jinja.write(dataset("chatml", system="Be good."), tokenizer, auto.read_rendered)
    assert made is not None
    assert made.text.startswith("<|begin_of_text|><|im_start|>system\nBe good.<|im_end|>\n")
    plain = as_jinja.write(dataset("chatml"), tokenizer, auto.read_rendered)
    assert plain is not None
    assert read(auto, made.source, 3) == read(auto, plain.source, 3, "Be good.")


def test_an_exported_chat_template_trains_the_same_again(tmp_path):
    tokenizer, auto = BASES["bytes"], saved(BASES["bytes"], tmp_path)
    made = as_jinja.write(dataset("chatml"), tokenizer, auto.read_rendered)
    assert made is not None
    turns = [Turn("user", "a  b"), Turn("assistant", "c", 1), Turn("user", "d"),
             Turn("assistant", "e", 1)]  # fmt: skip
    own = tokenizer_chat.own(test_chat.with_template(made.source))(turns)
    ours = templates.chat.FORMATS["chatml"](turns)
    assert documents.encode([own], tokenizer)[0].tokens.tolist() == (
        documents.encode([ours], tokenizer)[0].tokens.tolist()
    )


def test_a_users_template_is_a_chat_template_if_it_asks_one_text(monkeypatch, tmp_path):
    tokenizer, auto = BASES["bytes"], saved(BASES["bytes"], tmp_path)

    def quiz(record):
        return [TextPart(f"Q: {record['prompt'].strip()} A:", 0), TextPart(record["completion"], 1)]

    def twice(record):
        return quiz(record | {"prompt": record["prompt"] * 2})

    monkeypatch.setitem(templates.TEMPLATES, "quiz", quiz)
    monkeypatch.setitem(templates.TEMPLATES, "twice", twice)
    entry = dataset("completion").model_copy(update={"template": "quiz"})
    made = as_jinja.write(entry, tokenizer, auto.read_rendered)
    assert made is not None
    assert made.text == "<|begin_of_text|>Q: {message} A:"
    asked = auto.tokenizer.apply_chat_template(
        [{"role": "user", "content": " why "}], chat_template=made.source, tokenize=False
    )
    assert asked == "<|begin_of_text|>Q: why A:"
    entry = entry.model_copy(update={"template": "twice"})
    made = as_jinja.write(entry, tokenizer, auto.read_rendered)
    assert made is not None
    assert (made.source, made.text) == ("", "Q: {prompt}{prompt} A:")
    assert made.why == "its prompt takes prompt more than once, and a message is one text"


@pytest.mark.parametrize(("write", "why"), [
    (lambda text: text.upper(), "it does not write messages as they stand, one after another"),
    (lambda text: str(int(text)), "it writes no text but its own (ValueError: invalid literal"),
])  # fmt: skip
def test_a_users_template_that_changes_texts_is_none(monkeypatch, tmp_path, write, why):
    def changed(record):
        asked = "one" if record["prompt"] in ("", "prompt") else write(record["prompt"])
        return [TextPart(f"Q: {asked}", 0), TextPart(record["completion"], 1)]

    monkeypatch.setitem(templates.TEMPLATES, "changed", changed)
    entry = dataset("completion").model_copy(update={"template": "changed"})
    made = as_jinja.write(entry, BASES["bytes"], list)
    assert made is not None
    assert made.source == ""
    assert made.why.startswith(why)


# ---------------------------------------------------------------------------- the export
def staged(folder: Path, tokenizer: Tokenizer, config: dict | None = None) -> Path:
    saved(tokenizer, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text()) | (config or {})
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text('{"eos_token_id": 2, "top_k": 7}')
    return folder


def trained_on(mixture: dict[str, float], **datasets: dict) -> Run:
    """A run whose last stage has this mixture."""
    rule = {"match": ".*", "schedule": {"peak": 1e-3}}
    stages = [
        {"name": "first", "steps": 1, "mixture": {"first": 1}, "learn": [rule]},
        {"name": "last", "steps": 1, "mixture": mixture, "learn": [rule]},
    ]
    first = {"kind": "chat", "path": ["x"], "language": "kor_Hang", "template": "llama3_chat"}
    entries = {name: {"path": ["x"]} | entry for name, entry in datasets.items()}
    return Run(Recipe(
        name="r", base={"model": "x"}, vocab={"method": "keep"},
        data={"sequence_length": 256, "datasets": {"first": first, **entries}},
        train={"batch_size": 1, "stages": stages},
    ))  # fmt: skip


TEXT = {"kind": "text", "language": "kor_Hang"}
ALPACA = {"kind": "instructions", "language": "kor_Hang"}
CHATML = {"kind": "chat", "language": "kor_Hang", "template": "chatml"}
PAIRS = {"kind": "parallel", "source_language": "eng_Latn", "target_language": "kor_Hang"}


def test_the_heaviest_template_of_the_last_stage_is_the_chat_template(tmp_path, capsys):
    folder = staged(tmp_path, BASES["sentencepiece"], {"chat_template": "{{ 'old' }}"})
    mixture = {"text": 0.4, "pairs": 0.3, "alpaca": 0.1, "chat": 0.2}
    run = trained_on(mixture, text=TEXT, pairs=PAIRS, alpaca=ALPACA, chat=CHATML)
    got = prompt.write(run, folder)
    assert [(p.template, p.chat) for p in got] == [
        ("chatml", True), ("alpaca", False), ("translation", False)
    ]  # fmt: skip
    assert got[0].share == pytest.approx(0.2)
    assert "chat_template" not in json.loads((folder / "tokenizer_config.json").read_text())
    auto = transformers.AutoTokenizer.from_pretrained(folder)
    asked = auto.apply_chat_template(messages(1), tokenize=False, add_generation_prompt=True)
    assert asked == ("<s><|im_start|>user\nWho  is\nthis?<|im_end|>\n<|im_start|>assistant\n")
    said = json.loads((folder / "generation_config.json").read_text())
    assert said == {"eos_token_id": [2, BASES["sentencepiece"].control("<|im_end|>")], "top_k": 7}
    out = capsys.readouterr().err
    assert "template chatml (20% of the last stage): the chat template, written" in out
    assert "template alpaca (10% of the last stage): another prompt" in out


def test_templates_that_no_message_fits_keep_what_the_base_has(tmp_path, capsys):
    folder = staged(tmp_path, BASES["sentencepiece"])
    (folder / "chat_template.jinja").write_text("{{ 'of the base' }}")
    run = trained_on({"pairs": 1}, pairs=PAIRS | {"direction": "both"})
    (got,) = prompt.write(run, folder)
    assert (got.chat, got.stop) == (False, "</s>")
    assert got.text.startswith("Translate the following sentence from English to Korean.\n{source}")
    assert (folder / "chat_template.jinja").read_text() == "{{ 'of the base' }}"
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 2
    assert "both directions, and a message says none; the base's is kept" in capsys.readouterr().err


def test_the_bases_own_template_stays_where_it_is_and_its_end_is_a_stop(tmp_path):
    source = test_chat.JINJA["chatml"]
    folder = staged(tmp_path, BASES["sentencepiece"], {"chat_template": source})
    run = trained_on({"chat": 1}, chat=CHATML | {"template": "tokenizer"})
    (got,) = prompt.write(run, folder)
    assert (got.template, got.stop, got.chat) == ("tokenizer", "<|im_end|>", True)
    assert json.loads((folder / "tokenizer_config.json").read_text())["chat_template"] == source
    assert not (folder / "chat_template.jinja").exists()
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"][0] == 2


@pytest.mark.parametrize("name", ["jinja", "config"])
def test_a_system_prompt_of_a_dataset_goes_into_the_bases_own_template(name, tmp_path, capsys):
    source = test_chat.JINJA["chatml"]
    folder = staged(tmp_path, BASES["bytes"], {"chat_template": source} if name == "config" else {})
    if name == "jinja":
        (folder / "chat_template.jinja").write_text(source)
    system = 'Be "good".\nB\u00e9 {{ brief }}.'
    run = trained_on({"chat": 1}, chat=CHATML | {"template": "tokenizer", "system": system})
    (asked,) = prompt.write(run, folder)
    auto = AutoCodec(folder)
    assert read(auto, auto.tokenizer.chat_template, 3) == read(auto, source, 3, system)
    assert read(auto, auto.tokenizer.chat_template, 3, "Other.") == read(auto, source, 3, "Other.")
    assert system in asked.text
    assert "the chat template, written" in capsys.readouterr().err


@pytest.mark.parametrize("base", BASES)
def test_a_bases_own_template_that_writes_bos_is_trained(base):
    source = "{{ bos_token }}" + test_chat.JINJA["chatml"]
    files = BASES[base].files | {"chat_template.jinja": source.encode()}
    tokenizer = dataclasses.replace(BASES[base], files=files)
    rows = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    write = templates.writer(dataset("tokenizer"), tokenizer)
    (document,) = documents.encode([write({"messages": json.dumps(rows)})], tokenizer)
    assert tokenizer.decode(document.tokens[document.weights > 0]).strip() == "a"


def test_the_folder_of_an_adapter_has_a_chat_template_and_the_bases_generation(tmp_path):
    saved(BASES["bytes"], tmp_path)
    (got,) = prompt.write(trained_on({"alpaca": 1}, alpaca=ALPACA), tmp_path)
    assert got.chat
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path)
    asked = auto.apply_chat_template(messages(1), tokenize=False, add_generation_prompt=True)
    assert asked == got.text.replace("{message}", ASKED[0][1])
    assert not (tmp_path / "generation_config.json").exists()


def test_a_stage_of_plain_text_asks_nothing(tmp_path):
    folder = staged(tmp_path, BASES["sentencepiece"])
    assert prompt.write(trained_on({"text": 1}, text=TEXT), folder) == []
    assert not (folder / "chat_template.jinja").exists()


@pytest.mark.parametrize(("said", "want"), [
    ({}, [1, 5]), ({"eos_token_id": None}, [1, 5]), ({"eos_token_id": 3}, [3, 5]),
    ({"eos_token_id": [3, 4]}, [3, 4, 5]), ({"eos_token_id": [5, 3]}, [5, 3]),
])  # fmt: skip
def test_a_stop_is_added_to_the_ends_there_are(said, want, tmp_path):
    tokenizer = dataclasses.replace(BASES["sentencepiece"], eos_id=1, controls={"<stop>": 5})
    (tmp_path / "generation_config.json").write_text(json.dumps(said))
    prompt._write_stop(Path(tmp_path), tokenizer, "<stop>")
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == want


def test_a_card_shows_prompts_that_close_no_fence_and_how_to_ask():
    asked = card.TrainedPrompt("alpaca", "a ``` <b>\n{message}", "</s>", 0.5, True)
    text = card.card(
        title="x", base_model="org/base", base_license="mit", license="mit",
        languages=["kor_Hang"], prompts=[asked],
    )  # fmt: skip
    assert "template alpaca, 50 % of the last stage); an answer ends with &lt;/s&gt;:" in text
    assert "````\na ``` <b>\n{message}\n````" in text
    assert 'generate = pipeline("text-generation", model="path/of/this/folder")' in text
    text = card.card(
        title="x", base_model="org/base", base_license="mit", license="mit",
        languages=["kor_Hang"], prompts=[asked], adapter=True,
    )  # fmt: skip
    assert "AutoPeftModelForCausalLM.from_pretrained" in text
    assert 'stop = tokenizer.convert_tokens_to_ids("</s>")' in text


# ---------------------------------------------------------------------------- longer rows
LLAMA = {
    "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16,
    "num_attention_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip


def test_positions_are_those_of_the_rows_where_they_are_longer(tmp_path):
    assert families.lengthened(LLAMA, 256)["max_position_embeddings"] == 256
    assert families.lengthened(LLAMA, 64) == LLAMA
    assert families.long_rows(LLAMA, 128) == ""
    assert "128 positions (max_position_embeddings); rotary" in families.long_rows(LLAMA, 256)
    folder = staged(tmp_path, BASES["sentencepiece"], {"model_max_length": 128})
    prompt.lengthen(folder, 64)
    assert transformers.AutoTokenizer.from_pretrained(folder).model_max_length == 128
    prompt.lengthen(folder, 256)
    assert transformers.AutoTokenizer.from_pretrained(folder).model_max_length == 256


def test_check_says_that_rows_are_longer_than_the_base(tmp_path, capsys):
    base, _ = write_recipes(tmp_path)
    assert main.main(["check", base]) == 0
    assert "rows of 64 tokens are longer than the base's 48 positions" in " ".join(
        capsys.readouterr().out.split()
    )


def test_positions_stay_where_another_number_would_be_another_model():
    scaling = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    phi = LLAMA | {"model_type": "phi3", "rope_scaling": scaling, "sliding_window": None,
                   "original_max_position_embeddings": 64}  # fmt: skip
    assert families.lengthened(phi, 256) == phi
    assert "the export keeps 128" in families.long_rows(phi, 256)
    fixed = phi | {"rope_scaling": scaling | {"attention_factor": 1.2}}
    assert families.lengthened(fixed, 256)["max_position_embeddings"] == 256
