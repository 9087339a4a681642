"""Files of others and of a run folder are read in bounded time and memory, or refused by name."""

import contextlib
import json
import os
import struct
import time

from etils import epath
import hand_byte_level
import hand_tokenizer
import pyarrow
from pyarrow import parquet
import pytest

from lrl_jax import storage, text
from lrl_jax.data.pack import rows
from lrl_jax.data.read import files, formats
from lrl_jax.devices import lease
from lrl_jax.hf import families, load, peft_read
from lrl_jax.hf import safetensors_ranges as ranges
from lrl_jax.pipeline import notes
from lrl_jax.recipe import file as recipe_file
from lrl_jax.recipe import schema
from lrl_jax.report import pieces
from lrl_jax.vocab.pieces import splice
from lrl_jax.vocab.tokenizer import load as tokenizers

CONFIG = {
    "model_type": "llama", "vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2,
    "intermediate_size": 128, "num_attention_heads": 4, "rms_norm_eps": 1e-5,
}  # fmt: skip
DEEP = "[" * 100_000


@contextlib.contextmanager
def quickly(seconds=5.0):
    """Checks that the block takes few seconds of this process, however busy the machine is."""
    began = time.process_time()
    yield
    assert time.process_time() - began < seconds


# ---------------------------------------------------------------------------- YAML
BOMB = '"a0": &a0 ["l","l","l","l","l","l","l","l","l","l"]\n' + "".join(
    f'"a{n}": &a{n} [{",".join([f"*a{n - 1}"] * 10)}]\n' for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "anchors and aliases"),
        ("? &x a\n: b\n", "anchors and aliases"),
        ("a: *x\n", "anchors and aliases"),
        ("[" * 20_000, "nested over 32 deep"),
        ("- " * 20_000, "nested over 32 deep"),
        ("a: b\n" * 60_000, "over 20,000 keys and values"),
        ("!" * 200_000, "a line of 200,000 characters"),
        ("born: 2001-99-99\n", "month must be in 1..12"),
        ("? [[a]]\n: 1\n", "unhashable"),
    ],
)
def test_a_recipe_that_grows_or_is_too_deep_is_refused_soon_and_by_name(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with quickly(), pytest.raises(ValueError, match=message) as caught:
        recipe_file.load(str(path))
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("value", ["&x [*x]", "[" * 20_000])
def test_an_override_is_read_as_a_recipe_is(tmp_path, value):
    (tmp_path / "r.yaml").write_text("name: a\n")
    with quickly(), pytest.raises(ValueError, match=r"override 'a=.*(anchors|deep)"):
        recipe_file.load(str(tmp_path / "r.yaml"), [f"a={value}"])


def test_a_pipe_is_no_recipe_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "r.yaml")
    with quickly(), pytest.raises(ValueError, match=r"r\.yaml: is a folder, pipe or device"):
        recipe_file.load(str(tmp_path / "r.yaml"))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "notes"])
def test_a_pipe_in_a_base_folder_is_not_waited_for(tmp_path, name):
    (tmp_path / "model.safetensors").touch()
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with quickly(), pytest.raises(ValueError, match=f"{name}: is a folder, pipe or device"):
        load.resolve(schema.Pretrained(model=str(tmp_path)))
    with quickly(), pytest.raises(ValueError, match=f"{name}: is a folder, pipe or device"):
        ranges.open_file(tmp_path / name, contextlib.ExitStack())


# ---------------------------------------------------------------------------- JSON
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DEEP, "nested too deep"),
        (" \n" * 99 + "<!-- --><html>" + "," * 300_000, "is a web page, such as a login form"),
        ("[" + "[]," * 200_000 + "[]]", "some 400,002 values; want at most 262,144"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ('{"a": 1', "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        ("[1]", "want a JSON object"),
        (" " * (17 << 20), "more than 16,777,216 bytes"),
    ],
)
def test_a_config_that_cannot_be_read_is_refused_soon_and_by_name(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with quickly(), pytest.raises(ValueError, match=message) as caught:
        load.read_config(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 1e9),
        ("num_hidden_layers", True),
        ("num_hidden_layers", [2]),
        ("vocab_size", 10**12),
        ("vocab_size", -1),
        ("hidden_size", 10**9),
        ("intermediate_size", 10**12),
        ("num_attention_heads", 0),
        ("num_key_value_heads", 10**9),
        ("head_dim", "8"),
        ("rms_norm_eps", float("inf")),
        ("rope_theta", "1e4"),
        ("max_position_embeddings", 10**30),
        ("sliding_window", 4096.5),
        ("tie_word_embeddings", []),
        ("tie_word_embeddings", 1),
        ("query_pre_attn_scalar", []),
        ("final_logit_softcapping", "30"),
    ],
)
def test_a_number_that_cannot_be_true_is_refused_with_key_and_file(tmp_path, key, value):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG | {key: value}))
    with quickly(), pytest.raises(ValueError, match=f"{path}: {key}="):
        load.read_config(tmp_path)
    with pytest.raises(ValueError, match=f"config.json: {key}="):
        families.config_from_hf(CONFIG | {key: value})


