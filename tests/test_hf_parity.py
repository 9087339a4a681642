"""Every family we claim: logits equal to Hugging Face's, and checkpoints that come back bitwise."""

import functools

import jax
import numpy as np
import pytest
from tiny_llama import logits
import worker_train

from lrl_jax.devices import mesh as meshes
from lrl_jax.hf import families, layout, load, save
from lrl_jax.model import cache as caches
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import gradients

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

# Constants are absurd, so that no default can hide. Of these thetas the frequencies round alike in
# torch and here: one in the last place is a visible angle at position 4,000.
BASE = dict(
    vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=4096, rms_norm_eps=0.1,
    bos_token_id=1, eos_token_id=2, pad_token_id=None,
)  # fmt: skip
ROPE = dict(rope_type="default", rope_theta=20_000.0)
LLAMA3_ROPE = dict(
    rope_type="llama3", rope_theta=500_000.0, factor=8.0, low_freq_factor=1.0,
    high_freq_factor=4.0, original_max_position_embeddings=64,
)  # fmt: skip
LONG_ROPE = dict(
    rope_type="longrope", rope_theta=20_000.0, short_factor=[1.0, 1.5, 2.0, 2.5, 3.0, 3.5],
    long_factor=[2.0, 4.0, 6.0, 8.0, 10.0, 12.0], partial_rotary_factor=0.75,
)  # fmt: skip
GEMMA_2 = dict(head_dim=24, query_pre_attn_scalar=7, sliding_window=17, final_logit_softcapping=1.5)
VARIANTS = {
    "llama1": ("llama", dict(num_key_value_heads=4, rope_parameters=ROPE)),
    "llama2-70b": ("llama", dict(rope_parameters=ROPE)),
    "llama_wide_heads": ("llama", dict(head_dim=24, rope_parameters=ROPE)),
    "llama_linear": ("llama", dict(rope_parameters=ROPE | dict(rope_type="linear", factor=3.0))),
    "llama3.1": ("llama", dict(rope_parameters=LLAMA3_ROPE)),
    "llama3.2": (
        "llama",
        dict(num_key_value_heads=1, rope_parameters=LLAMA3_ROPE, tie_word_embeddings=True),
    ),
    "mistral-v0.1": ("mistral", dict(sliding_window=17, rope_parameters=ROPE)),
    "mistral-v0.3": ("mistral", dict(sliding_window=None, head_dim=24, rope_parameters=ROPE)),
    "qwen2": ("qwen2", dict(rope_parameters=ROPE)),
    "qwen2_window": (
        "qwen2",
        dict(rope_parameters=ROPE, use_sliding_window=True, sliding_window=17, max_window_layers=2),
    ),
    "qwen3": ("qwen3", dict(head_dim=24, rope_parameters=ROPE, tie_word_embeddings=True)),
    "gemma": ("gemma", dict(head_dim=24, rope_parameters=ROPE)),
    "gemma2": ("gemma2", GEMMA_2 | dict(attn_logit_softcapping=0.7, rope_parameters=ROPE)),
    "gemma3": (
        "gemma3_text",
        GEMMA_2
        | dict(
            sliding_window_pattern=2,
            rope_parameters=dict(
                full_attention=ROPE | dict(rope_type="linear", factor=3.0),
                sliding_attention=dict(rope_type="default", rope_theta=2_000.0),
            ),
        ),
    ),
    "phi3": ("phi3", dict(sliding_window=17, rope_parameters=ROPE)),
    "olmo2": ("olmo2", dict(head_dim=24, rope_parameters=ROPE)),
    "smollm3": (
        "smollm3", dict(no_rope_layer_interval=2, rope_parameters=ROPE, tie_word_embeddings=True)
    ),
    "smollm3_window": (
        "smollm3",
        dict(
            no_rope_layers=[0, 1, 1], use_sliding_window=True, sliding_window=17,
            layer_types=["full_attention", "sliding_attention", "full_attention"],
            rope_parameters=LLAMA3_ROPE, tie_word_embeddings=False,
        ),
    ),
    "phi3_long": (
        "phi3", dict(rope_parameters=LONG_ROPE, original_max_position_embeddings=64)
    ),
}  # fmt: skip


