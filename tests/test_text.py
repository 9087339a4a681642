"""Text comes in whole or not at all."""

import bz2
import gzip
import lzma
import os
import tracemalloc

from etils import epath
from hypothesis import given
from hypothesis import strategies as st
import pyarrow
import pytest

from lrl_jax import text
from lrl_jax.recipe import supply
from lrl_jax.text import Bad

PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.compress(data, codec="zstd", asbytes=True),
}


def write(path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_bom_and_crlf_are_not_text(tmp_path):
    uri = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo\n\nfour")
    assert list(text.lines(uri)) == ["one", "two", "", "four"]


def test_a_mark_where_files_were_joined_is_not_text(tmp_path):
    uri = write(tmp_path / "a", b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\r\n\xef\xbb\xbf{\n")
    assert list(text.lines(uri)) == ["one", "two", "{"]
    assert list(text.raw(uri)) == [b"one\n", b"two\r\n", b"{\n"]
    uri = write(tmp_path / "b", b"a\n\xef\xbb\xbf")  # the second file was empty
    assert list(text.lines(uri)) == ["a"]
    uri = write(tmp_path / "c", "a\ufeffb\n".encode())  # within a line it is a character
    assert list(text.lines(uri)) == ["a\ufeffb"]


@pytest.mark.parametrize("code", ["utf-16", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("block", [4, 1 << 20])
def test_utf_16_with_a_mark_is_read(tmp_path, monkeypatch, code, end, block):
    monkeypatch.setattr(text, "BLOCK", block)
    mark = "" if code == "utf-16" else "\ufeff"
    uri = write(tmp_path / "a.txt", f"{mark}가{end}ก😀{end}".encode(code))
    if end == "\r" and block == 4:
        return  # what ends lines is told by the first block
    assert list(text.lines(uri)) == ["가", "ก😀"]


def test_utf_16_that_is_damaged_is_named(tmp_path):
    uri = write(tmp_path / "a.txt", "\ufeffab".encode("utf-16-le")[:-1])
    with pytest.raises(text.DataError, match=r"a\.txt: begins with the mark of UTF-16, and is not"):
        list(text.lines(uri))


def test_lines_that_end_in_cr_alone_are_lines(tmp_path):
    uri = write(tmp_path / "a", b"one\rtwo\r\rfour")
    assert list(text.lines(uri)) == ["one", "two", "", "four"]
    assert list(text.lines(write(tmp_path / "b", b"one\r"))) == ["one"]


def test_brackets_in_names_are_brackets(tmp_path):
    for name in ("a [v2].txt", "b[1]/c.txt", "b[1]/d.txt", "e1.txt", "e[1].txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, f"{name}\n".encode())
    for uri, want in [
        ("a [v2].txt", ["a [v2].txt"]),
        ("b[1]/*.txt", ["b[1]/c.txt", "b[1]/d.txt"]),
        ("e[1].txt", ["e[1].txt"]),  # the file of exactly this name
        ("e[0-9].txt", ["e1.txt"]),
    ]:
        assert list(text.lines(str(tmp_path / uri))) == want


def test_a_file_address_names_a_file(tmp_path):
    write(tmp_path / "a b.txt", b"one\n")
    assert list(text.lines(f"file://{tmp_path}/a%20b.txt")) == ["one"]
    assert list(text.lines(f"FILE://localhost{tmp_path}/*.txt")) == ["one"]
    assert supply.is_here(f"file://{tmp_path}/a%20b.txt")
    with pytest.raises(
        text.DataError, match=r"names a file of the machine 'data'; .* three slashes"
    ):
        text.files("file://data/a.txt")


def test_the_suffix_of_what_is_packed_may_be_in_capitals(tmp_path):
    uri = write(tmp_path / "a.TXT.GZ", gzip.compress(b"one\n"))
    assert list(text.lines(uri)) == ["one"]


def test_a_line_separator_inside_a_line_does_not_cut_it(tmp_path):
    uri = write(tmp_path / "a.txt", "a\u2028b\x0bc\rd\n".encode())
    assert list(text.lines(uri)) == ["a\u2028b\x0bc\rd"]


@given(st.lists(st.sampled_from(["", "a", "\r", "가\r", "b\u2028", "\ufeff"]), max_size=9))
def test_lines_are_what_lies_between_newlines(tmp_path_factory, parts):
    data = "\n".join(["x", *parts])
    uri = write(tmp_path_factory.mktemp("t") / "a", data.encode())
    want = [line.removeprefix("\ufeff").removesuffix("\r") for line in data.split("\n")]
    assert list(text.lines(uri)) == (want if want[-1] or data.endswith("\r") else want[:-1])


def test_a_glob_reads_files_in_name_order(tmp_path):
    write(tmp_path / "b.txt", b"2\n")
    write(tmp_path / "a.txt.gz", gzip.compress(b"1\n"))
    assert list(text.lines(str(tmp_path / "*.txt*"))) == ["1", "2"]


def test_a_glob_looks_into_folders(tmp_path):
    for name in ("a/1.txt", "a/b/2.txt", "3.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, f"{name}\n".encode())
    assert list(text.lines(str(tmp_path / "**"))) == ["3.txt", "a/1.txt", "a/b/2.txt"]
    assert list(text.lines(str(tmp_path / "?/*.txt"))) == ["a/1.txt"]


@pytest.mark.parametrize("suffix", PACK)
def test_what_is_packed_is_unpacked_and_what_is_cut_short_is_named(tmp_path, suffix):
    packed = PACK[suffix]("\ufeff가\r\n나\n".encode() * 400)
    whole = write(tmp_path / f"whole.txt{suffix}", packed)
    assert [*text.lines(whole)][:3] == ["가", "나", "가"]
    cut = write(tmp_path / f"cut.txt{suffix}", packed[:-5])
    with pytest.raises(text.DataError, match=rf"cut.txt\{suffix}: is cut short; fetch it again"):
        list(text.lines(cut))
    other = write(tmp_path / f"other.txt{suffix}", b"no such thing, but long enough to be one")
    with pytest.raises(text.DataError, match=rf"is not a whole \{suffix} file"):
        list(text.lines(other))


STREAMS = (b"a\nb\n", b"c\n" * 9)  # packed each by itself and joined
AFTER = {  # what stands after the first stream -> what is said; "" where the whole file is read
    "the second": (lambda packed: packed, ""),
    "zeros and the second": (lambda packed: bytes(8) + packed + bytes(12), ""),
    "the second cut short": (lambda packed: packed[:-3], "is cut short"),
    "a few bytes of the second": (lambda packed: packed[:3], "is cut short|is not a whole"),
    "the second with a damaged beginning": (
        lambda packed: bytes([packed[0] ^ 1]) + packed[1:], "is not a whole"
    ),
    "an archive": (lambda packed: b"PK\3\4" + packed, "is not a whole"),
    "text": (lambda packed: b"some words and more of them\n", "is not a whole"),
}  # fmt: skip


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("suffix", PACK)
def test_every_stream_of_a_packed_file_is_read_or_its_damage_named(tmp_path, suffix, after):
    spoil, message = AFTER[after]
    first, second = map(PACK[suffix], STREAMS)
    uri = write(tmp_path / f"a.txt{suffix}", first + spoil(second))
    if suffix == ".zst" and "zeros" in after:
        message = "is not a whole .zst"  # its frames are not filled up with zeros
    if message:
        with pytest.raises(text.DataError, match=message):
            list(text.lines(uri))
    else:
        assert list(text.lines(uri)) == ["a", "b", *"c" * 9]


@pytest.mark.parametrize("suffix", [".bz2", ".xz"])
def test_large_streams_are_unpacked_as_python_does(tmp_path, suffix):
    data = os.urandom(300_000) + bytes(3_000_000)
    packed = PACK[suffix](data) + PACK[suffix](data[::-1]) + PACK[suffix](b"")
    with text.opened(epath.Path(write(tmp_path / f"a{suffix}", packed))) as f:
        assert f.read(70_001) + f.read() == data + data[::-1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"good\nbad \xb0\xa1\n", r"a.txt:2: not UTF-8 at byte 4 of the line \(0xb0\)"),
        (b"", "is empty"),
        (b"a\n\0\n", "a.txt:2: holds a NUL"),
        (text.LFS_POINTER + b"v1\n", "is a git-lfs pointer"),
    ],
)
def test_what_is_not_text_is_named_with_its_line(tmp_path, data, message):
    uri = write(tmp_path / "a.txt", data)
    with pytest.raises(ValueError, match=message):
        list(text.lines(uri))


def test_what_is_not_there_is_named(tmp_path):
    for uri, message in [
        (str(tmp_path / "no.txt"), "no such file"),
        (str(tmp_path / "*.no"), "no file matches"),
        (str(tmp_path), "is a folder"),
        ("sample:no", "no such sample"),
    ]:
        with pytest.raises(ValueError, match=message):
            list(text.lines(uri))


# ---------------------------------------------------------------------------- going on
def test_reading_goes_on_after_a_bad_line(tmp_path):
    uri = write(tmp_path / "a", b"\xef\xbb\xbfa\r\n\xff\nb\0\nc")
    assert list(text.numbered(uri)) == [
        (1, "a"),
        (2, Bad(f"{uri}:2", text.flaw(b"\xff\n"))),
        (3, Bad(f"{uri}:3", text.flaw(b"b\0\n"))),
        (4, "c"),
    ]


def test_a_range_counts_its_own_lines_and_names_those_of_the_file(tmp_path):
    uri = write(tmp_path / "a", b"one\ntwo\nthr\xffe\nfour\n")
    [(number, bad), after] = text.numbered(uri, 8)
    assert (number, bad.where, after) == (1, f"{uri}:3", (2, "four"))
    assert list(text.numbered(uri, 4, 8)) == [(1, "two")]
    assert text.place(uri, 4, 1) == f"{uri}:2"  # asked for later, though it lies before


def test_a_line_that_is_too_long_is_named_and_never_held(tmp_path):
    path = tmp_path / "a"
    with path.open("wb") as f:
        f.write(b"first\n")
        f.seek(200 << 20, os.SEEK_CUR)  # sparse: 200 MB of NUL
        f.write(b"\nlast\n")
    tracemalloc.start()
    got = list(text.numbered(str(path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got == [(1, "first"), (2, Bad(f"{path}:2", text.flaw(None))), (3, "last")]
    assert peak < text.LONGEST + (8 << 20)


def test_raw_lines_are_the_bytes_of_the_file(tmp_path):
    uri = write(tmp_path / "a", b"a\r\n\xff\rb\n\0")
    assert list(text.raw(uri)) == [b"a\r\n", b"\xff\rb\n", b"\0"]


# ---------------------------------------------------------------------------- fingerprints
def test_the_fingerprint_follows_the_content_not_the_name(tmp_path):
    a, b = write(tmp_path / "a.txt", b"x\n"), write(tmp_path / "b.txt", b"x\n")
    assert text.fingerprint(a) == text.fingerprint(b)
    write(tmp_path / "b.txt", b"y\n")
    assert text.fingerprint(a) != text.fingerprint(b)


@pytest.fixture
def old(tmp_path, monkeypatch) -> str:
    """A large file that has lain there for a while, and a home of its own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(text, "SETTLED", -(10**18))  # whatever was touched has settled
    return write(tmp_path / "a.txt", b"x" * text.BLOCK)


def entries(tmp_path) -> list:
    return sorted((tmp_path / "home/.cache/lrl_jax/digests").glob("*"))


def test_a_file_is_hashed_once(old, tmp_path):
    text.fingerprint(old)
    [entry] = entries(tmp_path)
    entry.write_text(entry.read_text().replace(text.fingerprint(old), "remembered"))
    assert text.fingerprint(old) == "remembered"


def test_a_file_that_changed_is_hashed_again(old, tmp_path):
    before, stat = text.fingerprint(old), os.stat(old)
    write(tmp_path / "a.txt", b"y" * text.BLOCK)
    os.utime(old, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # of the same size and time
    assert text.fingerprint(old) != before


def test_a_file_touched_just_now_is_not_remembered(old, tmp_path, monkeypatch):
    monkeypatch.setattr(text, "SETTLED", 2_000_000_000)
    text.fingerprint(old)
    assert entries(tmp_path) == []


def test_a_broken_or_unwritable_memory_costs_time_only(old, tmp_path):
    want = text.fingerprint(old)
    [entry] = entries(tmp_path)
    entry.write_text("{")
    assert text.fingerprint(old) == want
    (tmp_path / "home").rename(tmp_path / "away")
    (tmp_path / "home").write_text("no folder")
    assert text.fingerprint(old) == want


def test_many_files_have_one_fingerprint(tmp_path):
    write(tmp_path / "a.txt", b"x\n")
    write(tmp_path / "b.txt", b"y\n")
    both = text.fingerprint(str(tmp_path / "*.txt"))
    write(tmp_path / "b.txt", b"z\n")
    assert len({both, text.fingerprint(str(tmp_path / "*.txt"))}) == 2
