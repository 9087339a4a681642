"""Hugging Face folders in and out: shards, growing vocabularies, damage, traps, cards, the gate."""

import dataclasses
import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import struct
import threading
from typing import get_args

from etils import epath
import huggingface_hub
from huggingface_hub import constants
import jax
import numpy as np
import pytest
import safetensors.numpy
import tiny_llama
from tiny_llama import CFG

from lrl_jax.devices import mesh as meshes
from lrl_jax.hf import card, families, gate, load, save
from lrl_jax.model import llama, rope
from lrl_jax.recipe import schema
from lrl_jax.recipe import train as recipe_train
from lrl_jax.vocab.pieces import learn
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer import sentencepieces

IDS = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 64}
HF = families.config_to_hf(IDS, CFG, "float32")


def shardings(cfg=CFG, **axes):
    axes = axes or {"data": 1, "fsdp": 1, "tensor": 1}
    count = np.prod(list(axes.values()))
    return meshes.param_shardings(
        cfg, meshes.make(recipe_train.Mesh(**axes), jax.devices()[:count])
    )


@pytest.fixture(scope="module")
def params():
    return stripped(CFG)


@pytest.fixture
def folder(params, tmp_path):
    save.save(tmp_path / "base", params, CFG, IDS, "float32", 10**9)
    return tmp_path / "base"


def stripped(cfg):
    """Parameters whose padding rows are zero, as `load` makes them."""
    params = tiny_llama.params(cfg)
    params["embed_VD"] = params["embed_VD"].at[cfg.vocab_size :].set(0)
    if not cfg.tie_embeddings:
        params["unembed_DV"] = params["unembed_DV"].at[:, cfg.vocab_size :].set(0)
    return jax.device_put(params, shardings(cfg))


def tensors(folder):
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= safetensors.numpy.load_file(path)
    return found


def assert_same(got, want):
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)


# ---------------------------------------------------------------------------- in and out
@pytest.mark.parametrize(
    "axes",
    [
        dict(data=1, fsdp=8, tensor=1),
        dict(data=2, fsdp=2, tensor=2),
        dict(data=1, fsdp=1, tensor=2),
    ],
    ids=str,
)
def test_any_mesh_loads_the_same_parameters(params, folder, axes):
    placed = shardings(**axes)
    got = load.load(folder, CFG, placed, "float32")
    assert_same(got, params)
    assert all(got[name].sharding == placed[name] for name in got)


def test_a_sharded_model_is_written_in_files_of_the_asked_size(params, folder, tmp_path):
    spread = jax.device_put(params, shardings(data=2, fsdp=2, tensor=2))
    save.save(tmp_path / "many", spread, CFG, IDS, "float32", 30_000)
    files = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert len(files) > 3
    assert all((tmp_path / "many" / name).stat().st_size < 34_000 for name in files)
    index = json.loads((tmp_path / "many" / load.INDEX).read_text())
    assert set(index["weight_map"].values()) == set(files)
    assert index["metadata"]["total_size"] == sum(w.nbytes for w in tensors(folder).values())
    assert_same(tensors(tmp_path / "many"), tensors(folder))
    assert_same(load.load(tmp_path / "many", CFG, shardings(), "float32"), params)


def test_padding_rows_never_leave(params, folder):
    assert params["embed_VD"].shape == (128, 32)
    got = tensors(folder)
    assert got["model.embed_tokens.weight"].shape == (97, 32)
    assert got["lm_head.weight"].shape == (97, 32)
    assert load.read_config(folder)["vocab_size"] == 97


def test_bfloat16_goes_out_and_comes_in_bitwise(params, tmp_path):
    save.save(tmp_path, params, CFG, IDS, "bfloat16", 10**9)
    got = load.load(tmp_path, CFG, shardings(), "float32")
    assert_same(got, {name: w.astype("bfloat16").astype("float32") for name, w in params.items()})
    assert load.read_config(tmp_path)["dtype"] == "bfloat16"
    stored = load.load(tmp_path, CFG, shardings(), "bfloat16")
    save.save(tmp_path / "again", stored, CFG, IDS, "bfloat16", 10**9)
    first, second = ((p / load.WEIGHTS).read_bytes() for p in (tmp_path, tmp_path / "again"))
    assert first == second


