"""Files are cut where a reader may begin, and every line is in one shard."""

import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
import pyarrow
from pyarrow import parquet
import pytest

from lrl_jax import text
from lrl_jax.data.read import files
from lrl_jax.data.read.files import Span


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def spans(found: list) -> list[tuple]:
    return [tuple((Path(uri).name, start, end) for uri, start, end in shard) for shard in found]


def test_small_files_share_a_shard(tmp_path):
    for name, size in (("a", 4), ("b", 4), ("c", 4), ("d", 50), ("e", 1)):
        write(tmp_path / name, "x" * size)  # d is one line, so it stays whole
    got = spans(files.shards([str(tmp_path / "*")], size=10))
    assert [[name for name, _, _ in shard] for shard in got] == [["a", "b"], ["c"], ["d"], ["e"]]


def test_a_large_file_is_cut_evenly_after_a_line(tmp_path):
    uri = write(tmp_path / "a.jsonl", "{}\n" * 10)  # 30 bytes: three parts of 10
    assert spans(files.shards([uri], size=12)) == [
        (("a.jsonl", 0, 12),),
        (("a.jsonl", 12, 21),),
        (("a.jsonl", 21, -1),),
    ]


@pytest.mark.parametrize("block", [4, 1 << 20])
def test_paragraphs_are_cut_at_blank_lines(tmp_path, monkeypatch, block):
    monkeypatch.setattr(text, "BLOCK", block)
    uri = write(tmp_path / "a", "one\ntwo\n \r\nthree\nfour\n\nfive\n")
    [first, *rest] = files.shards([uri], documents="paragraphs", size=8)
    assert [*text.numbered(*first[0])] == [(1, "one"), (2, "two"), (3, " ")]
    assert [span.start for (span,) in rest] == [11, 23]


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.tmx", "a.txt.gz"])
def test_what_has_to_be_read_from_its_beginning_is_whole(tmp_path, name):
    uri = write(tmp_path / name, "x\n" * 50)
    assert files.shards([uri], size=10) == [(Span(uri),)]


def test_files_that_are_documents_are_whole(tmp_path):
    uri = write(tmp_path / "a", "x\n" * 50)
    assert files.shards([uri], documents="files", size=10) == [(Span(uri),)]


def test_parquet_is_cut_at_row_groups(tmp_path):
    path = str(tmp_path / "a.parquet")
    parquet.write_table(pyarrow.table({"text": ["word"] * 10}), path, row_group_size=4)
    found = files.shards([path], size=1)
    assert [(span.start, span.end) for (span,) in found] == [(0, 1), (1, 2), (2, 3)]
    assert files.shards([path]) == [(Span(path, 0, 3),)]


def test_parquet_cut_short_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["word"] * 10}), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(text.DataError, match=r"a.parquet: is no whole Parquet file; is it cut sh"):
        files.shards([str(path)])


documents = st.lists(st.sampled_from(["", " ", "a", "bcd\r", "가나다라"]), min_size=1, max_size=40)


@given(documents, st.integers(1, 40), st.booleans())
def test_every_line_is_in_one_shard(tmp_path_factory, lines, size, ends):
    content = "\n".join(["x", *lines]) + "\n" * ends
    uri = write(tmp_path_factory.mktemp("t") / "a", content)
    for kind in ("lines", "paragraphs"):
        found = [span for shard in files.shards([uri], documents=kind, size=size) for span in shard]
        got = [line for span in found for _, line in text.numbered(*span)]
        assert got == [line for _, line in text.numbered(uri)]
        assert all(span.end == after.start for span, after in itertools.pairwise(found))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1), st.integers(1, 30))
def test_aligned_files_are_cut_at_the_same_line(tmp_path_factory, lengths, size):
    folder = tmp_path_factory.mktemp("t")
    lengths = [(40, 3), *lengths]
    both = [
        write(folder / name, "".join("x" * pair[i] + "\n" for pair in lengths))
        for i, name in enumerate("st")
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK", 16)  # bytes, so that there are many
        found = files.aligned(*both, size)
    pairs = [
        (len(one), len(other))
        for shard in found
        for source, target in zip(shard[::2], shard[1::2], strict=True)
        for (_, one), (_, other) in zip(text.numbered(*source), text.numbered(*target), strict=True)
    ]
    assert pairs == lengths


def test_large_aligned_files_are_split(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "BLOCK", 8)
    source, target = write(tmp_path / "s", "ab\n" * 20), write(tmp_path / "t", "abcde\n" * 20)
    found = files.aligned(source, target, 40)  # the target is 120 bytes: three shards
    assert spans(found) == [  # bytes 40 and 80 of it are in blocks that end with lines 8 and 14
        (("s", 0, 24), ("t", 0, 48)),
        (("s", 24, 42), ("t", 48, 84)),
        (("s", 42, -1), ("t", 84, -1)),
    ]


def test_unequal_files_that_have_to_be_cut_are_refused_with_both_counts(tmp_path):
    source, target = write(tmp_path / "s", "ab\n" * 20), write(tmp_path / "t", "ab\n" * 19 + "a\nb")
    with pytest.raises(text.DataError, match=r"s has 20 lines and .*t 21; parallel files say"):
        files.aligned(source, target, 40)


def test_globs_are_paired_file_by_file(tmp_path):
    for name in ("1.en", "2.en", "1.ko", "2.ko"):
        write(tmp_path / name, "a\n")
    found = files.aligned(str(tmp_path / "*.en"), str(tmp_path / "*.ko"))
    assert [[name for name, _, _ in shard] for shard in spans(found)] == [
        ["1.en", "1.ko", "2.en", "2.ko"]
    ]
    (tmp_path / "2.ko").unlink()
    with pytest.raises(text.DataError, match=r"\*.en is 2 files and .*\*.ko 1; aligned files are"):
        files.aligned(str(tmp_path / "*.en"), str(tmp_path / "*.ko"))


def test_a_sample_is_a_shard(tmp_path):
    uri = write(tmp_path / "a", "x\n")
    assert files.shards(["sample:mono.kor", uri]) == [(Span("sample:mono.kor"),), (Span(uri),)]
