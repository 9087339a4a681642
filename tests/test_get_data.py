"""The script that fetches the public test data: what it makes, checks, goes on with and refuses."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import io
import json
import os
from pathlib import Path
import subprocess
import tarfile
import threading

from conftest import data_file
import pytest

from scripts import get_data
from scripts.get_data import Item, digest

LETTER = bytes(range(256)) * 1000
STORY = b"a\n'b'"


class Server(ThreadingHTTPServer):
    """Serves `files` by path, and notes each path and range that was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        start = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-")
        server.asked.append((self.path, int(start)))
        content = server.files.get(self.path)
        if content is None or int(start) > len(content):
            self.send_error(404 if content is None else 416)
            return
        self.send_response(206 if int(start) else 200)
        self.send_header("Content-Length", str(len(content) - int(start)))
        self.end_headers()
        self.wfile.write(content[int(start) :])

    def log_message(self, *_):
        """Stays silent."""


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def run(folder: Path, items: list[Item], *options: str) -> int:
    table = folder / "table.tsv"
    rows = ["\t".join(Item._fields), *("\t".join(item) for item in items)]
    table.write_text("\n".join(rows) + "\n")
    return get_data.main(["--to", str(folder / "data"), "--table", str(table), *options])


def item(target: str, content, source: str, how: str = "copy") -> Item:
    return Item(target, digest(target, content), "CC0", source, how)


# ---------------------------------------------------------------------------- fetching
def test_what_is_missing_is_fetched_once_and_checked(server, tmp_path, capsys):
    server.files = {"/a": b"1\n2\n3\n", "/b": archive({"top/sub/x": b"X", "top/sub/y": b"Y"})}
    items = [
        item("all.txt", b"1\n2\n3\n", f"{server.url}/a"),
        item("deep/two.txt", b"1\n2\n", f"{server.url}/a", "first_lines 2"),
        item("x.txt", b"X", f"{server.url}/b", "member top/sub/x"),
        item("both/", {"x": b"X", "y": b"Y"}, f"{server.url}/b", "members sub"),
    ]
    assert run(tmp_path, items) == 0
    out, data = capsys.readouterr().out, tmp_path / "data"
    assert "4 of 4 files and folders are there" in out
    assert f"set LRL_TEST_DATA={data}" in out
    assert (data / "deep/two.txt").read_bytes() == b"1\n2\n"
    assert (data / "both/y").read_bytes() == b"Y"
    assert sorted(path.name for path in data.iterdir()) == ["all.txt", "both", "deep", "x.txt"]
    assert server.asked == [("/a", 0), ("/b", 0)]
    assert run(tmp_path, items) == 0
    assert len(server.asked) == 2


def test_a_download_that_was_cut_short_goes_on(server, tmp_path):
    server.files = {"/a": LETTER}
    letter = item("a", LETTER, f"{server.url}/a")
    part = tmp_path / "data/.downloads" / get_data.download_name(letter.source)
    part.parent.mkdir(parents=True)
    part.with_name(part.name + ".part").write_bytes(LETTER[:1000])
    assert run(tmp_path, [letter]) == 0
    assert server.asked == [("/a", 1000)]
    assert (tmp_path / "data/a").read_bytes() == LETTER


def test_a_part_longer_than_the_file_is_fetched_anew(server, tmp_path):
    server.files = {"/a": b"new"}
    letter = item("a", b"new", f"{server.url}/a")
    part = tmp_path / "data/.downloads" / get_data.download_name(letter.source)
    part.parent.mkdir(parents=True)
    part.with_name(part.name + ".part").write_bytes(b"older and longer")
    assert run(tmp_path, [letter]) == 0
    assert (tmp_path / "data/a").read_bytes() == b"new"


def test_what_is_not_as_in_the_table_is_not_written(server, tmp_path, capsys):
    server.files = {"/a": b"changed"}
    assert run(tmp_path, [item("a", b"as it was", f"{server.url}/a")]) == 3
    assert "missing a: has SHA-256 d67e" in capsys.readouterr().out
    assert not (tmp_path / "data/a").exists()


def test_what_cannot_be_had_is_listed_with_its_source(server, tmp_path, capsys):
    server.files = {"/a": b"a"}
    gone = item("gone", b"x", f"{server.url}/gone")
    offline = item("offline", b"x", "http://127.0.0.1:1/offline")
    assert run(tmp_path, [item("a", b"a", f"{server.url}/a"), gone, offline]) == 3
    out = capsys.readouterr().out
    assert "1 of 3 files and folders are there" in out
    assert f"missing gone: HTTP Error 404: Not Found\n  from {server.url}/gone (copy; CC0)" in out
    assert "\n  from http://127.0.0.1:1/offline (copy; CC0)" in out


def test_a_check_fetches_nothing_and_finds_what_was_changed(server, tmp_path, capsys):
    server.files = {"/a": b"a", "/b": archive({"top/sub/x": b"X"})}
    items = [
        item("a", b"a", f"{server.url}/a"),
        item("sub/", {"x": b"X"}, f"{server.url}/b", "members sub"),
    ]
    assert run(tmp_path, items) == 0
    assert run(tmp_path, items, "--check") == 0
    (tmp_path / "data/a").write_bytes(b"b")
    (tmp_path / "data/sub/x").unlink()
    capsys.readouterr()
    assert run(tmp_path, items, "--check") == 3
    out = capsys.readouterr().out
    assert "missing a: missing or changed" in out
    assert "missing sub/: missing or changed" in out
    assert len(server.asked) == 2
    assert run(tmp_path, items, "--check", "--only", "nothing") == 2


