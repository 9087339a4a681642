"""Bases as transformers 5 saves them: what they make of conversations, an extended export makes."""

import gzip
import itertools
import json
from pathlib import Path
import shutil
from typing import Any

from conftest import data_file
from etils import epath
import jax
import jinja2
import numpy as np
import pytest
import released_bases
from test_prompt import TEXT, trained_on
import transformers

import lrl_jax
from lrl_jax.cli.checks import runtimes
from lrl_jax.hf import families, load, save
from lrl_jax.model import llama
from lrl_jax.pipeline import prompt
from lrl_jax.pipeline import vocab as vocab_step
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.schema import Pretrained
from lrl_jax.vocab.pieces import prove, splice
from lrl_jax.vocab.tokenizer import byte_level
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

KOREAN = "\uc548\ub155"
NO_SYSTEM = ("mistral", "gemma")  # their templates refuse a system prompt
SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}  # fmt: skip


def new_pieces(tokenizer: Tokenizer) -> list[str]:
    """A word of two letters, and all that it is joined of."""
    if tokenizer.family == "sentencepiece":
        return [*KOREAN, KOREAN]
    letters = [letter.encode() for letter in KOREAN]
    parts = [letter[:n] for letter in letters for n in (2, 3)]
    return [byte_level.written(part) for part in (*parts, KOREAN.encode())]


def extended(base: Path, export: Path) -> splice.Splice:
    """Writes the base's tokenizer with new pieces, and its config.json."""
    tokenizer = tokenizers.load(base)
    new, relation = splice.splice(tokenizer, new_pieces(tokenizer))
    tokenizers.family(new).write(new, export)
    shutil.copy(base / "config.json", export)
    proof = prove.prove(
        export, tokenizer, released_bases.LINES[:4], [KOREAN] * 2,
        chats=vocab_step.rendered(tokenizer),
    )  # fmt: skip
    assert proof.broken == {}
    prompt.keep_defaults(epath.Path(base), epath.Path(export))
    return relation


def auto(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def conversation(system: str, *contents: str) -> list[dict[str, str]]:
    turns = zip(itertools.cycle(("user", "assistant")), contents, strict=False)
    said = [("system", system), *turns] if system else [*turns]
    return [{"role": role, "content": text} for role, text in said]


def read(tokenizer: Any, *talk: str) -> list[int] | str:
    """The ids of a conversation as transformers gives them; what a template says that refuses."""
    messages = conversation(*talk)
    asks = messages[-1]["role"] == "user"
    try:
        return tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=False, add_generation_prompt=asks
        )
    except jinja2.TemplateError as e:
        return str(e)


def respelt(ids: list[int], relation: splice.Splice) -> list[int]:
    """Ids in which the base's own spelling stands for new pieces."""
    return [old for i in ids for old in relation.added.get(i) or (relation.kept[i],)]


def assert_same_conversations(base: Any, export: Any, relation: splice.Splice) -> None:
    """Ten conversations have equal ids; one with new pieces has them, and else the base's ids."""
    want = [read(base, *talk) for talk in vocab_step.CHATS]
    assert [read(export, *talk) for talk in vocab_step.CHATS] == want
    assert sum(isinstance(ids, list) for ids in want) >= 7
    talk = ("", f"say {KOREAN} a", KOREAN)
    got = read(export, *talk)
    assert sum(i in relation.added for i in got) == 2
    assert respelt(got, relation) == read(base, *talk)


def assert_same_names(base: Any, export: Any, added: int) -> None:
    assert export.special_tokens_map == base.special_tokens_map
    assert export.all_special_ids == base.all_special_ids
    for name in ("bos", "eos", "pad", "unk"):
        got, want = (getattr(side, f"{name}_token_id") for side in (export, base))
        assert got == want, name
    for name in ("padding_side", "truncation_side", "model_input_names"):
        assert getattr(export, name) == getattr(base, name), name
    assert export.chat_template == base.chat_template
    assert len(export) == len(base) + added


@pytest.mark.parametrize("name", released_bases.BASES)
def test_a_base_of_transformers_5_keeps_its_conversations_and_its_names(name, tmp_path):
    released_bases.save(name, tmp_path / "base")
    (tmp_path / "export").mkdir()
    relation = extended(tmp_path / "base", tmp_path / "export")
    base, export = auto(tmp_path / "base"), auto(tmp_path / "export")
    assert_same_conversations(base, export, relation)
    assert_same_names(base, export, len(relation.added))


