"""Packing a shard: every token once, in rows that hold it, and what is cut is counted."""

import dataclasses
import errno
import itertools
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader
from hand_tokenizer import make
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tiny_llama

from lrl_jax.data import dataset as datasets
from lrl_jax.data.pack import bins, rows
from lrl_jax.data.pack import packing as pack
from lrl_jax.data.pack.packing import Piece
from lrl_jax.data.templates import table as templates
from lrl_jax.model import llama
from lrl_jax.recipe import data as recipe_data
from lrl_jax.train import loss

ID_0 = ("\u2581d",)  # a tokenizer whose id 0 is a piece of text, as "!" is in Llama 3
A, B, C, EOS = 263, 264, 265, 2
PACKINGS = ("best_fit", "concatenate", "none")


def data_of(path: Path | str = "", dataset: dict | None = None, **changes) -> recipe_data.Data:
    """One dataset `d`, of `path` unless given, in rows of 8."""
    one = {"kind": "text", "path": [str(path)], "language": "kor_Hang"} | (dataset or {})
    values = {"sequence_length": 8, "datasets": {"d": one}, "pack_window": 64, "workers": 1}
    return recipe_data.Data(**values | changes)


def packed(data: recipe_data.Data, folder: Path, tokenizer=None) -> pack.Packed:
    (shard,) = datasets.shards(data.datasets["d"])
    job = pack.ShardJob(data, "d", shard, 0, 1, str(folder), "")
    return pack.pack_shard(job, tokenizer or make())


def read(done: pack.Packed, folder: Path) -> list[rows.PackedRow]:
    assert done.shard is not None
    reader = ArrayRecordReader(str(folder / done.shard.file))
    return [rows.decode(row) for row in reader.read_all()]


def segments(row: rows.PackedRow) -> list[list[tuple[int, bool]]]:
    """The documents of a row as (token, whether it is learnt)."""
    cuts = np.cumsum(row.lengths)[:-1]
    parts = zip(np.split(row.tokens, cuts), np.split(row.weights > 0, cuts), strict=True)
    return [list(zip(part.tolist(), mask.tolist(), strict=True)) for part, mask in parts]


def tokens(found: list[rows.PackedRow]) -> list[list[list[int]]]:
    return [[[token for token, _ in one] for one in segments(row)] for row in found]


@pytest.fixture
def text(tmp_path) -> Path:
    """Documents of 3, 2 and 11 tokens, eos and all."""
    path = tmp_path / "text.txt"
    path.write_text("a b\nc\n\nb b a c a b c a c b\n")
    return path


# ---------------------------------------------------------------------------- bins
@given(
    lengths=st.lists(st.integers(1, 40), max_size=200),
    fit=st.sampled_from([bins.best_fit, bins.exact_fit, bins.fill]),
)
@settings(max_examples=100, deadline=None)
def test_bins_partition_the_items_and_none_overflows(lengths, fit):
    found = fit(lengths, 40)
    assert sorted(item for one in found for item in one) == list(range(len(lengths)))
    assert all(sum(lengths[item] for item in one) <= 40 for one in found)


@given(st.lists(st.integers(1, 40), max_size=200), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_what_waits_and_what_does_not_are_all_the_items(lengths, most):
    found, waiting = bins.settle(lengths, 40, most)
    items = [item for one in found for item in one]
    assert sorted(items + waiting) == list(range(len(lengths)))
    assert len(waiting) <= most


def test_a_pair_that_fits_exactly_ends_a_bin_where_one_item_would_leave_room():
    lengths = [5, 5, 3, 2, 4]  # best fit would put 4 or 3 beside the first 5, and leave room
    assert bins.exact_fit(lengths, 10) == [[0, 1], [4, 2, 3]]


@pytest.mark.parametrize(
    ("median", "spread"), [(245, 1.0), (92, 0.4), (77, 0.25)], ids=["web", "tasks", "short tasks"]
)
def test_a_dataset_of_instructions_or_text_fills_rows_of_2048(median, spread):
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(median), spread, 12_000).astype(int), 45, 2048)
    data = data_of(sequence_length=2048, pack_window=8192)
    pieces = [Piece(np.zeros(n, np.int32), np.ones(n, np.float32), int(n)) for n in lengths]
    count = sum(1 for _ in pack.arrange(pieces, data, "shuffled"))
    assert lengths.sum() / (count * 2048) >= 0.995