@functools.cache
def model_of(variant, layers=3):
    """transformers' model with weights that hide no mix-up: ones in norms would."""
    model_type, own = VARIANTS[variant]
    config = transformers.AutoConfig.for_model(
        model_type, **BASE | own | dict(num_hidden_layers=layers)
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    centred = model_type.startswith("gemma")
    for p in model.parameters():
        torch.nn.init.normal_(p, mean=float(p.ndim == 1 and not centred), std=0.15)
    return model


@pytest.fixture(params=VARIANTS, scope="module")
def pair(request, tmp_path_factory):
    """(transformers' model, its folder, our config, our parameters loaded from the folder)."""
    return loaded(model_of(request.param), tmp_path_factory.mktemp("hf") / request.param)


def loaded(model, folder):
    model.save_pretrained(folder)
    cfg = families.config_from_hf(load.read_config(folder), "float32")
    return model, folder, cfg, load.load(folder, cfg, shardings(cfg), "float32")


def shardings(cfg):
    return meshes.param_shardings(cfg, meshes.make(recipe_train.Mesh(fsdp=1), jax.devices()[:1]))


def rows(start, length, batch=2):
    tokens_BT = np.random.default_rng(start).integers(0, 97, (batch, length)).astype(np.int32)
    positions_T = np.arange(start, start + length, dtype=np.int32)
    return tokens_BT, np.broadcast_to(positions_T, tokens_BT.shape)


def hf_logits(model, tokens_BT, positions_BT, **kwargs):
    with torch.no_grad():
        out = model(
            torch.tensor(tokens_BT.astype(np.int64)),
            position_ids=torch.tensor(positions_BT.astype(np.int64)),
            **kwargs,
        )
    return out.logits.numpy()


def assert_equal_logits(model, params, cfg, tokens_BT, positions_BT):
    got = logits(params, tokens_BT, positions_BT=positions_BT, cfg=cfg)
    want = hf_logits(model, tokens_BT, positions_BT)
    assert np.abs(want).max() > 0.5
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("start", [0, 2048, 3900])
def test_logits_equal_transformers_at_any_position(pair, start):
    model, _, cfg, params = pair
    assert_equal_logits(model, params, cfg, *rows(start, 100))


@pytest.mark.parametrize("variant", ["llama3.1", "gemma3", "phi3_long", "olmo2", "smollm3"])
def test_logits_equal_transformers_after_two_thousand_tokens_of_context(variant, tmp_path):
    model, _, cfg, params = loaded(model_of(variant, layers=2), tmp_path)
    assert_equal_logits(model, params, cfg, *rows(0, 2100, batch=1))


def test_short_rows_of_longrope_have_its_short_factors(tmp_path):
    model, _, cfg, params = loaded(model_of("phi3_long"), tmp_path)
    assert_equal_logits(model, params, cfg, *rows(0, 64))


@pytest.mark.parametrize(
    "variant",
    [
        "llama3.2", "mistral-v0.1", "qwen2_window", "qwen3", "gemma2", "gemma3", "phi3_long",
        "olmo2", "smollm3",
    ],
)  # fmt: skip
def test_loss_and_gradients_equal_transformers(variant, tmp_path):
    model, _, cfg, params = loaded(model_of(variant), tmp_path)
    tokens_BT, positions_BT = rows(0, 41)
    model.zero_grad()
    torch_BT = torch.tensor(tokens_BT.astype(np.int64))
    want = model(torch_BT, labels=torch_BT).loss
    want.backward()
    batch = dict(
        decoder_input_tokens=tokens_BT[:, :-1], decoder_target_tokens=tokens_BT[:, 1:],
        decoder_positions=positions_BT[:, :-1], decoder_segment_ids=np.ones((2, 40), np.int32),
        decoder_loss_weights=np.ones((2, 40), np.int32),
    )  # fmt: skip
    settings = worker_train.settings([worker_train.stage("s", 1, [worker_train.ALL])])
    compute = jax.jit(lambda p: gradients.gradients(cfg, settings, p, {}, batch, shardings(cfg)))
    got, grads, _ = compute(params)
    assert abs(float(got) - want.item()) < 1e-5
    theirs = {name: p.grad.numpy() for name, p in model.named_parameters()}
    for name, tensor in layout.tensors(cfg).items():
        parts = []
        for row in tensor.rows:
            grad = np.asarray(grads[row.ours])
            parts.append(layout.to_hf(grad[tensor.l] if row.stacked else grad, row))
        ours = np.concatenate(parts)[: tensor.shape[0]]  # without the vocabulary's padding
        np.testing.assert_allclose(ours, theirs[name], rtol=1e-4, atol=1e-5, err_msg=name)


# ---------------------------------------------------------------------------- caches
@pytest.mark.parametrize(
    "variant",
    [
        "llama3.1", "mistral-v0.1", "qwen2_window", "qwen3", "gemma2", "gemma3", "phi3_long",
        "olmo2", "smollm3", "smollm3_window",
    ],
)  # fmt: skip
def test_decoding_equals_transformers_with_its_cache(variant, tmp_path):
    model, _, cfg, params = loaded(model_of(variant), tmp_path)
    tokens_BT, positions_BT = rows(0, 74)
    decode = jax.jit(lambda *args: llama.bind(cfg, args[0]).decode(*args[1:]))
    ours, theirs = caches.empty(cfg, 2, 80), transformers.DynamicCache(config=model.config)
    for part in (slice(0, 70), *(slice(t, t + 1) for t in range(70, 74))):
        batch = tokens_BT[:, part], positions_BT[:, part]
        got, ours = decode(params, *batch, ours)
        want = hf_logits(model, *batch, past_key_values=theirs, use_cache=True)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


# ---------------------------------------------------------------------------- out again
def test_what_comes_in_goes_out_bitwise(pair, tmp_path):
    model, folder, cfg, _ = pair
    model = type(model).from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "in")
    params = load.load(tmp_path / "in", cfg, shardings(cfg), "float32")
    config = load.read_config(tmp_path / "in")
    save.save(tmp_path / "out", params, cfg, config, "bfloat16", 10**9)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert type(again) is type(model)
    got, want = again.state_dict(), model.state_dict()
    assert got.keys() == want.keys()
    for name in want:
        assert got[name].dtype == want[name].dtype
        assert torch.equal(got[name], want[name]), name


