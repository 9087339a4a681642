"""Adapters in PEFT's format, both ways, against peft itself; and what is refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import tiny_llama
from tiny_llama import logits

from lrl_jax.devices import mesh as meshes
from lrl_jax.hf import families, load, peft_read, peft_write, save, shards
from lrl_jax.model import lora
from lrl_jax.recipe import train as recipe_train

torch = pytest.importorskip("torch", reason="adapters are compared where torch and peft are")
peft = pytest.importorskip("peft", reason="adapters are compared where torch and peft are")
transformers = pytest.importorskip("transformers")

CONFIG = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 64}
TOKENS_BT = np.random.default_rng(3).integers(0, 97, (2, 12))
NAMES = ("layers/q_DNH", "layers/o_NHD", "layers/gate_DF", "layers/down_FD")


def with_lora(cfg=tiny_llama.CFG, **fields):
    return dataclasses.replace(cfg, lora=lora.LoraConfig(names=NAMES, rank=5, alpha=7.0, **fields))


def base_folder(folder, cfg=tiny_llama.CFG):
    params = tiny_llama.params(cfg)
    save.save(folder, params, cfg, CONFIG, "float32", 10**9)
    return params


def theirs(model, tokens_BT=TOKENS_BT):
    with torch.no_grad():
        return model(torch.tensor(tokens_BT)).logits.numpy()


def their_base(folder, size=97):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if size != 97:
        model.resize_token_embeddings(size, mean_resizing=False)
    return model


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


# ---------------------------------------------------------------------------- export
FULL = {
    "adapters alone": (),
    "with embeddings": ("embed_VD", "unembed_DV"),
    "with norms": ("norm_D", "layers/attn_norm_D"),
    "with whole weights": ("layers/up_DF",),
}


@pytest.mark.parametrize("full", FULL.values(), ids=FULL.keys())
@pytest.mark.parametrize("stabilised", [False, True])
def test_peft_loads_what_we_save_with_equal_logits(tmp_path, full, stabilised):
    cfg = with_lora(rank_stabilised=stabilised)
    base = base_folder(tmp_path / "base")
    params = tiny_llama.params(cfg, seed=4)
    params = {n: w if n in full or "lora" in n else base[n] for n, w in params.items()}
    peft_write.save(tmp_path / "ours", params, cfg, full, str(tmp_path / "base"), "float32")
    model = peft.PeftModel.from_pretrained(their_base(tmp_path / "base"), tmp_path / "ours")
    want = logits(params, TOKENS_BT, cfg=cfg)
    assert np.abs(want - logits(base, TOKENS_BT)).max() > 0.1
    close(theirs(model), want)
    close(theirs(model.merge_and_unload()), want)


@pytest.mark.parametrize("tied", [False, True])
def test_peft_loads_a_longer_vocabulary(tmp_path, tied):
    old = dataclasses.replace(tiny_llama.CFG, tie_embeddings=tied)
    cfg = dataclasses.replace(with_lora(old), vocab_size=105)
    base = base_folder(tmp_path / "base", old)
    full = {"embed_VD", "unembed_DV"} & {*base}
    params = {n: w if n in full or "lora" in n else base[n]
              for n, w in tiny_llama.params(cfg, seed=4).items()}  # fmt: skip
    peft_write.save(tmp_path / "ours", params, cfg, full, str(tmp_path / "base"), "float32")
    model = peft.PeftModel.from_pretrained(their_base(tmp_path / "base", 105), tmp_path / "ours")
    tokens_BT = np.arange(88, 105)[None]
    close(theirs(model, tokens_BT), logits(params, tokens_BT, cfg=cfg))


def test_the_config_says_what_peft_needs(tmp_path):
    params = tiny_llama.params(with_lora(rank_stabilised=True))
    peft_write.save(
        tmp_path, params, with_lora(rank_stabilised=True), {"norm_D"}, "a/b", "bfloat16"
    )
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    want = dict(peft_type="LORA", r=5, lora_alpha=7, use_rslora=True, base_model_name_or_path="a/b")
    assert config.items() >= want.items()
    assert config["target_modules"] == ["down_proj", "gate_proj", "o_proj", "q_proj"]
    assert config["modules_to_save"] == ["model.norm"]
    assert peft_read.read_config(tmp_path) == config
    with safetensors.safe_open(tmp_path / "adapter_model.safetensors", "np") as file:
        name = "base_model.model.model.layers.2.self_attn.o_proj.lora_A.weight"
        assert file.get_slice(name).get_shape() == [5, 32]
        assert file.get_slice(name).get_dtype() == "BF16"


def test_a_weight_that_was_adapted_and_trained_is_refused(tmp_path):
    params = tiny_llama.params(with_lora())
    with pytest.raises(ValueError, match=r"q_proj has an adapter and is trained .*form: merged"):
        peft_write.save(tmp_path, params, with_lora(), {"layers/q_DNH"}, "a/b", "float32")


# ---------------------------------------------------------------------------- import
def read(folder, cfg=tiny_llama.CFG, fsdp=1, **fields):
    """The model in the folder beside it, with the adapter on it."""
    mesh = meshes.make(recipe_train.Mesh(fsdp=fsdp), jax.devices()[:fsdp])
    places = meshes.param_shardings(cfg, mesh)
    base = folder.parent / "base"
    return jax.device_get(load.load(base, cfg, places, "float32", adapter=folder, **fields))


def made_by_peft(folder, base, **fields):
    """An adapter of peft's own, every tensor random, saved; the model with it."""
    torch.manual_seed(0)
    config = peft.LoraConfig(r=3, lora_alpha=5, task_type="CAUSAL_LM", **fields)
    model = peft.get_peft_model(their_base(base), config)
    for p in model.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.2)
    model.save_pretrained(folder)
    return model.eval()


