"""Packing: every token once, nothing else, the same bytes every time, and whole or not there."""

import dataclasses
import hashlib
from pathlib import Path
import subprocess
import sys

from hand_tokenizer import NEWLINE, make
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from lrl_jax import recipe_data
from lrl_jax.data import pack, rows, templates
from lrl_jax.data.stream import Files

ROOT = Path(__file__).parents[1]
ID_0 = ("\u2581d",)  # a tokenizer whose id 0 is a piece of text, as "!" is in Llama 3


def data_of(*paths: Path, **changes) -> recipe_data.Data:
    text = {"kind": "text", "path": [str(path) for path in paths], "language": "kor_Hang"}
    settings = {"sequence_length": 8, "datasets": {"d": text}, "pack_window": 64, "workers": 1}
    return recipe_data.Data(**settings | changes)


@pytest.fixture
def text(tmp_path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("a b\nc\n\nb b a c a b c a c b\n")
    return path


def read(folder: Path) -> list[rows.Row]:
    manifest = rows.read_manifest(folder)
    return Files(folder, manifest).read(np.arange(manifest.rows))


def pieces(found: list[rows.Row]) -> list[list[tuple[int, bool]]]:
    return sorted(
        list(zip(part.tolist(), mask.tolist(), strict=True))
        for row in found
        for part, mask in zip(
            np.split(row.tokens, np.cumsum(row.lengths)[:-1]),
            np.split(row.trained, np.cumsum(row.lengths)[:-1]),
            strict=True,
        )
    )


# ---------------------------------------------------------------------------- best fit
@given(st.lists(st.integers(1, 40), max_size=200))
@settings(max_examples=80, deadline=None)
def test_bins_partition_the_items_and_none_overflows(lengths):
    bins = pack.best_fit(lengths, 40)
    assert sorted(item for one in bins for item in one) == list(range(len(lengths)))
    assert all(sum(lengths[item] for item in one) <= 40 for one in bins)


def test_rows_are_full_on_realistic_lengths():
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(5.5, 1.0, 8192).astype(int), 4, 2048)  # median 245 tokens
    bins = pack.best_fit(lengths.tolist(), 2048)
    assert lengths.sum() / (len(bins) * 2048) >= 0.99


# ---------------------------------------------------------------------------- datasets
def test_a_packed_dataset_holds_every_token_of_its_text(text, tmp_path):
    got = pack.prepare(data_of(text), "d", make(), tmp_path / "out")
    a, b, c, eos = 263, 264, 265, 2
    documents = [[a, b, eos], [c, eos], [b, b, a, c, a, b, c, a], [c, b, eos]]  # the third is split
    want = sorted([(token, True) for token in document] for document in documents)
    assert pieces(read(tmp_path / "out/d")) == want
    counts = (got.docs, got.skipped, got.bytes, got.tokens, got.loss_tokens, got.rows)
    assert counts == (3, 0, len("a b") + len("c") + len("b b a c a b c a c b"), 16, 16, 2)
    assert got.fill == 16 / (2 * 8)
    assert (got.language, got.template, got.bos_id, got.pad_id) == ("kor_Hang", "plain", 1, 2)


def test_pairs_are_packed_both_ways_with_the_prompt_masked(tmp_path, monkeypatch):
    def ask(record):
        return [
            templates.Part(record["source"] + "\n", False),
            templates.Part(record["target"], True),
        ]

    monkeypatch.setitem(templates.TEMPLATES, "ask", ask)
    (tmp_path / "s").write_text("a\nb\n")
    (tmp_path / "t").write_text("c\n\n")
    pair = {
        "kind": "parallel",
        "source": str(tmp_path / "s"),
        "target": str(tmp_path / "t"),
        "source_language": "eng_Latn",
        "target_language": "kor_Hang",
        "direction": "both",
        "template": "ask",
    }
    got = pack.prepare(data_of(datasets={"d": pair}), "d", make(), tmp_path / "out")
    forward = [(263, False), (NEWLINE, False), (265, True), (2, True)]
    backward = [(265, False), (NEWLINE, False), (263, True), (2, True)]
    assert pieces(read(tmp_path / "out/d")) == sorted([forward, backward])
    assert (got.docs, got.skipped, got.bytes, got.tokens, got.loss_tokens) == (2, 2, 2, 8, 4)
    assert got.language == "eng_Latn-kor_Hang"