@pytest.mark.parametrize("tie", [False, True])
def test_a_grown_vocabulary_keeps_old_rows_bitwise(tmp_path, tie):
    cfg = dataclasses.replace(CFG, tie_embeddings=tie)
    params = tiny_llama.params(cfg)
    save.save(tmp_path / "base", params, cfg, IDS, "bfloat16", 10**9)
    old = load.load(tmp_path / "base", cfg, shardings(cfg), "float32")
    grown = dataclasses.replace(cfg, vocab_size=140)

    def grow(value):
        return lambda old_VD: np.concatenate([old_VD, np.full((43, 32), value, np.float32)])

    got = load.load(
        tmp_path / "base", grown, shardings(grown, data=2, fsdp=2, tensor=2), "float32",
        {"embed_VD": grow(5.0), "unembed_DV": grow(7.0)}, rows=97,
    )  # fmt: skip
    assert got["embed_VD"].shape == (256, 32)
    np.testing.assert_array_equal(got["embed_VD"][:97], old["embed_VD"][:97])
    assert np.all(got["embed_VD"][97:140] == 5)
    assert np.all(got["embed_VD"][140:] == 0)
    if not tie:
        np.testing.assert_array_equal(got["unembed_DV"][:, :97], old["unembed_DV"][:, :97])
        assert np.all(got["unembed_DV"][:, 97:140] == 7)
    save.save(tmp_path / "out", got, grown, HF, "bfloat16", 10**9)
    again = load.load(tmp_path / "out", grown, shardings(grown), "float32")
    assert_same(again, got)


def test_rows_beyond_the_tokenizer_are_cut(folder):
    cut = dataclasses.replace(CFG, vocab_size=90)
    got = load.load(folder, cut, shardings(cut), "float32")["embed_VD"]
    want = tensors(folder)["model.embed_tokens.weight"]
    np.testing.assert_array_equal(got[:90], want[:90])
    assert np.all(got[90:] == 0)


def test_growth_sees_no_rows_beyond_the_tokenizer(folder):
    seen = []

    def grow(old_VD):
        seen.append(old_VD.shape)
        return np.concatenate([old_VD, old_VD[:10]])

    cfg = dataclasses.replace(CFG, vocab_size=100)
    load.load(folder, cfg, shardings(cfg), "float32", {"embed_VD": grow, "unembed_DV": grow}, 90)
    assert seen == [(90, 32), (90, 32)]


def test_a_tokenizer_larger_than_the_model_is_refused_with_both_numbers(folder):
    cfg = dataclasses.replace(CFG, vocab_size=120)
    with pytest.raises(ValueError, match=r"has 97 rows, but the tokenizer has 120 pieces"):
        load.load(folder, cfg, shardings(cfg), "float32")


def test_growth_to_another_size_than_the_model_is_refused(folder):
    cfg = dataclasses.replace(CFG, vocab_size=120)
    same = {"embed_VD": lambda old_VD: old_VD, "unembed_DV": lambda old_VD: old_VD}
    with pytest.raises(ValueError, match=r"grew to \(97, 32\).*\(120, 32\)"):
        load.load(folder, cfg, shardings(cfg), "float32", same, rows=97)


# ---------------------------------------------------------------------------- damage
def rewrite(folder, change):
    found = tensors(folder)
    change(found)
    safetensors.numpy.save_file(found, folder / load.WEIGHTS)


def read(folder, cfg=CFG):
    return load.load(folder, cfg, shardings(cfg), "float32")


def test_a_file_cut_short_is_refused(folder):
    data = (folder / load.WEIGHTS).read_bytes()
    for size in (0, 4, 200, len(data) - 1):
        (folder / load.WEIGHTS).write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"model.safetensors: damaged or cut short"):
            read(folder)


def test_a_header_that_lies_is_refused(folder):
    (folder / load.WEIGHTS).write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(ValueError, match=r"model.safetensors: damaged"):
        read(folder)


def test_a_flipped_bit_is_seen_through_the_manifest(params, tmp_path):
    save.save(tmp_path / "temp", params, CFG, IDS, "float32", 10**9)
    assert "unverified source" in load.source_note(tmp_path / "temp")
    save.finish(tmp_path / "temp", tmp_path / "final")
    assert load.source_note(tmp_path / "final") == "verified against manifest.json"
    read(tmp_path / "final")
    path = tmp_path / "final" / load.WEIGHTS
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"model.safetensors: content differs from manifest"):
        read(tmp_path / "final")