# ---------------------------------------------------------------------------- rows of pieces
documents_of_any_length = st.lists(st.integers(1, 30), max_size=60)


def numbered(lengths: list[int]) -> list[Piece]:
    """Documents whose tokens are all different numbers, in order."""
    ends = np.cumsum([0, *lengths])
    return [
        Piece(np.arange(a, b, dtype=np.int32), np.ones(b - a, np.float32), int(b - a))
        for a, b in itertools.pairwise(ends)
    ]


@given(
    lengths=documents_of_any_length,
    packing=st.sampled_from(PACKINGS),
    order=st.sampled_from(["shuffled", "file"]),
    window=st.integers(1, 20),
)
@settings(max_examples=150, deadline=None)
def test_rows_partition_the_tokens_and_none_is_longer_than_it_may(lengths, packing, order, window):
    data = data_of(sequence_length=30, packing=packing, pack_window=window)
    found = list(pack.arrange(numbered(lengths), data, order))
    got = [piece.tokens.tolist() for row in found for piece in row]
    assert sorted(token for piece in got for token in piece) == list(range(sum(lengths)))
    assert all(0 < sum(len(piece.tokens) for piece in row) <= 30 for row in found)
    if order == "file" or packing != "best_fit":
        assert [token for piece in got for token in piece] == list(range(sum(lengths)))
    if packing != "concatenate":
        assert sorted(map(len, got)) == sorted(lengths)  # no document is cut
    if packing == "concatenate":
        assert all(sum(len(piece.tokens) for piece in row) == 30 for row in found[:-1])


@given(
    lengths=documents_of_any_length,
    packing=st.sampled_from(PACKINGS),
    long=st.sampled_from(["split", "truncate", "drop"]),
)
@settings(max_examples=150, deadline=None)
def test_every_token_is_in_a_row_or_counted_as_cut(lengths, packing, long):
    tokenizer = make()
    data = data_of(sequence_length=12, packing=packing, long_documents=long)
    cutter = pack.Cutter(tokenizer, data, lambda docs: None)
    # n pieces and eos, or a byte less
    examples = [[templates.TextPart(" ".join("a" * (n - 1)), 1)] for n in lengths]
    want = [max(n - 1, 0) + 1 for n in lengths]
    found = list(pack.arrange(cutter.pieces(examples), data, "shuffled"))
    kept = sum(len(piece.tokens) for row in found for piece in row)
    count = cutter.count
    assert kept == count.tokens == count.loss_tokens
    assert count.tokens + count.cut == sum(want)
    assert count.docs + count.left_out[pack.TOO_LONG] == len(lengths)
    if long == "split":
        assert count.cut == 0
    if long == "drop":
        assert count.cut == sum(n for n in want if n > 12)
        assert cutter.dropped == [i for i, n in enumerate(want) if n > 12]
    if long == "truncate":
        assert count.cut == sum(max(n - 12, 0) for n in want)


# ---------------------------------------------------------------------------- a shard by hand
def test_a_packed_shard_holds_every_token_of_its_text(text, tmp_path):
    done = packed(data_of(text), tmp_path)
    found = sorted(one for row in tokens(read(done, tmp_path)) for one in row)
    long = [B, B, A, C, A, B, C, A]  # it is split where the row ends
    assert found == sorted([[A, B, EOS], [C, EOS], long, [C, B, EOS]])
    count = done.count
    assert (count.records, count.docs, count.tokens, count.loss_tokens) == (3, 3, 16, 16)
    assert count.bytes == len("a b") + len("c") + len("b b a c a b c a c b")
    assert (count.cut, dict(count.left_out), dict(count.scripts)) == (0, {}, {"Latn": 13})
    assert len(done.digests) == 3