def test_packing_again_gives_the_same_bytes_on_any_number_of_workers(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text("a b c\nb\n" * (i + 3))
    files = [tmp_path / f"{i}.txt" for i in range(3)]
    tokenizer = make()
    first = pack.prepare(data_of(*files), "d", tokenizer, tmp_path / "one")
    second = pack.prepare_all(data_of(*files, workers=2), tokenizer, tmp_path / "two")["d"]
    assert first == second
    for shard in first.shards:
        one, two = (tmp_path / out / "d" / shard.file for out in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        assert hashlib.sha256(one.read_bytes()).hexdigest() == shard.sha256


def test_small_files_share_a_shard_and_large_ones_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr("lrl_jax.data.records.SHARD_BYTES", 10)
    for name, size in (("a", 4), ("b", 4), ("c", 4), ("d", 50), ("e", 1)):
        (tmp_path / name).write_text("x" * size)
    dataset = data_of(tmp_path / "*").datasets["d"]
    got = [[Path(uri).name for uri in shard] for shard in pack.records.shards(dataset)]
    assert got == [["a", "b"], ["c"], ["d"], ["e"]]


def test_an_unchanged_dataset_is_used_again_and_moved_text_is_unchanged(text, tmp_path):
    before = pack.prepare(data_of(text), "d", make(), tmp_path / "out")
    stamp = (tmp_path / "out/d" / before.shards[0].file).stat().st_mtime_ns
    moved = text.rename(tmp_path / "moved.txt")
    assert pack.prepare(data_of(moved), "d", make(), tmp_path / "out") == before
    assert (tmp_path / "out/d" / before.shards[0].file).stat().st_mtime_ns == stamp


def test_every_input_moves_the_fingerprint(text, tmp_path, monkeypatch):
    def mark(data: recipe_data.Data, tokenizer=None) -> str:
        return pack.fingerprint(data, "d", tokenizer or make())

    other = tmp_path / "other.txt"
    other.write_text("a b\n")
    base = mark(data_of(text))
    assert mark(data_of(text, workers=9)) == base
    changed = [
        mark(data_of(other)),
        mark(data_of(text, sequence_length=9)),
        mark(data_of(text, pack_window=65)),
        mark(data_of(text), make(ID_0)),
    ]
    monkeypatch.setitem(
        templates.TEMPLATES, "plain", lambda record: [templates.Part(record["text"] + " ", True)]
    )
    changed.append(mark(data_of(text)))
    assert len({base, *changed}) == 6


@pytest.mark.parametrize("damage", ["cut", "flip", "remove", "manifest"])
def test_a_damaged_dataset_is_packed_again(text, tmp_path, damage):
    out = tmp_path / "out"
    before = pack.prepare(data_of(text), "d", make(), out)
    path = out / "d" / before.shards[0].file
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:100])
    elif damage == "flip":
        path.write_bytes(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
    elif damage == "remove":
        path.unlink()
    else:
        (out / "d" / rows.MANIFEST).write_text("{}")
    assert pack.prepare(data_of(text), "d", make(), out) == before
    assert path.read_bytes() == whole


def test_a_failed_packing_leaves_nothing_that_looks_whole(text, tmp_path):
    pack.prepare(data_of(text), "d", make(), tmp_path / "out")
    text.write_bytes(b"a b\n\xff\n")
    with pytest.raises(ValueError, match=r"text\.txt:2: not UTF-8"):
        pack.prepare(data_of(text), "d", make(), tmp_path / "out")
    with pytest.raises(ValueError, match=r"no such file; run `lrl data`"):
        rows.read_manifest(tmp_path / "out/d")


def test_what_is_packed_stays_packed_when_another_dataset_fails(text, tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"a\n\xff\n")
    good = data_of(text).datasets["d"]
    data = data_of(datasets={"good": good, "bad": good.model_copy(update={"path": (str(bad),)})})
    with pytest.raises(ValueError, match=r"bad\.txt:2: not UTF-8"):
        pack.prepare_all(data, make(), tmp_path / "out")
    assert rows.read_manifest(tmp_path / "out/good").docs == 3
    assert not (tmp_path / "out/bad" / rows.MANIFEST).exists()


def test_an_empty_dataset_is_an_error(tmp_path):
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(ValueError, match="dataset 'd' has no document"):
        pack.prepare(data_of(tmp_path / "blank.txt"), "d", make(), tmp_path / "out")


def test_a_template_that_trains_nothing_is_an_error(text, tmp_path, monkeypatch):
    monkeypatch.setitem(
        templates.TEMPLATES, "plain", lambda record: [templates.Part(record["text"], False)]
    )
    with pytest.raises(ValueError, match="template 'plain' trains on none of its text"):
        pack.prepare(data_of(text), "d", make(), tmp_path / "out")


def test_a_template_that_does_not_fit_the_records_is_an_error(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    path = [str(tmp_path / "a.jsonl")]
    bad = {"kind": "instructions", "path": path, "language": "kor_Hang", "template": "pair"}
    with pytest.raises(ValueError, match="template 'pair' needs the field 'source'"):
        pack.prepare(data_of(datasets={"d": bad}), "d", make(), tmp_path / "out")


def test_id_0_is_a_token_like_any_other(tmp_path):
    (tmp_path / "t.txt").write_text("d d a\n")
    tokenizer = make(ID_0)
    pack.prepare(data_of(tmp_path / "t.txt"), "d", tokenizer, tmp_path / "out")
    want = [(0, True), (0, True), (264, True), (tokenizer.eos_id, True)]
    assert pieces(read(tmp_path / "out/d")) == [want]


def test_packing_in_processes_keeps_tensorflow_out_of_this_one(text, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from hand_tokenizer import make
from lrl_jax import recipe_data
from lrl_jax.data import pack
if __name__ == "__main__":
    text = dict(kind="text", path=[{str(text)!r}], language="kor_Hang")
    data = recipe_data.Data(sequence_length=8, datasets=dict(d=text), workers=1)
    done = []
    pack.prepare_all(data, make(), {str(tmp_path / "out")!r}, lambda *shard: done.append(shard))
    print(done, sorted({{"tensorflow", "seqio", "jax"}} & set(sys.modules)))
""")
    got = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert got.stdout == "[('d', 1, 1)] []\n"
    assert got.stderr == ""


def test_a_manifest_of_another_shape_is_refused(text, tmp_path):
    got = pack.prepare(data_of(text), "d", make(), tmp_path / "out")
    assert rows.read_manifest(tmp_path / "out/d") == got
    path = tmp_path / "out/d" / rows.MANIFEST
    path.write_text(path.read_text().replace('"docs"', '"dogs"'))
    with pytest.raises(ValueError, match=r"not a manifest of this version .*dogs"):
        rows.read_manifest(tmp_path / "out/d")
    assert dataclasses.replace(got, docs=0) != got