def test_a_class_of_transformers_that_does_not_heed_the_file_is_noticed(tmp_path):
    released_bases.save("llama2", tmp_path)
    base = tokenizers.load(tmp_path)
    chats = vocab_step.rendered(base)
    assert prove.read_otherwise(tmp_path, base, chats).count == 0
    form = json.loads((tmp_path / "tokenizer.json").read_text())
    form["pre_tokenizer"]["prepend_scheme"] = "always"  # LlamaTokenizer has its own: first
    (tmp_path / "tokenizer.json").write_text(json.dumps(form))
    odd = prove.read_otherwise(tmp_path, tokenizers.load(tmp_path), chats)
    assert odd.count > 9
    (tmp_path / "model.safetensors").touch()
    recipe = trained_on({"text": 1}, text=TEXT).recipe
    run = Run(recipe.model_copy(update={"base": Pretrained(model=str(tmp_path))}))
    (note,) = vocab_step.of_base(run, tokenizers.load(tmp_path))
    assert "by a class of its own and not as tokenizer.json says" in note
    assert "such as ''" not in note
    further = tmp_path / "additional_chat_templates"
    further.mkdir()
    (further / "rag.jinja").write_text("{{ 1 }}")
    notes = [*runtimes.remarks(run, ())]
    assert notes[0] == note
    assert "further chat templates (rag) do not go into the export" in notes[1]
    assert [*runtimes.remarks(run, (str(tmp_path),))] == []


@pytest.mark.parametrize("name", ["mistral_v03_instruct", "gptneox"])
def test_a_released_base_keeps_its_conversations_and_its_names(name, tmp_path):
    base, export = tmp_path / "base", tmp_path / "export"
    export.mkdir()
    shutil.copytree(data_file(f"tokenizers/{name}"), base)
    for path in base.iterdir():
        path.chmod(0o644)
        if path.suffix == ".gz":
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    if not (base / "config.json").exists():
        (base / "config.json").write_text('{"model_type": "llama"}')
    relation = extended(base, export)
    before, after = auto(base), auto(export)
    if before.chat_template is None:
        before.chat_template = after.chat_template = released_bases.MISTRAL
    assert_same_conversations(before, after, relation)
    assert_same_names(before, after, len(relation.added))


@pytest.mark.parametrize("name", released_bases.BASES)
def test_messages_give_in_transformers_what_they_give_here(name, tmp_path):
    torch = pytest.importorskip("torch")
    made = released_bases.save(name, tmp_path / "base")
    ends = [made.eos_token_id, made.convert_tokens_to_ids(made.tokenize("a")[0])]
    said = {"do_sample": True, "eos_token_id": ends, "temperature": 0.6, "top_k": 7}
    (tmp_path / "base/generation_config.json").write_text(json.dumps(said))
    (tmp_path / "export").mkdir()
    relation = extended(tmp_path / "base", tmp_path / "export")
    config = json.loads((tmp_path / "base/config.json").read_text()) | SHAPE
    cfg = families.config_from_hf(config | {"vocab_size": relation.size}, "float32")
    params = {
        path: x if "norm" in path else 8 * x  # large, so that what is read changes what is said
        for path, x in llama.init(cfg, jax.random.key(1), "float32").items()
    }
    generation = load.read_generation(tmp_path / "base")
    save.save(tmp_path / "export", params, cfg, config, "float32", 10**9, generation)
    kept = transformers.GenerationConfig.from_pretrained(tmp_path / "export").to_dict()
    assert {key: kept[key] for key in said} == said
    system = "" if name in NO_SYSTEM else "Be brief."
    talks = [conversation("", "Hello"), conversation(system, "Who?", "A cat.", KOREAN)]
    model = lrl_jax.load_model(str(tmp_path / "export"))
    generate = transformers.pipeline(
        "text-generation", model=str(tmp_path / "export"), dtype=torch.float32, device="cpu"
    )
    got = generate(talks, max_new_tokens=6, do_sample=False, return_full_text=False)
    texts = [answers[0]["generated_text"] for answers in got]
    assert texts == lrl_jax.generate(model, talks, max_new_tokens=6)
    assert all(np.char.str_len(texts))