def test_missing_and_unknown_tensors_are_listed(folder):
    def change(found):
        found["model.layers.9.self_attn.q_proj.bias"] = found.pop("model.norm.weight")

    rewrite(folder, change)
    with pytest.raises(ValueError, match=r"misses model.norm.weight and has unknown .*q_proj.bias"):
        read(folder)


def test_tables_of_old_conversions_are_passed_over(params, folder):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    rewrite(folder, lambda found: found.update({name: np.ones(4, np.float32)}))
    assert_same(read(folder), params)


def test_a_tensor_of_another_shape_is_named(folder):
    def change(found):
        found["model.norm.weight"] = np.ones(33, np.float32)

    rewrite(folder, change)
    with pytest.raises(ValueError, match=r"model.norm.weight is \(33,\); config.json says \(32,\)"):
        read(folder)


def test_a_shard_that_is_not_there_is_named(params, tmp_path):
    save.save(tmp_path, params, CFG, IDS, "float32", 30_000)
    name = sorted(path.name for path in tmp_path.glob("*.safetensors"))[1]
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}: missing, but"):
        read(tmp_path)


def test_a_whole_file_is_read_before_an_index_and_the_index_is_named(params, folder):
    old = {name: w * 2 for name, w in tensors(folder).items()}
    safetensors.numpy.save_file(old, folder / "model-00001-of-00001.safetensors")
    weight_map = dict.fromkeys(old, "model-00001-of-00001.safetensors")
    (folder / load.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    assert_same(read(folder), params)
    (remark,) = load.remarks(folder, "float32")
    assert "model.safetensors.index.json and model-00001-of-00001.safetensors are not" in remark


def test_an_index_that_names_the_whole_file_is_not_remarked_on(folder):
    weight_map = dict.fromkeys(tensors(folder), load.WEIGHTS)
    (folder / load.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    assert load.remarks(folder, "float32") == []


@pytest.mark.parametrize(
    ("stored", "dtype", "said"),
    [
        ("float16", "bfloat16", "stored as float16, which bfloat16 rounds; set init.param_dtype"),
        ("float64", "float32", "stored as float64, which float32 rounds"),
        ("float16", "float32", ""),
        ("float32", "float32", ""),
    ],
)
def test_weights_that_are_rounded_are_named(folder, stored, dtype, said):
    rewrite(folder, lambda found: found.update({n: w.astype(stored) for n, w in found.items()}))
    assert "".join(load.remarks(folder, dtype)).find(said) >= (1 if said else 0)
    assert bool(load.remarks(folder, dtype)) == bool(said)


@pytest.mark.parametrize("rows", [97, 99])
def test_a_head_that_differs_although_tied_is_refused(tmp_path, rows):
    cfg = dataclasses.replace(CFG, tie_embeddings=True)
    save.save(tmp_path, stripped(cfg), cfg, IDS, "float32", 10**9)
    found = tensors(tmp_path)
    copy = found["model.embed_tokens.weight"].copy()
    safetensors.numpy.save_file(found | {"lm_head.weight": copy}, tmp_path / load.WEIGHTS)
    load.check(tmp_path, cfg)
    read(tmp_path, cfg)
    other = np.resize(copy, (rows, copy.shape[1]))
    other[rows - 1, 3] += 1
    safetensors.numpy.save_file(found | {"lm_head.weight": other}, tmp_path / load.WEIGHTS)
    for look in (load.check, read):
        with pytest.raises(ValueError, match=r"says tie_word_embeddings, but lm_head.weight is"):
            look(tmp_path, cfg)


def test_the_base_s_way_to_generate_goes_out_as_it_came(params, tmp_path):
    asked = {"eos_token_id": [2, 7], "temperature": 0.6, "do_sample": True}
    save.save(tmp_path, params, CFG, IDS, "float32", 10**9, asked)
    assert load.read_generation(tmp_path) == asked
    save.save(tmp_path, params, CFG, IDS, "float32", 10**9)
    ends = {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2}
    assert load.read_generation(tmp_path) == ends


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd", "a/b", "..", "", "..\\a", "C:\\a", "a\0b"]
)
def test_an_index_cannot_lead_outside_its_folder(folder, name):
    (folder / load.WEIGHTS).unlink()
    (folder / load.INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))
    with pytest.raises(ValueError, match="want plain names of its own files"):
        read(folder)


# ---------------------------------------------------------------------------- folders
def test_a_folder_is_its_own_answer(folder):
    assert load.resolve(schema.Pretrained(model=str(folder))) == folder