@pytest.mark.parametrize(
    "change",
    [
        {"rope_scaling": "x"},
        {"rope_scaling": {"rope_type": "linear", "factor": [2]}},
        {"rope_scaling": [1]},
        {"model_type": ["llama"]},
        {"model_type": "qwen3", "use_sliding_window": True, "layer_types": 5},
    ],
)
def test_a_config_of_other_types_is_refused_in_a_line(change):
    with pytest.raises(ValueError, match=r"^config\.json: "):
        families.config_from_hf(CONFIG | change)


LLAMA_3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 8192, "rope_type": "llama3"}  # fmt: skip


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"type": "linear", "factor": 0}, "factor=0 of rope_scaling; want a number above 0"),
        ({"type": "linear", "factor": -1}, "factor=-1 of"),
        (LLAMA_3 | {"factor": 0.0}, "factor=0.0 of"),
        (LLAMA_3 | {"low_freq_factor": 0}, "low_freq_factor=0 of"),
        (LLAMA_3 | {"high_freq_factor": 1.0}, "want two numbers"),
        (
            LLAMA_3 | {"original_max_position_embeddings": 0},
            "original_max_position_embeddings=0 of",
        ),
    ],
)
def test_a_scaling_of_positions_that_divides_by_zero_is_refused(scaling, message):
    with pytest.raises(ValueError, match=f"^config.json: .*{message}"):
        families.config_from_hf(CONFIG | {"rope_scaling": scaling})


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("tokenizer_config.json", "model_max_length", "x"),
        ("tokenizer_config.json", "model_max_length", True),
        ("tokenizer_config.json", "bos_token", ["<s>"]),
        ("special_tokens_map.json", "eos_token", 5),
    ],
)
@pytest.mark.parametrize("make", [hand_tokenizer.make, hand_byte_level.make])
def test_a_tokenizer_setting_of_another_type_is_refused_with_its_file(name, key, value, make):
    files = make().files | {name: json.dumps({key: value}).encode()}
    with pytest.raises(ValueError, match=f"^base/{name}: {key}=.*; want "):
        tokenizers.from_files(files, "base")


def test_a_folder_in_place_of_a_tokenizers_file_is_refused(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(ValueError, match=r"tokenizer\.json: is a folder, pipe or device"):
        tokenizers.read(tmp_path)


def test_the_largest_published_shapes_are_read():
    llama_405b = {"vocab_size": 128_256, "hidden_size": 16_384, "num_hidden_layers": 126,
                  "intermediate_size": 53_248, "num_attention_heads": 128}  # fmt: skip
    assert families.config_from_hf(CONFIG | llama_405b).depth == 126


# ---------------------------------------------------------------------------- safetensors
def write_header(path, header, data=b""):
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def tensors(count):
    entry = {"dtype": "F32", "shape": []}
    spans = ([4 * n, 4 * n + 4] for n in range(count))
    header = {f"t{n}": entry | {"data_offsets": span} for n, span in enumerate(spans)}
    return json.dumps(header).encode()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (tensors(150_000), "describes over 100,000 tensors"),
        (b" " * (20 << 20), "a header of 20,971,520 bytes; want at most 16,777,216"),
        (b'{"a":' + DEEP.encode(), "its header is not JSON"),
        (b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}', "not JSON"),
        (b'{"a":{"dtype":"F32","shape":[%s],"data_offsets":[0,4]}}' % (b"9," * 99 + b"9"), "shape"),
        (b'{"a":{"dtype":"F32","shape":[%s],"data_offsets":[0,4]}}' % (b"9" * 4000), "shape"),
    ],
)
def test_a_header_that_is_not_of_weights_is_refused_soon_and_by_name(tmp_path, header, message):
    path = epath.Path(tmp_path / "model.safetensors")
    write_header(path, header)
    with (
        quickly(),
        contextlib.ExitStack() as stack,
        pytest.raises(ValueError, match=message) as caught,
    ):
        ranges.open_folder(epath.Path(tmp_path), stack)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("weight_map", [["a"], {"a": ["b"]}, {"a": {}}, {"a": 1}, "a", {}])
def test_an_index_of_another_form_is_refused_by_name(tmp_path, weight_map):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}))
    with contextlib.ExitStack() as stack, pytest.raises(ValueError, match=f"{path}: .*weight_map"):
        ranges.open_folder(epath.Path(tmp_path), stack)


@pytest.mark.parametrize("files", [[1], {"a": {}}, {"a": 3}, {"a": {"bytes": "x", "sha256": ""}}])
def test_a_manifest_of_another_form_is_refused_by_name(tmp_path, files):
    (tmp_path / "manifest.json").write_text(json.dumps({"format": load.FORMAT, "files": files}))
    with pytest.raises(ValueError, match=r"manifest\.json: does not say what the files are"):
        load.verify(tmp_path)