LONG = {
    ("best_fit", "split"): ([[[B, B, A, C, A, B, C, A]], [[A, B, EOS], [C, B, EOS], [C, EOS]]], 0),
    ("best_fit", "truncate"): ([[[B, B, A, C, A, B, C, A]], [[A, B, EOS], [C, EOS]]], 3),
    ("best_fit", "drop"): ([[[A, B, EOS], [C, EOS]]], 11),
    ("concatenate", "split"): (
        [[[A, B, EOS], [C, EOS], [B, B, A]], [[C, A, B, C, A, C, B, EOS]]],
        0,
    ),
    ("concatenate", "truncate"): (
        [[[A, B, EOS], [C, EOS], [B, B, A]], [[C, A, B, C, A]]],
        3,
    ),
    ("concatenate", "drop"): ([[[A, B, EOS], [C, EOS]]], 11),
    ("none", "split"): (
        [[[A, B, EOS]], [[C, EOS]], [[B, B, A, C, A, B, C, A]], [[C, B, EOS]]],
        0,
    ),
    ("none", "truncate"): ([[[A, B, EOS]], [[C, EOS]], [[B, B, A, C, A, B, C, A]]], 3),
    ("none", "drop"): ([[[A, B, EOS]], [[C, EOS]]], 11),
}


@pytest.mark.parametrize(("packing", "long"), LONG)
def test_long_documents_by_hand(text, tmp_path, packing, long):
    done = packed(data_of(text, packing=packing, long_documents=long), tmp_path)
    want, cut = LONG[packing, long]
    assert tokens(read(done, tmp_path)) == want
    assert done.count.cut == cut
    assert done.count.tokens == 16 - cut


def test_a_truncated_document_keeps_its_share_of_bytes(tmp_path):
    (tmp_path / "t").write_text("a a a a a a a a a\n")  # 9 pieces in 17 bytes, and eos
    done = packed(data_of(tmp_path / "t", sequence_length=5, long_documents="truncate"), tmp_path)
    assert (done.count.loss_tokens, done.count.cut) == (5, 5)
    assert done.count.bytes == round(17 * 5 / 10)


def test_a_dropped_document_is_counted_shown_and_not_distinct(text, tmp_path):
    done = packed(data_of(text, long_documents="drop"), tmp_path)
    assert dict(done.count.left_out) == {"longer than a row": 1}
    assert done.samples == {"longer than a row": ["b b a c a b c a c b"]}
    assert (done.count.records, done.count.docs, len(done.digests)) == (3, 2, 2)
    assert done.count.bytes == len("a b") + len("c")


ASKED = (  # three documents: of 4 tokens, of 13 whose answer lies beyond a row of 8, and of 12
    '{"prompt": "a a", "completion": "b"}\n'
    '{"prompt": "a a a a a a a a a a a", "completion": "b"}\n'
    '{"prompt": "a a a a a a", "completion": "b b b b b"}\n'
)
CUT = ([[(4, 2)], [(8, 2)]], {pack.BEYOND: 1}, 17, 2)
LEFT_OUT = ([[(4, 2)]], {pack.TOO_LONG: 2}, 25, 2)
WITHOUT_PROMPT = ([[(4, 2)], [(5, 2)], [(8, 2)], [(4, 4)]], {}, 8, 2)
# packing, long documents, long answers: rows of (tokens, how many are learnt), left out, tokens
# cut, answers beyond the row
UNLEARNT: dict[tuple[str, str, str], tuple[list, dict, int, int]] = {
    ("best_fit", "split", "truncate"): CUT,
    ("best_fit", "split", "drop"): LEFT_OUT,
    ("best_fit", "split", "split"): WITHOUT_PROMPT,
    ("best_fit", "truncate", "truncate"): CUT,
    ("best_fit", "drop", "truncate"): LEFT_OUT,
    ("none", "split", "truncate"): CUT,
    ("none", "split", "split"): WITHOUT_PROMPT,
    ("concatenate", "split", "truncate"): (
        [[(4, 2), (4, 0)], [(8, 1)], [(1, 1), (7, 1)], [(5, 5)]],
        {},
        0,
        2,
    ),
}


