"""Bits per byte: literal scores, and that packing, windows and devices do not change them."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrl_jax import text
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import bits_per_byte, kinds, likelihood
from lrl_jax.evaluate.benchmark import paired
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train
from lrl_jax.recipe.evaluate import Evaluate


@dataclasses.dataclass(frozen=True)
class Bytes:
    """A tokenizer of bytes: id = byte + 3, after <unk>, bos and eos."""

    bos_id = 1
    pad_id = 0
    size = 259

    def encode_batch(self, texts):
        return [[b + 3 for b in text.encode()] for text in texts]


@pytest.fixture(scope="module")
def cfg():
    return llama.LlamaConfig(
        vocab_size=259,
        width=32,
        depth=2,
        mlp_width=48,
        num_heads=4,
        num_kv_heads=2,
        head_width=8,
        norm_eps=0.1,
        rope_theta=100.0,
        dtype="float32",
    )


@pytest.fixture(scope="module")
def params(cfg):
    return {k: 3 * v for k, v in llama.init(cfg, jax.random.key(0)).items()}


def mesh(data=1, fsdp=1):
    return meshes.make(recipe_train.Mesh(data=data, fsdp=fsdp), jax.devices()[: data * fsdp])


def test_a_measured_text_says_its_tokens_bytes_and_characters_and_facts_its_seconds(
    cfg, params, tmp_path
):
    (tmp_path / "ko.txt").write_text("가나\n\nab\nnot read\n")
    settings = Evaluate(bits_per_byte={"kor_Hang": str(tmp_path / "ko.txt")}, max_lines=3)
    model = MeasuredModel(
        cfg, jax.device_put(params, jax.NamedSharding(mesh(), jax.P())), Bytes(), mesh(), 32, 1
    )
    got = kinds.measure(settings, model)
    counts = {"characters": 4, "bytes": 8, "tokens": 8}
    assert got["efficiency"] == {"input": {"kor_Hang": counts}, "answer": {}}
    assert got["bits_per_byte"]["kor_Hang"]["characters"] == 4
    seconds = got["facts"].pop("seconds_per_1000_characters")
    assert seconds["input"]["kor_Hang"] > 0
    assert seconds["answer"] == {}
    again = kinds.measure(settings, model)
    assert got.pop("facts")
    assert again.pop("facts")
    assert again == got


def test_rows_are_no_text_to_measure(tmp_path):
    (tmp_path / "ko").write_text('{"text": "가"}\n["나"]\n')
    (tmp_path / "ko.txt").write_text("가\n")
    settings = Evaluate(
        bits_per_byte={"kor": str(tmp_path / "ko.txt")},
        baseline_text={"kor": [str(tmp_path / "ko")]},
    )
    with pytest.raises(text.DataError, match="ko:1: looks like JSON and is read as lines of text"):
        bits_per_byte.baselines(settings)


def test_blank_lines_alone_are_named_before_anything_is_measured(tmp_path):
    (tmp_path / "blank.txt").write_text("\n \n")
    blank = str(tmp_path / "blank.txt")
    settings = Evaluate(bits_per_byte={"kor": blank}, baseline_text={"kor": [blank]})
    with pytest.raises(text.DataError) as error:
        kinds.validate(settings)
    says = f"{blank}: holds no text, blank lines alone; name another file"
    keys = ("evaluate.bits_per_byte.kor", "evaluate.baseline_text.kor")
    assert str(error.value).splitlines() == [f"{key}: {says}" for key in keys]


def test_what_each_line_costs_is_kept_and_sums_to_the_score(cfg, params, tmp_path):
    (tmp_path / "ko.txt").write_text("나무 아래\n\nab\none two three four five six\n")
    settings = Evaluate(bits_per_byte={"kor": str(tmp_path / "ko.txt")})
    placed = jax.device_put(params, jax.NamedSharding(mesh(), jax.P()))
    model = MeasuredModel(cfg, placed, Bytes(), mesh(), 8, 1, lines=str(tmp_path / "after"))
    got = kinds.measure(settings, model)["bits_per_byte"]["kor"]
    kept = paired.read_lines(tmp_path / "after/bits_per_byte/kor.jsonl")
    assert [line["bytes"] for line in kept] == [13, 2, 27]
    for name, fields in bits_per_byte.SUMS.items():
        value = got["tokens"] / got["lines"] if name == "tokens_per_line" else got[name]
        assert paired.sums_of(kept, fields, value)[0], name
    assert paired.sums_of(kept[:2], ("bits", "bytes"), got["bits_per_byte"]) == ([], [])


def score(cfg, params, texts, *, own=None, on=None, batch_size=2, length=32):
    on = on or mesh()
    params = jax.device_put(params, jax.NamedSharding(on, jax.P()))
    model = MeasuredModel(cfg, params, own or Bytes(), on, length, 1)
    return bits_per_byte.score(texts, model, batch_size)


LINES = ["a", "나무 아래", "one two three", "", "그는 책을 읽었다", "zz", "the end."]


def test_a_uniform_model_needs_log2_v_bits_a_token(cfg, params):
    flat = params | {"unembed_DV": jnp.zeros_like(params["unembed_DV"])}
    got = score(cfg, flat, ["abc", "", "나"])
    assert (got.tokens, got.bytes, got.lines) == (6, 6, 2)
    assert got.bits_per_byte == pytest.approx(math.log2(259) * 6 / 6, rel=1e-6)
    assert got.nats_per_token == pytest.approx(math.log(259), rel=1e-6)


def test_bytes_are_the_texts_not_the_tokens(cfg, params):
    class Pairs(Bytes):
        def encode_batch(self, texts):  # one token for two bytes
            return [ids[::2] for ids in super().encode_batch(texts)]

    flat = params | {"unembed_DV": jnp.zeros_like(params["unembed_DV"])}
    got = score(cfg, flat, ["abcdef"], own=Pairs(), batch_size=1, length=8)
    assert got.bits_per_byte == pytest.approx(math.log2(259) / 2, rel=1e-6)


def test_packing_and_padding_do_not_change_the_score(cfg, params):
    nats = 0.0
    for line in filter(None, LINES):  # one line a batch, in a row of its own length
        ids = np.array([[1, *Bytes().encode_batch([line])[0]]])
        model = llama.bind(cfg, params)
        n = ids.shape[1] - 1
        logits = model(ids[:, :-1], np.ones((1, n), np.int32), np.arange(n)[None])
        nats -= np.take_along_axis(
            np.array(jax.nn.log_softmax(logits))[0], ids[0, 1:, None], 1
        ).sum()
    want = nats / math.log(2) / sum(len(line.encode()) for line in LINES)
    for batch_size, length in [(1, 32), (3, 32), (2, 41), (8, 100)]:
        got = score(cfg, params, LINES, batch_size=batch_size, length=length)
        assert got.bits_per_byte == pytest.approx(want, rel=1e-5)


def test_the_order_of_lines_does_not_change_the_score(cfg, params):
    got, want = score(cfg, params, LINES[::-1]), score(cfg, params, LINES)
    assert got.bits_per_byte == pytest.approx(want.bits_per_byte, rel=1e-6)


def test_the_mesh_does_not_change_the_score(cfg, params):
    want = score(cfg, params, LINES).bits_per_byte
    for data, fsdp in [(2, 1), (1, 4), (2, 4)]:
        got = score(cfg, params, LINES, on=mesh(data, fsdp), batch_size=3)
        assert got.bits_per_byte == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("length", [2, 3, 4, 7, 32])
@pytest.mark.parametrize("size", [1, 2, 6, 7, 8, 31, 40])
def test_windows_score_every_token_once_with_half_a_window_before_it(length, size):
    ids = list(range(10, 10 + size))
    scored = []
    for tokens, mask in bits_per_byte.windows(ids, length):
        assert len(tokens) <= length
        assert mask.any()
        context = int(tokens[mask][0] - tokens[0])
        assert context >= (length // 2 if scored else 0)
        scored += tokens[mask].tolist()
    assert scored == ids


def test_lines_longer_than_a_row_are_scored_to_their_end(cfg, params):
    flat = params | {"unembed_DV": jnp.zeros_like(params["unembed_DV"])}
    got = score(cfg, flat, ["x" * 100], length=16)
    assert (got.tokens, got.lines) == (100, 1)
    assert got.nats_per_token == pytest.approx(math.log(259), rel=1e-6)


def test_one_shape_is_compiled_once(cfg, params):
    likelihood.token_scores.clear_cache()
    score(cfg, params, LINES)
    score(cfg, params, LINES[:3] * 9)
    assert likelihood.token_scores._cache_size() == 1


def test_text_without_a_character_is_refused(cfg, params):
    with pytest.raises(ValueError, match="2 lines, all of them blank"):
        score(cfg, params, ["", " "])