def test_a_hub_id_is_fetched_at_its_revision_without_pickles(folder, monkeypatch):
    asked = []

    def snapshot_download(name, *, revision, allow_patterns):
        asked.append((name, revision))
        assert not any(fnmatch.fnmatch("adapter_model.bin", one) for one in allow_patterns)
        assert any(fnmatch.fnmatch("adapter_config.json", one) for one in allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    base = schema.Pretrained(model="some/base", adapter="some/lora", adapter_revision="v2")
    assert load.resolve(base) == load.resolve_adapter(base) == folder
    assert asked == [("some/base", "main"), ("some/lora", "v2")]
    assert load.resolve_adapter(schema.Pretrained(model="some/base")) is None


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does where a model cannot be had: its name is the code."""

    def do_GET(self):
        status, code = {"gated": (403, "GatedRepo"), "stale": (404, "RevisionNotFound")}.get(
            self.path.split("/")[4], (404, "RepoNotFound")
        )
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        """Stays silent."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine, and a cache with nothing in it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield constants
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("name", "offline", "cause"),
    [
        ("org/gated", False, "403"),
        ("org/stale", False, "404"),
        ("org/none", False, "404"),
        ("org/none", True, "([Oo]ffline|cannot find)"),
    ],
)
def test_a_model_that_cannot_be_had_is_said_in_a_line_with_the_remedy(
    hub, monkeypatch, name, offline, cause
):
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", offline)
    want = rf"^{name}: neither a folder here nor a hub repository .*\(revision v9\): .*{cause}"
    with pytest.raises(ValueError, match=want) as error:
        load.resolve(schema.Pretrained(model=name, revision="v9"))
    assert str(error.value).endswith("need `hf auth login`; offline, give a folder")
    assert "\n" not in str(error.value)


def test_an_adapter_that_git_lfs_did_not_fetch_is_called_by_its_name(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\n"
    )
    with pytest.raises(ValueError, match=r"adapter_model.safetensors: is a git-lfs pointer"):
        load.resolve_adapter(schema.Pretrained(model="a/b", adapter=str(tmp_path)))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pkl"])
def test_pickled_weights_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match=rf"only pickled weights \({name}\)"):
        load.resolve(schema.Pretrained(model=str(tmp_path)))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.model"])
def test_a_git_lfs_pointer_is_called_by_its_name(folder, name):
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ValueError, match=rf"{name}: is a git-lfs pointer; run `git lfs pull`"):
        load.resolve(schema.Pretrained(model=str(folder)))


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder; want a folder, gs:// or a hub id"):
        load.resolve(schema.Pretrained(model=str(tmp_path / "nothing")))


def test_an_empty_folder_and_a_folder_of_something_else_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder, or an empty one"):
        load.resolve(schema.Pretrained(model=str(tmp_path)))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"no model.safetensors and no model.safetensors.index"):
        load.resolve(schema.Pretrained(model=str(tmp_path)))


def test_a_config_that_is_not_json_is_refused(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json: not JSON"):
        load.read_config(folder)


# ---------------------------------------------------------------------------- config.json
def test_both_spellings_of_rope_are_read():
    llama3 = dict(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    )  # fmt: skip
    plain = {k: v for k, v in HF.items() if not k.startswith("rope")}
    new = plain | {"rope_parameters": llama3 | {"rope_type": "llama3", "rope_theta": 5e5}}
    old = plain | {"rope_theta": 5e5, "rope_scaling": llama3 | {"rope_type": "llama3"}}
    older = plain | {"rope_theta": 5e5, "rope_scaling": llama3 | {"type": "llama3"}}
    got = [families.config_from_hf(config) for config in (new, old, older)]
    want = rope.Llama3(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_length=8192)
    assert [c.rope_scaling for c in got] == [want] * 3
    assert [c.rope_theta for c in got] == [5e5] * 3
    bare = plain | {"rope_theta": 7.0, "rope_scaling": None}
    assert families.config_from_hf(bare).rope_theta == 7


def test_the_length_a_base_was_made_for_is_that_of_the_top_level():
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024,
    }  # fmt: skip
    config = {k: v for k, v in HF.items() if k != "rope_parameters"} | {"rope_scaling": scaling}
    lengths = [
        families.config_from_hf(config | top).rope_scaling.original_length
        for top in ({}, {"original_max_position_embeddings": 64})
    ]
    assert lengths == [1024, 64]