@pytest.mark.parametrize(("packing", "long", "answers"), UNLEARNT)
def test_a_long_answer_is_never_without_its_prompt_unless_that_is_asked_for(
    tmp_path, packing, long, answers
):
    (tmp_path / "a.jsonl").write_text(ASKED)
    one = {"kind": "completion", "path": [str(tmp_path / "a.jsonl")], "order": "file"}
    data = data_of("", one, packing=packing, long_documents=long, long_answers=answers)
    done = packed(data, tmp_path)
    got = [[(len(d), sum(t for _, t in d)) for d in segments(row)] for row in read(done, tmp_path)]
    want, left_out, cut, beyond = UNLEARNT[packing, long, answers]
    assert sorted(got) == sorted(want)
    count = done.count
    assert (dict(count.left_out), count.cut, count.beyond) == (left_out, cut, beyond)
    assert count.records == count.docs + sum(left_out.values()) == 3
    assert count.tokens == sum(n for row in got for n, _ in row)
    assert count.loss_tokens == sum(n for row in got for _, n in row)
    assert len(done.digests) == count.docs


def test_what_becomes_of_long_answers_is_said_once(text):
    with pytest.raises(ValueError, match="long_answers: drop goes with long_documents: split"):
        data_of(text, long_documents="truncate", long_answers="drop")
    assert "long_answers" not in data_of(text).model_dump_json()  # digests of older runs hold
    assert '"long_answers":"drop"' in data_of(text, long_answers="drop").model_dump_json()


def test_a_row_of_a_stream_without_a_token_to_learn_is_left_out_and_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text(f'{{"prompt": "{" ".join("a" * 20)}", "completion": "b"}}\n')
    one = {"kind": "completion", "path": [str(tmp_path / "a.jsonl")]}
    done = packed(data_of("", one, packing="concatenate"), tmp_path)
    assert tokens(read(done, tmp_path)) == [[[A] * 4 + [B, EOS]]]
    assert (done.count.tokens, done.count.cut, done.count.docs) == (6, 16, 1)


def test_text_alone_has_no_answers_beyond_the_row(text, tmp_path):
    assert packed(data_of(text), tmp_path).count.beyond == 0


def test_a_document_of_nothing_to_learn_is_left_out(tmp_path):
    one = {"kind": "chat", "path": [str(tmp_path / "c.jsonl")], "template": "guanaco"}
    (tmp_path / "c.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "a"}, '
        '{"role": "assistant", "content": "b", "weight": 0}]}\n'
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    )
    done = packed(data_of("", one, sequence_length=99), tmp_path)
    assert (done.count.docs, dict(done.count.left_out)) == (1, {"nothing to learn": 1})


def test_shorter_documents_are_in_earlier_windows_and_longer_ones_give_the_key(tmp_path):
    (tmp_path / "t").write_text("a b c\nb\na b\nc\na b c a b c a b c\n")  # 4 2 3 2 10 tokens
    data = data_of(tmp_path / "t", {"order": "length"})
    done = packed(data, tmp_path)
    got = tokens(read(done, tmp_path))
    ten = [A, B, C, A, B, C, A, B], [C, EOS]  # split where the row ends
    assert got == [[ten[0]], [[A, B, C, EOS], [A, B, EOS]], [[B, EOS], [C, EOS], ten[1]]]
    assert done.keys.tolist() == [10, 4, 10]
    in_two = packed(data.model_copy(update={"pack_window": 2}), tmp_path)
    got = tokens(read(in_two, tmp_path))
    assert got[:2] == [[[B, EOS], [C, EOS]], [[A, B, C, EOS], [A, B, EOS]]]
    assert in_two.keys.tolist() == [2, 4, 10, 10]


def test_documents_in_file_order_stay_whole_and_in_order(tmp_path):
    (tmp_path / "t").write_text("a b c\na b c a b\na\n")  # best fit would put the third to the 1st
    done = packed(data_of(tmp_path / "t", {"order": "file"}), tmp_path)
    got = tokens(read(done, tmp_path))
    assert got == [[[A, B, C, EOS]], [[A, B, C, A, B, EOS], [A, EOS]]]
    assert done.keys.tolist() == []