THEIRS = {
    "two modules": dict(target_modules=["q_proj", "down_proj"]),
    "all of them": dict(target_modules="all-linear", use_rslora=True),
    "by pattern": dict(target_modules=r".*\.(k|up)_proj"),
    "modules saved": dict(target_modules=["v_proj"], modules_to_save=["lm_head", "embed_tokens"]),
    "norms saved": dict(target_modules=["v_proj"], modules_to_save=["norm"]),
    "the head": dict(target_modules=["lm_head", "k_proj"]),
}


@pytest.mark.parametrize("fields", THEIRS.values(), ids=THEIRS.keys())
@pytest.mark.parametrize("fsdp", [1, 4])
def test_an_adapter_of_peft_gives_equal_logits_here(tmp_path, fields, fsdp):
    base = base_folder(tmp_path / "base")
    model = made_by_peft(tmp_path / "theirs", tmp_path / "base", **fields)
    want = theirs(model)
    assert np.abs(want - logits(base, TOKENS_BT)).max() > 0.1
    close(logits(read(tmp_path / "theirs", fsdp=fsdp), TOKENS_BT), want)


@pytest.mark.parametrize("full", FULL.values(), ids=FULL.keys())
def test_what_we_save_we_read(tmp_path, full):
    cfg = with_lora(rank_stabilised=True)
    base = base_folder(tmp_path / "base")
    params = tiny_llama.params(cfg, seed=4)
    params = {n: w if n in full or "lora" in n else base[n] for n, w in params.items()}
    peft_write.save(tmp_path / "ours", params, cfg, full, "a/b", "float32")
    want = lora.merge(jax.tree.map(jnp.asarray, params), cfg.lora)
    got = read(tmp_path / "ours")
    assert got.keys() == want.keys()
    for name, w in got.items():
        known = {"embed_VD": np.s_[:97], "unembed_DV": np.s_[:, :97]}.get(name, ...)
        if name in NAMES:
            np.testing.assert_allclose(w[known], want[name][known], atol=1e-6, rtol=1e-5)
        else:
            np.testing.assert_array_equal(w[known], want[name][known])


def test_pieces_of_a_weight_are_those_of_the_whole(tmp_path, monkeypatch):
    base_folder(tmp_path / "base")
    made_by_peft(tmp_path / "theirs", tmp_path / "base", target_modules="all-linear")
    whole = read(tmp_path / "theirs")
    monkeypatch.setattr(shards, "PIECE", 512)
    for name, w in read(tmp_path / "theirs").items():
        np.testing.assert_allclose(w, whole[name], atol=1e-6, rtol=1e-5)