def test_the_shape_of_a_recipe_is_a_config():
    shape = schema.ModelShape(
        hidden_size=64, num_hidden_layers=2, intermediate_size=96, num_attention_heads=4,
        num_key_value_heads=2, rope_theta=123.0,
    )  # fmt: skip
    got = families.config_from_hf(shape.model_dump() | {"vocab_size": 300}, "float32", "full")
    want = llama.LlamaConfig(
        vocab_size=300, width=64, depth=2, mlp_width=96, num_heads=4, num_kv_heads=2,
        head_width=16, norm_eps=1e-5, rope_theta=123.0, dtype="float32", remat="full",
    )  # fmt: skip
    assert got == want


@pytest.mark.parametrize("name", families.FAMILIES)
def test_a_recipe_may_ask_for_every_family(name):
    shape = schema.ModelShape(
        model_type=name, hidden_size=64, num_hidden_layers=2, intermediate_size=96,
        num_attention_heads=4, num_key_value_heads=2, head_dim=24,
    )  # fmt: skip
    got = families.config_from_hf(shape.model_dump() | {"vocab_size": 300})
    assert (got.family, got.head_width) == (name, 24)
    assert set(get_args(schema.ModelType)) == set(families.FAMILIES)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "bloom"}, r"'bloom' is not supported \(it has ALiBi .*; want one of llama"),
        ({"model_type": "gemma3"}, "save its text model alone"),
        ({"model_type": "gpt2"}, "model_type='gpt2' is not supported; want one of llama, mistral"),
        ({"model_type": "mistral", "layer_types": ["full_attention"] * 3}, "layer_types="),
        ({"model_type": "gemma", "hidden_act": "relu"}, "hidden_act='relu'"),
        ({"model_type": "gemma2", "hidden_activation": "gelu"}, "hidden_activation='gelu'"),
        ({"model_type": "gemma2", "layer_types": ["full_attention"]}, "for each of 3 layers"),
        ({"model_type": "qwen3", "attention_bias": True}, "attention_bias=True"),
        ({"model_type": "olmo2", "attention_bias": True}, "attention_bias=True"),
        ({"model_type": "olmo2", "rope_parameters": {"rope_type": "yarn"}}, "rope_type='yarn'"),
        ({"model_type": "smollm3", "attention_bias": True}, "attention_bias=True"),
        ({"model_type": "smollm3", "mlp_bias": True}, "mlp_bias=True"),
        (
            {"model_type": "smollm3", "no_rope_layers": [1, 0]},
            r"no_rope_layers=\[1, 0\]; want 1 .* or 0 .* for each of 3 layers",
        ),
        ({"model_type": "smollm3", "no_rope_layers": [1, 2, 0]}, r"no_rope_layers=\[1, 2, 0\]"),
        ({"model_type": "smollm3", "no_rope_layers": 4}, "no_rope_layers=4; want"),
        ({"model_type": "smollm3", "no_rope_layer_interval": 0}, "interval=0; want 1 or more"),
        (
            {
                "model_type": "smollm3",
                "sliding_window": 5,
                "layer_types": ["sliding_attention"] * 3,
            },
            "but use_sliding_window is false",
        ),
        ({"model_type": "gemma3_text"}, "want full_attention and sliding_attention"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5 is not supported; want 1"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"mlp_bias": True}, "mlp_bias=True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config="),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type='yarn' is not supported"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "packed rows have no such length"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "rope_type llama3 without 'factor'"),
        ({"rope_parameters": {"full_attention": {}}}, "by layer type are not supported here"),
        (
            {"model_type": "phi3", "original_max_position_embeddings": 4096}
            | {"rope_scaling": {"type": "su", "short_factor": [1.0], "long_factor": [1.0]}},
            "1 short factors; rotary positions of 8 dimensions want 4",
        ),
        ({"num_key_value_heads": 3}, "multiple of num_kv_heads=3"),
        ({"rms_norm_eps": None}, "rms_norm_eps is null.*leave it out for 1e-06"),
    ],
)
def test_a_config_we_do_not_compute_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        families.config_from_hf(HF | change)