def test_prompts_are_not_learnt_and_records_without_an_answer_left_out(tmp_path):
    (tmp_path / "s").write_text("a\nb\n")
    (tmp_path / "t").write_text("c\n\n")
    pair = {
        "kind": "parallel",
        "source": str(tmp_path / "s"),
        "target": str(tmp_path / "t"),
        "source_language": "eng_Latn",
        "target_language": "kor_Hang",
        "direction": "both",
        "template": "translation",
    }
    done = packed(recipe_data.Data(sequence_length=999, datasets={"d": pair}), tmp_path)
    (row,) = read(done, tmp_path)
    learnt = [[token for token, trained in one if trained] for one in segments(row)]
    assert sorted(learnt) == [[A, EOS], [C, EOS]]
    assert (done.count.docs, done.count.loss_tokens, done.count.bytes) == (2, 4, 2)
    assert done.count.records - done.count.docs == done.count.left_out["empty"] > 0


def test_id_0_is_a_token_like_any_other(tmp_path):
    (tmp_path / "t.txt").write_text("d d a\n")
    tokenizer = make(ID_0)
    done = packed(data_of(tmp_path / "t.txt"), tmp_path, tokenizer)
    (row,) = read(done, tmp_path)
    assert segments(row) == [[(0, True), (0, True), (A + 1, True), (tokenizer.eos_id, True)]]


# ---------------------------------------------------------------------------- what a model sees
def test_the_loss_of_packed_documents_is_that_of_documents_alone(tmp_path):
    (tmp_path / "t").write_text("a b c a\nb b a c c b a\nc a\n")
    tokenizer = make()
    cfg = dataclasses.replace(tiny_llama.CFG, vocab_size=tokenizer.size)
    model = llama.bind(cfg, tiny_llama.params(cfg))
    losses, shapes = [], []
    for packing in PACKINGS:
        data = data_of(tmp_path / "t", sequence_length=16, packing=packing)
        found = read(packed(data, tmp_path), tmp_path)
        batch = rows.features(found, 16, tokenizer.bos_id, pad_id=0)
        names = ("input_tokens", "segment_ids", "positions")
        hidden_BTD = model.hidden(*(batch[f"decoder_{name}"] for name in names))
        nll_BT, _ = loss.token_loss(
            hidden_BTD, model.unembedding(), batch["decoder_target_tokens"], cfg.vocab_size
        )
        weighed_BT = loss.weigh(nll_BT, batch["decoder_loss_weights"])
        losses.append(float(np.sum(np.asarray(weighed_BT), dtype=np.float64)))
        shapes.append(nll_BT.shape)
    assert shapes == [(1, 16), (1, 16), (3, 16)]
    assert losses[0] == pytest.approx(losses[2], rel=1e-6)
    assert losses[1] == pytest.approx(losses[2], rel=1e-6)


# ---------------------------------------------------------------------------- failures
def test_a_shard_without_a_document_has_no_file(tmp_path):
    (tmp_path / "blank.txt").write_text("\n \n")
    done = packed(data_of(tmp_path / "blank.txt"), tmp_path)
    assert done.shard is None
    assert done.count.docs == 0
    assert [path.name for path in tmp_path.iterdir()] == ["blank.txt"]


def test_an_id_out_of_the_vocabulary_is_refused(text, tmp_path):
    small = dataclasses.replace(make(), size=B)
    with pytest.raises(ValueError, match="token 1 has id 264, but ids are 0 to 263"):
        packed(data_of(text), tmp_path, small)
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_a_full_disk_is_an_oserror_that_names_the_file():
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space left") as got:
        pack.write_rows(pack.epath.Path(full), (bytes([i % 256]) * 9999 for i in range(999)))
    assert (got.value.errno, got.value.filename) == (errno.ENOSPC, "/dev/full")


def test_a_bad_source_leaves_no_file_of_rows(tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"a\n" * 3000 + b"\xff\n")
    with pytest.raises(ValueError, match=r"bad\.txt:3001: not UTF-8"):
        packed(data_of(tmp_path / "bad.txt"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.txt"]


def test_datasets_that_were_never_prepared_have_no_folders(tmp_path):
    with pytest.raises(ValueError, match=r"datasets\.json: no such file; run `lrl data`"):
        pack.folders(tmp_path)
    (tmp_path / pack.DATASETS).write_text("[")
    with pytest.raises(ValueError, match=r"datasets\.json: is damaged"):
        pack.folders(tmp_path)