def test_an_adapter_of_a_weight_that_is_several_of_ours(tmp_path):
    """Phi-3 keeps q, k and v in one tensor, and gate and up in another."""
    config = transformers.Phi3Config(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, intermediate_size=48,
        num_attention_heads=4, num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(1)
    transformers.Phi3ForCausalLM(config).save_pretrained(tmp_path / "base")
    fields = dict(target_modules=["qkv_proj", "gate_up_proj", "down_proj"])
    model = made_by_peft(tmp_path / "theirs", tmp_path / "base", **fields)
    cfg = families.config_from_hf(load.read_config(tmp_path / "base"), "float32")
    close(logits(read(tmp_path / "theirs", cfg), TOKENS_BT, cfg=cfg), theirs(model))


def test_embeddings_of_an_adapter_say_how_many_tokens_there_are(tmp_path):
    base_folder(tmp_path / "base")
    cfg = dataclasses.replace(with_lora(), vocab_size=105)
    params = tiny_llama.params(cfg, seed=4)
    peft_write.save(tmp_path / "ours", params, cfg, {"embed_VD", "unembed_DV"}, "a/b", "float32")
    assert load.read_config(tmp_path / "base")["vocab_size"] == 97
    assert load.read_config(tmp_path / "base", tmp_path / "ours")["vocab_size"] == 105
    got = read(tmp_path / "ours", dataclasses.replace(cfg, lora=None))
    np.testing.assert_array_equal(got["embed_VD"][:105], params["embed_VD"][:105])
    peft_write.save(
        tmp_path / "plain", tiny_llama.params(with_lora()), with_lora(), (), "a/b", "float32"
    )
    assert load.read_config(tmp_path / "base", tmp_path / "plain")["vocab_size"] == 97


def test_rows_of_new_tokens_begin_from_the_adapters_embeddings(tmp_path):
    base_folder(tmp_path / "base")
    fields = dict(target_modules=["v_proj", "lm_head"], modules_to_save=["embed_tokens"])
    made_by_peft(tmp_path / "theirs", tmp_path / "base", **fields)
    plain = read(tmp_path / "theirs")
    given = {}

    def grow(name):
        def remember(old_VD):
            given[name] = old_VD
            return np.concatenate([old_VD, old_VD[:3]])

        return remember

    longer = dataclasses.replace(tiny_llama.CFG, vocab_size=100)
    names = ("embed_VD", "unembed_DV")
    got = read(tmp_path / "theirs", longer, grow={name: grow(name) for name in names}, rows=97)
    np.testing.assert_array_equal(given["embed_VD"], plain["embed_VD"][:97])
    np.testing.assert_allclose(given["unembed_DV"], plain["unembed_DV"][:, :97].T, atol=1e-6)
    np.testing.assert_array_equal(got["embed_VD"][97:100], plain["embed_VD"][:3])


# ---------------------------------------------------------------------------- refused
@pytest.fixture
def folder(tmp_path):
    """An adapter, beside its base."""
    base_folder(tmp_path / "base")
    folder, params = tmp_path / "adapter", tiny_llama.params(with_lora())
    peft_write.save(folder, params, with_lora(), (), "a/b", "float32")
    return folder


def change(folder, config=None, tensors=None, without=()):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | (config or {})))
    path = folder / "adapter_model.safetensors"
    held = safetensors.numpy.load_file(path) | (tensors or {})
    held = {name: w for name, w in held.items() if not any(word in name for word in without)}
    safetensors.numpy.save_file(held, path)


Q = "base_model.model.model.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"config": {"r": 4}}, r"q_proj.lora_A.weight is \(5, 32\); .* say \(4, 32\)"),
        ({"config": {"r": 0}}, "r=0; want the rank"),
        ({"config": {"use_dora": True}}, "use_dora=True is not supported"),
        ({"config": {"peft_type": "IA3"}}, "peft_type='IA3' is not supported; want 'LORA'"),
        ({"config": {"bias": "all"}}, "bias='all' is not supported; want 'none'"),
        ({"config": {"init_lora_weights": "pissa"}}, "init_lora_weights='pissa'"),
        ({"config": {"rank_pattern": {"q_proj": 9}}}, "rank_pattern="),
        ({"config": {"of_a_later_version": "x"}}, "of_a_later_version='x' is not supported"),
        ({"without": ["layers.2.self_attn.q_proj"]}, r"layers.2.self_attn.q_proj.* missing"),
        ({"without": ["lora_B"]}, r"lora_B.weight.* missing"),
        ({"without": ["base"]}, "holds no adapter"),
        ({"tensors": {f"{Q}.lora_magnitude_vector": np.ones(3)}}, "lora_magnitude_vector is of no"),
        ({"tensors": {Q.replace("q_", "z_") + ".lora_A.weight": np.ones((5, 32))}}, "z_proj"),
    ],
)
def test_what_is_no_plain_adapter_of_this_model_is_refused(folder, fields, message):
    change(folder, **fields)
    with pytest.raises(ValueError, match=message):
        read(folder)


def test_a_pickle_and_a_damaged_file_are_refused(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"adapter_model.safetensors: damaged or cut short"):
        read(folder)
    path.rename(folder / "adapter_model.bin")
    with pytest.raises(ValueError, match="pickled adapters are not read"):
        read(folder)


def test_of_a_module_that_peft_wrapped_the_trained_copy_is_read(folder):
    """Older versions of peft save the untrained one, too."""
    w, head = np.ones((97, 32), np.float32), "base_model.model.lm_head"
    copies = {f"{head}.modules_to_save.weight": w, f"{head}.original_module.weight": 2 * w}
    change(folder, tensors=copies)
    np.testing.assert_array_equal(read(folder)["unembed_DV"][:, :97], w.T)


def test_an_lm_head_that_is_not_the_tied_matrix_is_refused(folder):
    tied = dataclasses.replace(tiny_llama.CFG, tie_embeddings=True)
    w = np.ones((97, 32), np.float32)
    names = ("base_model.model.lm_head.weight", "base_model.model.model.embed_tokens.weight")
    change(folder, tensors=dict(zip(names, (w, w), strict=True)))
    base_folder(folder.parent / "base", tied)
    np.testing.assert_array_equal(read(folder, tied)["embed_VD"][:97], w)
    change(folder, tensors=dict(zip(names, (w, 2 * w), strict=True)))
    with pytest.raises(ValueError, match="an lm_head that is not its embed_tokens"):
        read(folder, tied)
