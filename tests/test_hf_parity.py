"""Logits equal Hugging Face's, for every Llama variant we claim to support."""

import json

import jax
import numpy as np
import pytest
import tiny_llama
from tiny_llama import logits

from lrl_jax import mesh as meshes
from lrl_jax import recipe_train
from lrl_jax.hf import layout, load, save
from lrl_jax.model import llama, rope

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

BASE = dict(
    vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
    num_attention_heads=4, max_position_embeddings=4096,
    rms_norm_eps=0.1,  # absurd, so that no default can hide
)  # fmt: skip
DEFAULT_ROPE = dict(rope_type="default", rope_theta=1e4)
LLAMA3_ROPE = dict(
    rope_type="llama3", rope_theta=500_000.0, factor=8.0, low_freq_factor=1.0,
    high_freq_factor=4.0, original_max_position_embeddings=64,
)  # fmt: skip
VARIANTS = {
    "llama2": dict(num_key_value_heads=4, rope_parameters=DEFAULT_ROPE),
    "gqa": dict(num_key_value_heads=2, rope_parameters=DEFAULT_ROPE),
    "wide_heads": dict(num_key_value_heads=2, head_dim=24, rope_parameters=DEFAULT_ROPE),
    "llama3.1": dict(num_key_value_heads=2, rope_parameters=LLAMA3_ROPE),
    "llama3.2_tied": dict(
        num_key_value_heads=1, rope_parameters=LLAMA3_ROPE, tie_word_embeddings=True
    ),
}


@pytest.fixture(params=VARIANTS, scope="module")
def pair(request, tmp_path_factory):
    """(transformers' model, its folder, our config, our parameters loaded from the folder)."""
    config = transformers.LlamaConfig(**BASE, **VARIANTS[request.param])
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    randomise(model)
    folder = tmp_path_factory.mktemp("hf") / request.param
    model.save_pretrained(folder)
    cfg = layout.config_from_hf(load.read_config(folder), "float32")
    return model, folder, cfg, load.load(folder, cfg, shardings(cfg), "float32")


def randomise(model):
    """Random norms too: ones would hide a mix-up."""
    for p in model.parameters():
        torch.nn.init.normal_(p, mean=float(p.ndim == 1), std=0.15)


def shardings(cfg):
    return meshes.param_shardings(cfg, meshes.make(recipe_train.Mesh(fsdp=1), jax.devices()[:1]))


def hf_logits(model, tokens_BT, positions_BT):
    with torch.no_grad():
        out = model(
            torch.tensor(tokens_BT.astype(np.int64)),
            position_ids=torch.tensor(positions_BT.astype(np.int64)),
        )
    return out.logits.numpy()


@pytest.mark.parametrize("start", [0, 2048, 3900])
def test_logits_equal_transformers_at_any_position(pair, start):
    model, _, cfg, params = pair
    tokens_BT = np.random.default_rng(start).integers(0, 97, (2, 150)).astype(np.int32)
    positions_BT = np.broadcast_to(np.arange(start, start + 150, dtype=np.int32), (2, 150))
    got = logits(params, tokens_BT, positions_BT=positions_BT, cfg=cfg)
    want = hf_logits(model, tokens_BT, positions_BT)
    assert np.abs(want).max() > 0.5
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


def test_logits_equal_transformers_after_two_thousand_tokens_of_context():
    config = transformers.LlamaConfig(
        **BASE | dict(num_hidden_layers=2, hidden_size=32), **VARIANTS["llama3.1"]
    )
    torch.manual_seed(1)
    model = transformers.LlamaForCausalLM(config).eval()
    randomise(model)
    cfg = layout.config_from_hf(config.to_dict(), "float32")
    params = from_state_dict(model, cfg)
    tokens_BT = np.random.default_rng(9).integers(0, 97, (1, 2100)).astype(np.int32)
    positions_BT = np.arange(2100, dtype=np.int32)[None]
    got = logits(params, tokens_BT, positions_BT=positions_BT, cfg=cfg)
    want = hf_logits(model, tokens_BT, positions_BT)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


def from_state_dict(model, cfg):
    tensors = {name: w.detach().numpy() for name, w in model.state_dict().items()}
    params = {name: np.zeros(w.shape, w.dtype) for name, w in llama.abstract(cfg).items()}
    for name, (row, l) in layout.tensors(cfg).items():
        w = params[row.ours][l] if row.stacked else params[row.ours]
        own = tuple(
            cfg.vocab_size if letter == "V" else size
            for letter, size in zip(row.letters, w.shape, strict=True)
        )
        w[tuple(slice(n) for n in own)] = layout.to_ours(tensors[name], row, own)
    return params


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_comes_in_goes_out_bitwise(pair, tmp_path, dtype):
    model, folder, cfg, _ = pair
    if dtype == "bfloat16":
        model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        folder = tmp_path / "in"
        model.save_pretrained(folder)
    params = load.load(folder, cfg, shardings(cfg), "float32")
    save.save(tmp_path / "out", params, cfg, load.read_config(folder), dtype, 10**9)
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    got, want = again.state_dict(), model.state_dict()
    assert got.keys() == want.keys()
    for name in want:
        assert got[name].dtype == want[name].dtype
        assert torch.equal(got[name], want[name]), name


def test_the_config_comes_back_with_what_we_do_not_know(pair, tmp_path):
    _, folder, cfg, params = pair
    config = load.read_config(folder) | {"some_tool": {"key": [1, 2]}}
    save.save(tmp_path, params, cfg, config, "float32", 10**9)
    assert json.loads((tmp_path / "config.json").read_text()) == config


def test_a_scratch_config_gives_transformers_our_rope(tmp_path):
    cfg = llama.LlamaConfig(
        vocab_size=97, width=64, depth=1, mlp_width=96, num_heads=4, num_kv_heads=2,
        head_width=16, norm_eps=0.1, rope_theta=123.0, dtype="float32",
        rope_scaling=rope.Llama3(
            factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_length=64
        ),
    )  # fmt: skip
    params = tiny_llama.params(cfg)
    base = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 4096}
    save.save(tmp_path, params, cfg, base, "float32", 10**9)
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    tokens_BT = np.random.default_rng(0).integers(0, 97, (1, 90)).astype(np.int32)
    positions_BT = np.arange(2000, 2090, dtype=np.int32)[None]
    got = logits(params, tokens_BT, positions_BT=positions_BT, cfg=cfg)
    np.testing.assert_allclose(got, hf_logits(model, tokens_BT, positions_BT), rtol=0, atol=1e-4)
    assert model.generation_config.eos_token_id == 2
