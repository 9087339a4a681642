"""Continuations are scored as by a float64 forward of each pair, whatever they are packed with."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_llama import CFG, params

from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import likelihood
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.evaluate.likelihood import Item, Reading
from lrl_jax.model import rope
from lrl_jax.recipe import train as recipe_train
from lrl_jax.text import DataError


@dataclasses.dataclass(frozen=True)
class Ids:
    """What scoring asks of a tokenizer."""

    bos_id = 1
    pad_id = 0


def model(length=32, blocks=1, tick=lambda done, whole: None, **axes):
    mesh = recipe_train.Mesh(**{"data": 1, "fsdp": 1, **axes})
    count = mesh.data * mesh.fsdp * mesh.tensor
    grid = meshes.make(mesh, jax.devices()[:count])
    placed = jax.device_put(params(), meshes.param_shardings(CFG, grid))
    return MeasuredModel(CFG, placed, Ids(), grid, length, blocks, tick)


# ---------------------------------------------------------------------------- reference
def reference(ids):
    """Log-probabilities [T, V] of the next token after each of `ids`, in float64."""
    w = {name: np.asarray(value, np.float64) for name, value in params().items()}
    H, G = CFG.head_width, CFG.num_heads // CFG.num_kv_heads
    x, T = w["embed_VD"][list(ids)], len(ids)
    turn = np.arange(T)[:, None] * 100.0 ** (-np.arange(0, H, 2) / H)
    sin, cos = np.sin(turn)[:, None], np.cos(turn)[:, None]

    def norm(x, scale):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.1) * scale

    def rotate(x):
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    for l in range(CFG.depth):
        layer = {n.removeprefix("layers/"): v[l] for n, v in w.items() if n.startswith("layers/")}
        y = norm(x, layer["attn_norm_D"])
        q = rotate(np.einsum("td,dnh->tnh", y, layer["q_DNH"]))
        k, v = (np.einsum("td,dkh->tkh", y, layer[n]) for n in ("k_DKH", "v_DKH"))
        k, v = np.repeat(rotate(k), G, axis=1), np.repeat(v, G, axis=1)
        scores = np.einsum("tnh,snh->nts", q, k) / np.sqrt(H)
        scores = np.where(np.tril(np.ones((T, T), bool)), scores, -np.inf)
        share = np.exp(scores - scores.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        x = x + np.einsum("nts,snh,nhd->td", share, v, layer["o_NHD"])
        y = norm(x, layer["mlp_norm_D"])
        gate, up = y @ layer["gate_DF"], y @ layer["up_DF"]
        x = x + (gate / (1 + np.exp(-gate)) * up) @ layer["down_FD"]
    logits = (norm(x, w["norm_D"]) @ w["unembed_DV"])[:, : CFG.vocab_size]
    peak = logits.max(-1, keepdims=True)
    return logits - peak - np.log(np.exp(logits - peak).sum(-1, keepdims=True))


def one_by_one(pairs, length):
    """Nats and whether it is greedy, of each pair by itself."""
    wanted = []
    for context, continuation in pairs:
        ids = [*(context or [1]), *continuation][-(length + 1) :]
        logs = reference(ids[:-1])[-len(continuation) :]
        nats = -logs[np.arange(len(continuation)), continuation].sum()
        wanted.append((nats, bool((logs.argmax(-1) == continuation).all())))
    return wanted


def make_pairs():
    """200 pairs: questions with choices of one token and of more, long ones, empty contexts."""
    rng = np.random.default_rng(0)

    def draw(count):
        return rng.integers(2, 97, count).tolist()

    pairs = []
    for size in [0, 1, 5, 9, 12, 20, 24, 30, 33, 50] * 4:
        context, start = draw(size), draw(2)
        pairs += [(context, draw(1)), (context, draw(1)), (context, [*start, 7])]
        pairs += [(context, [*start, 8]), (context, draw(int(rng.integers(1, 7))))]
    for n in range(0, 200, 8):  # what the model itself would say
        context = pairs[n][0]
        pairs[n] = context, [int(reference([*(context or [1])][-32:])[-1].argmax())]
    return pairs


@pytest.fixture(scope="module")
def pairs():
    return make_pairs()


@pytest.fixture(scope="module")
def wanted(pairs):
    return one_by_one(pairs, 32)


# ---------------------------------------------------------------------------- scores
@pytest.mark.parametrize(
    ("batch_size", "blocks", "axes"),
    [
        (1, 1, {}),
        (16, 2, {}),
        (3, 1, {"data": 2}),
        (5, 4, {"fsdp": 2, "tensor": 2}),
        (8, 1, {"data": 2, "fsdp": 4}),
    ],
)
def test_scores_are_those_of_a_float64_forward_of_each_pair(
    pairs, wanted, batch_size, blocks, axes
):
    got = dict(likelihood.continuations(model(blocks=blocks, **axes), pairs, batch_size))
    assert sorted(got) == [*range(200)]
    np.testing.assert_allclose(
        [got[n].nats for n in range(200)], [nats for nats, _ in wanted], rtol=0, atol=1e-4
    )
    assert [got[n].greedy for n in range(200)] == [greedy for _, greedy in wanted]
    assert [got[n].tokens for n in range(200)] == [len(ids) for _, ids in pairs]
    assert 20 < sum(greedy for _, greedy in wanted) < 150


def test_rows_of_half_the_length_give_the_same_scores(pairs):
    few = [(context, ids) for context, ids in pairs if len(context) > 20][:8]
    want = one_by_one(few, 256)
    machine = model(length=256)
    sizes = [reading.size for reading in likelihood.shared(few, 256, 1)]
    assert likelihood.lay_out(sizes, machine, 4).length == 128
    got = dict(likelihood.continuations(machine, few, 4))
    np.testing.assert_allclose([got[n].nats for n in range(8)], [w for w, _ in want], atol=1e-4)


def test_no_pairs_have_no_scores():
    assert [*likelihood.continuations(model(), [], 4)] == []


def test_scores_come_batch_by_batch_and_say_how_many_are_done():
    told = []
    machine = model(tick=lambda done, whole: told.append((done, whole)))
    pairs = [([5] * 30, [n]) for n in (3, 4)] + [([n] * 30, [5]) for n in range(10, 14)]
    results = likelihood.continuations(machine, pairs, 1)
    assert told == []
    next(results)
    assert told == [(0, 6), (0, 6)]  # the second batch is under way when the first is read
    assert len([*results]) == 5
    assert len(told) == 5
    assert told[-1][0] in (3, 4)


@pytest.mark.parametrize(
    ("continuation", "message"),
    [
        ([], r"continuation 1 has 0 tokens; want 1 to 32"),
        ([5] * 33, r"continuation 1 has 33 tokens; want 1 to 32, the length of a row: score with"),
    ],
)
def test_a_continuation_that_cannot_be_scored_is_refused_at_once(continuation, message):
    with pytest.raises(DataError, match=message):
        likelihood.continuations(model(), [([5], [6]), ([5], continuation)], 4)


def test_a_continuation_as_long_as_a_row_is_scored():
    ids = [*range(10, 42)]
    ((_, got),) = likelihood.continuations(model(), [([], ids)], 1)
    ((want, _),) = one_by_one([([], ids)], 32)
    assert got.nats == pytest.approx(want, abs=1e-4)


# ---------------------------------------------------------------------------- readings
def readings_of(pairs, length=8):
    return [
        (reading.tokens.tolist(), sorted((i.index, i.first, *i.targets) for i in reading.items))
        for reading in likelihood.shared(pairs, length, bos_id=1)
    ]


def test_choices_of_one_token_read_their_context_once():
    assert readings_of([([5, 6], [7]), ([5, 6], [8]), ([5, 6], [9])]) == [
        ([5, 6], [(0, 1, 7), (1, 1, 8), (2, 1, 9)])
    ]


def test_an_input_that_begins_another_is_read_with_it():
    got = readings_of([([5, 6], [7]), ([5, 6], [7, 8, 9]), ([5], [6, 7, 8]), ([6], [7])])
    assert got == [
        ([6], [(3, 0, 7)]),
        ([5, 6, 7, 8], [(0, 1, 7), (1, 1, 7, 8, 9), (2, 0, 6, 7, 8)]),
    ]


def test_ids_beyond_a_byte_sort_as_numbers():
    """256 is 0x0100: as little-endian bytes it would begin like 1."""
    assert len(readings_of([([1], [256, 2]), ([1, 256], [3, 4]), ([1], [2, 3])])) == 2


def test_a_long_context_is_cut_on_the_left():
    assert readings_of([([1, 2, 3, 4, 5], [6, 7])], length=4) == [([3, 4, 5, 6], [(0, 2, 6, 7)])]


def test_a_reading_scores_no_more_tokens_than_a_row_has():
    many = [([5], [n]) for n in range(10, 21)]
    assert [len(items) for _, items in readings_of(many, length=8)] == [8, 3]


# ---------------------------------------------------------------------------- rows
def test_little_text_is_computed_with_little_padding():
    machine = model(length=512)
    layout = likelihood.lay_out([33] * 100, machine, 16)
    assert (layout.length, layout.rows) == (256, 15)
    assert layout.computed == 3840  # for 3,300 tokens; 16 rows of 512 would be 8,192
    assert sorted(n for row in layout.bins for n in row) == [*range(100)]
    short = likelihood.lay_out([10, 20], machine, 16)
    assert (short.length, short.rows, short.bins) == (128, 1, [[1, 0]])


def test_rows_are_short_on_a_cpu_where_that_costs_no_padding():
    layout = likelihood.lay_out([64] * 104, model(length=512), 16)
    assert (layout.length, layout.rows, layout.computed) == (128, 52, 104 * 64)


def test_batches_are_as_large_as_was_asked_and_even():
    layout = likelihood.lay_out([300] * 17, model(length=512), 16)
    assert (layout.length, layout.rows) == (512, 9)  # two batches, not 16 rows and 1 of 16
    layout = likelihood.lay_out([500] * 100, model(length=512), 16)
    assert (layout.length, layout.rows) == (512, 15)  # seven batches


def test_rows_are_split_evenly_over_the_mesh():
    layout = likelihood.lay_out([500] * 9, model(length=512, data=2, fsdp=2), 5)
    assert (layout.rows, layout.computed) == (8, 8192)


def test_rows_are_not_shorter_than_the_longest_reading():
    assert likelihood.lay_out([129, 5], model(length=512), 4).length == 256


def test_rows_of_a_model_that_turns_long_ones_otherwise_stay_on_their_side():
    scaling = rope.LongRope(
        short=(1.0,) * 4, long=(2.0,) * 4, magnitude=1.0, original_length=200
    )  # fmt: skip
    machine = model(length=512)
    odd = dataclasses.replace(machine, cfg=dataclasses.replace(CFG, rope_scaling=scaling))
    assert likelihood.lay_out([20], odd, 1).length == 256
    assert likelihood.lay_out([20], machine, 1).length == 128


def test_the_scored_tokens_of_a_row_are_padded_to_few_sizes():
    layout = likelihood.Layout(512, 4, [])
    assert [layout.scored(n) for n in (1, 64, 65, 200, 257, 512)] == [64, 64, 128, 256, 512, 512]


def test_an_item_counts_what_it_takes_in_a_row():
    items = [Item(0, 1, np.arange(3)), Item(1, 1, np.arange(2))]
    assert Reading(np.arange(4), items).size == 5
    assert Reading(np.arange(9), items).size == 9