@pytest.mark.parametrize(
    ("said", "want"),
    [
        ({}, (False, False, False, True)),
        ({"no_rope_layer_interval": 2}, (False, True, False, True)),
        ({"no_rope_layers": [0, 1, 1, 1]}, (True, False, False, False)),
        ({"no_rope_layers": [1, 1, 1, 1, 0]}, ()),
    ],
)
def test_layers_without_rotary_positions_are_read_as_a_list_or_by_an_interval(said, want):
    config = HF | {"model_type": "smollm3", "num_hidden_layers": 4} | said
    assert families.config_from_hf(config).unrotated_layers == want


def test_only_layers_without_rotary_positions_have_the_window_of_smollm3():
    window = {"use_sliding_window": True, "sliding_window": 5, "no_rope_layers": [1, 0, 1]}
    got = families.config_from_hf(HF | {"model_type": "smollm3"} | window)
    assert (got.window, got.local_layers) == (5, (False, True, False))


def test_a_config_without_shapes_is_refused():
    with pytest.raises(ValueError, match=r"vocab_size, hidden_size, .* missing"):
        families.config_from_hf({"model_type": "llama"})


# ---------------------------------------------------------------------------- finish, card, gate
def test_an_export_replaces_the_one_before_it(tmp_path):
    for text in ("first", "second"):
        (tmp_path / "temp").mkdir()
        (tmp_path / "temp" / "a.txt").write_text(text)
        save.finish(tmp_path / "temp", tmp_path / "final")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.txt", "final", "manifest.json"]
    assert (tmp_path / "final" / "a.txt").read_text() == "second"
    load.verify(tmp_path / "final")