@pytest.mark.parametrize("change", [{"r": 10**9}, {"r": True}, {"r": 4, "lora_alpha": "x"}])
def test_numbers_of_an_adapter_that_cannot_be_true_are_refused(tmp_path, change):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | change))
    with pytest.raises(ValueError, match=r"adapter_config\.json: (r|lora_alpha)="):
        peft_read.read_config(tmp_path)


# ---------------------------------------------------------------------------- a run folder
READERS = {
    "steps/train.json": notes.read,
    "lock.json": lease._read_owner,
    "vocab/splice.json": splice.read,
    "data/a/manifest.json": lambda path: rows.read_manifest(path.parent),
    "evaluate/after.json": lambda path: pieces.read(path.parent.parent),
}


@pytest.mark.parametrize(
    "content", [b"{", b"\xff", DEEP.encode(), b"[" + b"[]," * (1 << 24) + b"1]"]
)
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_of_a_run_is_named_soon(tmp_path, name, content):
    path = epath.Path(tmp_path / name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with quickly(), pytest.raises(ValueError, match=str(path)):
        READERS[name](path)


def test_a_splice_that_keeps_more_ids_than_there_are_is_refused(tmp_path):
    tree = {"kept": [[0, 0, 10**12]], "added": [], "base_fingerprint": "", "new_fingerprint": ""}
    (tmp_path / "splice.json").write_text(json.dumps(tree))
    with quickly(), pytest.raises(ValueError, match=r"splice\.json: .*keeps 1,000,000,000,000 ids"):
        splice.read(tmp_path / "splice.json")


# ---------------------------------------------------------------------------- Parquet
@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([b"a" * (100 << 20)], "over 1,000 times as many"),
        (pyarrow.nulls(5 << 20, "string"), "says that it has 5,242,880 rows"),
    ],
)
def test_a_parquet_file_that_grows_beyond_reason_is_refused_before_it_is_read(
    tmp_path, column, message
):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": column}), path, compression="brotli")
    with quickly():
        for read in (
            lambda: files.shards([str(path)]),
            lambda: next(formats.rows(files.Span(str(path)), formats.RowFormat("parquet"))),
        ):
            with pytest.raises(text.DataError, match=message) as caught:
                read()
            assert str(caught.value).startswith(f"{path}: ")


def test_a_column_of_one_word_is_read(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["word"] * 3000}), path, compression="brotli")
    got = list(formats.rows(files.Span(str(path)), formats.RowFormat("parquet")))
    assert len(got) == 3000


# ---------------------------------------------------------------------------- links
SECRET = "a file of this machine"


@pytest.fixture
def outside(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret").write_text(SECRET)
    (tmp_path / "base").mkdir()
    return tmp_path / "elsewhere/secret"


def read_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")
    return tokenizers.read(folder)


def read_weights(folder):
    with contextlib.ExitStack() as stack:
        return ranges.open_folder(epath.Path(folder), stack)


def read_shards(folder):
    (folder / ranges.INDEX).write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    return read_weights(folder)


def read_manifest(folder):
    files = {"LICENSE": {"bytes": len(SECRET), "sha256": "0"}}
    (folder / "manifest.json").write_text(json.dumps({"format": load.FORMAT, "files": files}))
    return load.verify(folder)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("chat_template.jinja", read_tokenizer),
        ("tokenizer_config.json", read_tokenizer),
        ("config.json", load.read_config),
        ("model.safetensors", read_weights),
        ("model-1.safetensors", read_shards),
        ("LICENSE", read_manifest),
        ("adapter_config.json", peft_read.read_config),
        ("LICENSE", lambda folder: load._check_pointers(epath.Path(folder))),
    ],
)
def test_a_link_out_of_a_base_folder_is_refused(tmp_path, outside, name, read):
    (tmp_path / "base" / name).symlink_to(outside)
    with pytest.raises(ValueError, match=f"{name}: is a link that leads out of its folder"):
        read(tmp_path / "base")


def test_a_link_through_a_folder_or_another_link_is_refused(tmp_path, outside):
    (tmp_path / "base/step").symlink_to(outside.parent)
    (tmp_path / "base/config.json").symlink_to("step/secret")
    with pytest.raises(ValueError, match="leads out of its folder"):
        storage.within(tmp_path / "base", "config.json")
    (tmp_path / "base-of-another").mkdir()  # its name begins as the folder's does
    (tmp_path / "base-of-another/a").write_text("")
    (tmp_path / "base/a").symlink_to("../base-of-another/a")
    with pytest.raises(ValueError, match="leads out of its folder"):
        storage.within(tmp_path / "base", "a")


def test_links_inside_a_folder_and_of_the_hubs_cache_are_followed(tmp_path):
    repository = tmp_path / "models--a--b"
    (repository / "snapshots/1").mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs/f00").write_text("blob")
    (repository / "snapshots/1/a").symlink_to("../../blobs/f00")
    (repository / "snapshots/1/b").symlink_to("a")
    for name in ("a", "b"):
        assert storage.within(repository / "snapshots/1", name).read_text() == "blob"
    (tmp_path / "shortcut").symlink_to(repository / "snapshots/1")
    assert storage.within(tmp_path / "shortcut", "a").read_text() == "blob"
