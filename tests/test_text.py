"""Text comes in whole or not at all."""

import gzip

import pytest

from lrl_jax import text


def write(path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_bom_and_crlf_are_not_text(tmp_path):
    uri = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo\n\nfour")
    assert list(text.lines(uri)) == ["one", "two", "", "four"]


def test_a_line_separator_inside_a_line_does_not_cut_it(tmp_path):
    uri = write(tmp_path / "a.txt", "a\u2028b\x0bc\rd\n".encode())
    assert list(text.lines(uri)) == ["a\u2028b\x0bc\rd"]


def test_a_glob_reads_files_in_name_order_and_gzip_is_opened(tmp_path):
    write(tmp_path / "b.txt", b"2\n")
    write(tmp_path / "a.txt.gz", gzip.compress(b"1\n"))
    assert list(text.lines(str(tmp_path / "*.txt*"))) == ["1", "2"]


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


def test_the_fingerprint_follows_the_content_not_the_name(tmp_path):
    a, b = write(tmp_path / "a.txt", b"x\n"), write(tmp_path / "b.txt", b"x\n")
    assert text.fingerprint(a) == text.fingerprint(b)
    write(tmp_path / "b.txt", b"y\n")
    assert text.fingerprint(a) != text.fingerprint(b)