@pytest.mark.parametrize("survives", range(3))  # steps of `finish` before the process is killed
def test_an_export_killed_at_its_end_leaves_nothing_that_looks_whole_and_is_not(
    tmp_path, monkeypatch, survives
):
    for name, text in (("final", "old"), ("temp", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(text)
    (tmp_path / "final").rename(tmp_path / "before")
    save.finish(tmp_path / "before", tmp_path / "final")
    done, kind = [], type(epath.Path(tmp_path))

    def killed(plain):
        def step(self, *args, **fields):
            if len(done) == survives:
                raise KeyboardInterrupt
            done.append(self.name)
            return plain(self, *args, **fields)

        return step

    for name in ("write_text", "write_bytes", "rename"):
        monkeypatch.setattr(kind, name, killed(getattr(kind, name)))
    with pytest.raises(KeyboardInterrupt):
        save.finish(tmp_path / "temp", tmp_path / "final")
    monkeypatch.undo()
    if (tmp_path / "final").exists():
        load.verify(tmp_path / "final")
    assert {(tmp_path / name / "a.txt").read_text() for name in ("final", ".final.old")
            if (tmp_path / name).exists()} == {"old"}  # fmt: skip
    if (tmp_path / "temp").exists():
        save.finish(tmp_path / "temp", tmp_path / "final")
    assert (tmp_path / "final" / "a.txt").read_text() == "new"
    assert not (tmp_path / ".final.old").exists()


def test_a_card_has_front_matter_that_nothing_breaks():
    from ruamel.yaml import YAML

    text = card.card(
        title='Korean: "x" | <b>\n---', base_model="org/base-7b", base_license="llama2",
        license="my own: licence", languages=["kor_Hang", "eng_Latn"],
        metrics=[card.CardScore("bits per byte", "kor|eng", "x.bits_per_byte", 2.5, 1.25)],
        new_pieces=12,
    )  # fmt: skip
    _, front, body = text.split("---\n", 2)
    got = YAML(typ="safe").load(front)
    assert got == {
        "license": "other",
        "license_name": "my-own-licence",
        "language": ["en", "ko"],
        "base_model": "org/base-7b",
        "base_model_relation": "finetune",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["lrl-jax"],
        "model-index": [
            {
                "name": 'Korean: "x" | <b>\n---',
                "results": [
                    {
                        "task": {"type": "text-generation"},
                        "dataset": {"type": "kor-eng", "name": "kor|eng"},
                        "metrics": [
                            {"type": "bits_per_byte", "name": "bits per byte", "value": 1.25}
                        ],
                    }
                ],
            }
        ],
    }
    assert r"# Korean: \"x\" \| &lt;b&gt; ---".replace('\\"', '"') in body
    assert r"| bits per byte | kor\|eng | 2.500 | 1.250 |  |" in body


@pytest.mark.parametrize("base", ["/home/me/secret/model", "runs/base/export", "./x", "gs://b/x"])
def test_a_card_tells_no_path(base):
    text = card.card(
        title="x", base_model=base, base_license="mit", license="mit", languages=["kor_Hang"]
    )
    assert base not in text
    assert "base_model" not in text


def test_a_card_names_the_adapter_it_began_with():
    text = card.card(
        title="x", base_model="org/base", base_adapter="org/lora", base_license="mit",
        license="mit", languages=["npi_Deva"],
    )  # fmt: skip
    assert 'base_model: ["org/base", "org/lora"]' in text
    assert "- Base: org/base, with the adapter org/lora (license: mit)" in text


def test_a_card_says_what_the_licence_of_its_base_asks():
    text = card.card(
        title="x", base_model="meta-llama/Llama-3.1-8B", base_license="llama3.1", license="other",
        languages=["kor_Hang-eng_Latn"],
    )  # fmt: skip
    assert 'license: "llama3.1"' in text
    assert 'language: ["en", "ko"]' in text
    assert "**Built with Llama**" in text
    assert '- calls it by a name that begins with "Llama";' in text
    assert "Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright (c)" in text
    gemma = card.card(
        title="x", base_model="google/gemma-2-2b", base_license="gemma", license="gemma",
        languages=["kor_Hang"],
    )  # fmt: skip
    assert "Gemma is provided under and subject to the Gemma Terms of Use" in gemma
    plain = card.card(
        title="x", base_model="a/b", base_license="mit", license="mit", languages=["kor_Hang"]
    )
    assert "What the license of the base asks" not in plain


def test_a_card_shows_data_by_source_and_licence_and_what_runs_it():
    text = card.card(
        title="x", base_model="a/b", base_license="mit", license="mit", languages=["kor_Hang"],
        datasets=[card.CardDataset("web", "kor_Hang", "org/web|1", "cc-by-4.0", 1234, "abcd")],
        fertility=[card.CardFertility("base", "kor_Hang", 9.914, 52.96)],
        hashes={"checkpoint": "d0"}, runtimes={"llama.cpp": "no, because x|y"},
        metrics=[card.CardScore("chrF", "test", "translation.chrf", None, 61.25, (60.0, 62.5), 1)],
    )  # fmt: skip
    assert r"| web | kor\_Hang | org/web\|1 | cc-by-4.0 | 1,234 | `abcd` |" in text
    assert r"| kor\_Hang Korean | base | 9.91 | 53.0 |" in text
    assert r"| llama.cpp | no, because x\|y |" in text
    assert "| chrF | test |  | 61.2 | 60.0 to 62.5 |" in text
    assert "| checkpoint | `d0` |" in text


TEXTS = ["the quick brown fox", "a lazy dog sleeps here", "the dog and the fox"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder, config, parameters, tokenizer) of a whole bfloat16 export."""
    folder = tmp_path_factory.mktemp("gate")
    model = learn.train(TEXTS * 9, 300, 1.0)
    sentencepieces.write(model, folder)
    own = tokenizers.load(folder)
    cfg = dataclasses.replace(CFG, vocab_size=own.size)
    params = jax.device_put(tiny_llama.params(cfg), shardings(cfg))
    save.save(folder, params, cfg, IDS, "bfloat16", 10**9)
    return folder, cfg, params, own


def test_the_gate_passes_what_is_right(exported):
    got = gate.check(*exported, TEXTS, "bfloat16")
    assert got.problems == ()
    assert got.texts == 3
    assert got.reload_error == 0
    if got.transformers_error is not None:
        assert got.transformers_error < 1e-4


def test_the_gate_stops_weights_that_are_not_the_trained_ones(exported):
    folder, cfg, params, own = exported
    other = dict(params, norm_D=params["norm_D"] * 1.5)
    got = gate.check(folder, cfg, other, own, TEXTS, "bfloat16")
    assert "reloaded logits differ" in got.problems[0]


def test_the_gate_stops_a_tokenizer_of_another_model(exported, tmp_path):
    folder, cfg, params, own = exported
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    other = learn.train(["zz yy xx zz yy", "yy zz xx"] * 9, 265, 1.0)
    sentencepieces.write(other, tmp_path)
    got = gate.check(tmp_path, cfg, params, own, TEXTS, "bfloat16")
    assert any("differ on 3 of 3 texts" in problem for problem in got.problems)
    assert any("AutoTokenizer has 265 ids" in problem for problem in got.problems)


def test_the_gate_wants_texts(exported):
    with pytest.raises(ValueError, match=r"name some in export.gate_on"):
        gate.check(*exported, [], "bfloat16")