# ---------------------------------------------------------------------------- making
def made(tmp_path: Path, how: str, source: bytes):
    path = tmp_path / "source"
    path.write_bytes(source)
    name, _, argument = how.partition(" ")
    return get_data.MAKERS[name](path, argument)


def test_every_seventh_film_gives_reviews_until_the_size_is_passed(tmp_path):
    def reviews(*texts):
        rows = [{"review": t, "review_id": t[0], "rating": "3", "author": "who"} for t in texts]
        return json.dumps(rows).encode()

    films = {f"nsmc/raw/{i:02}.json": reviews(f"{i} a  b", "x") for i in range(15)}
    want = b'{"id": "0", "text": "0 a b", "rating": 3}\n{"id": "x", "text": "x", "rating": 3}\n'
    seventh = b'{"id": "7", "text": "7 a b", "rating": 3}\n'
    assert made(tmp_path, "nsmc 80", archive(films)) == want + seventh
    assert made(tmp_path, "nsmc 78", archive(films)) == want


def test_a_declaration_has_a_paragraph_a_line_and_a_row_in_the_index(tmp_path):
    index = """<udhrs><udhr f='aa' iso639-3='aar' iso15924='Latn' bcp47='aa' n='A&#x02BC;'/>
      <udhr f='bb' iso639-3='bbb' iso15924='Cyrl' bcp47='bb' n='B'/></udhrs>"""
    text = """<udhr xmlns="http://efele.net/udhr"><title>One</title><note><para>two
      lines</para></note><article><para>th<b>re</b>e</para><para> </para></article></udhr>"""
    files = {"u/data/udhr/index.xml": index.encode(), "u/data/udhr/udhr_aa.xml": text.encode()}
    got = made(tmp_path, "udhr aa", archive(files))
    assert got["udhr_aa.txt"].decode() == "One\ntwo lines\nthree\n"
    assert got["index.tsv"].decode() == (
        "file\tiso639_3\tscript\tbcp47\tname\nudhr_aa.txt\taar\tLatn\taa\tA\u02bc\n"
    )


def test_paragraphs_of_articles_are_listed_once(tmp_path):
    paragraphs = [{"context": "a  b"}, {"context": "c"}, {"context": "a b"}]
    tree = {"version": "v", "data": [{"paragraphs": paragraphs}, {"paragraphs": []}]}
    source = json.dumps(tree).encode()
    assert made(tmp_path, "korquad_contexts 1", source) == b"a b\nc\n"
    part = json.loads(made(tmp_path, "korquad_part 1", source))
    assert part == {"version": "v", "data": tree["data"][:1]}


def test_the_expected_story_is_read_out_of_a_test(tmp_path):
    source = "import os\nexpected_stdout = b'a\\n\\'b\\''\nother = b'x'\n"
    assert made(tmp_path, "greedy_story", source.encode()) == STORY


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ("models/stories260K-hf/config.json", "models/stories260K-raw/stories260K.bin"),
        ("models/stories260K-hf/model.safetensors", "models/stories260K-raw/stories260K.bin"),
        ("tokenizers/llama2/tokenizer_config.json", "tokenizers/llama2/tokenizer.model"),
        ("tokenizers/llama3/tokenizer.json.gz", "tokenizers/llama3/tokenizer.model"),
        ("mono/ko/korquad_dev_contexts.txt", "qa/korquad/KorQuAD_v1.0_dev.part1.json"),
        ("qa/korquad/KorQuAD_v1.0_dev.part1.json", "qa/korquad/KorQuAD_v1.0_dev.part1.json"),
    ],
)
def test_what_is_made_of_a_published_file_has_the_bytes_of_the_table(target, source, tmp_path):
    (row,) = [row for row in get_data.read_table() if row.target == target]
    content = made(tmp_path, row.how, data_file(source).read_bytes())
    assert digest(target, content) == row.sha256


# ---------------------------------------------------------------------------- the table
def test_the_table_is_sound():
    items = get_data.read_table()
    assert len({row.target for row in items}) == len(items) > 70
    assert [row.target for row in items] == sorted(row.target for row in items)
    for row in items:
        assert row.how.partition(" ")[0] in get_data.MAKERS, row
        assert row.source.startswith("https://"), row
        assert len(row.sha256) == 64
        assert row.licence, row
        assert not Path(row.target).is_absolute()
        assert ".." not in row.target


def test_the_data_at_hand_is_that_of_the_table(capsys):
    folder = data_file(".")
    assert get_data.main(["--to", str(folder), "--check"]) == 0, capsys.readouterr().out


# ---------------------------------------------------------------------------- scripts that read it
@pytest.mark.parametrize("script", ["real_korean.sh", "taco_en_de.sh"])
def test_a_script_without_its_data_says_how_to_get_it(script, tmp_path):
    got = subprocess.run(
        [get_data.CHECKOUT / "scripts" / script],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "DATA": str(tmp_path)},
    )  # fmt: skip
    assert got.returncode == 3
    assert f"python scripts/get_data.py --to {tmp_path}" in got.stderr
    assert "DATA=FOLDER" in got.stderr