def test_the_config_comes_back_with_what_we_do_not_know(pair):
    _, folder, cfg, _ = pair
    config = load.read_config(folder) | {"some_tool": {"key": [1, 2]}}
    assert families.config_to_hf(config, cfg, "float32") == config


def test_what_has_no_base_is_all_said(pair, tmp_path):
    """A model from scratch: transformers computes what we do from a config that is all ours."""
    _, _, cfg, params = pair
    base = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 4096}
    save.save(tmp_path, params, cfg, base, "float32", 10**9)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert families.config_from_hf(load.read_config(tmp_path), "float32") == cfg
    assert_equal_logits(again, params, cfg, *rows(2000, 100))
    assert again.generation_config.eos_token_id == 2


# ---------------------------------------------------------------------------- the table
@pytest.mark.parametrize("name", families.FAMILIES)
def test_what_we_take_for_granted_is_what_transformers_does(name):
    family = families.FAMILIES[name]
    theirs = transformers.AutoConfig.for_model(name)
    assert families.FAMILIES[name].architecture in dir(transformers)
    silent = {key: value for key, value in family.silent.items() if hasattr(theirs, key)}
    want = {key: getattr(theirs, key) for key in silent}
    assert silent | dict(sliding_window=None) == want | dict(sliding_window=None)
    for key, values in family.fixed.items():
        assert getattr(theirs, key, None) in values
    variants = [model_type for model_type, _ in VARIANTS.values()]
    assert name in variants, "has no variant here"
