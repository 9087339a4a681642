"""Both families of tokenizers through the whole pipeline, and back to transformers."""

import json
from pathlib import Path

import byte_tokenizer
import jax
import pytest
import small_world
import tiny_llama

import lrl_jax
from lrl_jax.hf import save
from lrl_jax.model import llama
from lrl_jax.vocab.pieces import learn, splice
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

ROOT = Path(__file__).parents[1]
PROMPTS = ["민수가", "은비가 학교에서", "Minsu saw a", " 책"]


def spm_base(lines):
    return learn.train(lines, 320, 1.0)


def byte_base(lines):
    return byte_tokenizer.learn(lines, 300)


def adapted(folder: Path, base: Tokenizer, tied: bool, *overrides: str) -> Path:
    """Runs the Korean recipe on random weights around `base`; gives the run folder."""
    small_world.write_texts(folder)
    cfg = llama.LlamaConfig(
        vocab_size=base.size, width=32, depth=2, mlp_width=64, num_heads=4, num_kv_heads=2,
        head_width=8, norm_eps=1e-5, rope_theta=1e4, dtype="float32", tie_embeddings=tied,
    )  # fmt: skip
    config = {
        "bos_token_id": base.bos_id, "eos_token_id": base.eos_id, "max_position_embeddings": 128,
    }  # fmt: skip
    model = folder / "runs/base/export"
    params = tiny_llama.params(cfg)
    generation = {"top_k": 7, "eos_token_id": [base.eos_id, 5]}
    save.save(model, params, cfg, config, "float32", 10**9, generation)
    tokenizers.family(base).write(base, model)
    _, recipe = small_world.write_recipes(folder)
    small_world.lrl("run", recipe, "evaluate.translation={}", "export.dtype=float32",
                    "init.output_rows=eeve", *overrides)  # fmt: skip
    return folder / "runs/korean"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "tied", "forms"),
    [
        (spm_base, True, ("tokenizer.model", "tokenizer.json")),
        (byte_base, False, ("tokenizer.json", "tokenizer.tiktoken")),
    ],
    ids=["sentencepiece", "byte level"],
)
def test_an_extended_model_says_in_transformers_what_it_says_here(make, tied, forms, tmp_path):
    torch = pytest.importorskip("torch")
    import transformers

    small_world.write_texts(tmp_path)
    base = make((tmp_path / "en.txt").read_text().splitlines())
    run = adapted(tmp_path, base, tied)
    export, proof = run / "export", json.loads((run / "vocab/proof.json").read_text())
    assert all((export / name).exists() for name in forms)
    assert proof["ok"]
    assert proof["tokens_after"] * 2.5 < proof["tokens_before"]
    assert splice.read(run / "vocab/splice.json").added
    generation = json.loads((export / "generation_config.json").read_text())
    assert generation == {"top_k": 7, "eos_token_id": [base.eos_id, 5]}  # the base's
    with jax.default_matmul_precision("float32"):
        here = lrl_jax.load(run).generate(PROMPTS, 16)
    auto = transformers.AutoTokenizer.from_pretrained(export)
    model = transformers.AutoModelForCausalLM.from_pretrained(export, dtype=torch.float32).eval()
    for prompt, want in zip(PROMPTS, here, strict=True):
        ids = auto(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        ids = torch.cat([torch.tensor([[auto.bos_token_id]]), ids], 1)
        out = model.generate(ids, max_new_tokens=16, do_sample=False)
        asked, whole = (auto.decode(x[0], skip_special_tokens=True) for x in (ids, out))
        assert whole == asked + want


@pytest.mark.slow
def test_tokens_of_padding_rows_are_left_out_and_said(tmp_path):
    small_world.write_texts(tmp_path)
    base = byte_base((tmp_path / "en.txt").read_text().splitlines())
    padded = Tokenizer(**{**vars(base), "size": base.size + 11})
    run = adapted(tmp_path, padded, False)
    kept = splice.read(run / "vocab/splice.json").kept
    assert len(kept) == base.size
    assert min(splice.read(run / "vocab/splice.json").added) == base.size
