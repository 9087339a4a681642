"""Fetches the public data that some tests, two recipes and a benchmark read.

    python scripts/get_data.py                       # into LRL_TEST_DATA, or else test_data
    python scripts/get_data.py --to FOLDER --only parallel/ tokenizers/llama2/
    python scripts/get_data.py --check               # says what is missing, fetches nothing

scripts/test_data.tsv lists each file: where it comes from, under which licence, its SHA-256 and how
it is made of the source. Nothing of it belongs to this project; read the licences before you use it
for anything but tests. What is there and right is left alone, a download that was cut short goes
on where it ended. Exit codes: 0 all is there, 2 a wrong command line, 3 something is missing.
"""

import argparse
import ast
from collections.abc import Callable, Iterable
import csv
import gzip
import hashlib
import json
import os
from pathlib import Path
import re
import struct
import sys
import tarfile
from typing import NamedTuple
import urllib.error
import urllib.request
import xml.etree.ElementTree

CHECKOUT = Path(__file__).parents[1]
TABLE = Path(__file__).with_name("test_data.tsv")
BLOCK = 1 << 16
TIMEOUT = 60  # seconds without a byte
Content = bytes | dict[str, bytes]  # of a file, or of the files of a folder by name


class Item(NamedTuple):
    """Describes a file, or a folder if its name ends in a slash: a row of the table.

    Attributes:
      target: the path in the folder of data.
      sha256: of the content; for a folder of the lines "sha256  name" in order; what ends in .gz is
        hashed unpacked.
      how: the name of a function of MAKERS, and after a space its argument; "copy" for as it is.
    """

    target: str
    sha256: str
    licence: str
    source: str
    how: str


# ---------------------------------------------------------------------------- making
def copy(path: Path, _: str) -> bytes:
    """Returns the source as it is."""
    return path.read_bytes()


def first_lines(path: Path, count: str) -> bytes:
    """Returns the first lines of a file."""
    return b"".join(path.read_bytes().splitlines(keepends=True)[: int(count)])


def member(path: Path, name: str) -> bytes:
    """Returns one file of an archive."""
    with tarfile.open(path) as archive:
        file = archive.extractfile(name)
        if file is None:
            raise ValueError(f"{name} is no file")
        return file.read()


def members(path: Path, folder: str) -> dict[str, bytes]:
    """Returns the files of a folder of an archive, whose top folder may have any name."""
    contents = {}
    with tarfile.open(path) as archive:
        for entry in archive:
            parent, _, name = entry.name.partition("/")[2].rpartition("/")
            if parent == folder and entry.isfile():
                contents[name] = archive.extractfile(entry).read()
    return contents


def korquad_part(path: Path, count: str) -> bytes:
    """Returns the first articles of KorQuAD."""
    tree = json.loads(path.read_text("utf-8"))
    shortened = {"version": tree["version"], "data": tree["data"][: int(count)]}
    return json.dumps(shortened, ensure_ascii=False).encode()


def korquad_contexts(path: Path, count: str) -> bytes:
    """Returns the different paragraphs of the first articles of KorQuAD, one a line."""
    articles = json.loads(path.read_text("utf-8"))["data"][: int(count)]
    contexts = (paragraph["context"] for article in articles for paragraph in article["paragraphs"])
    return _lines(dict.fromkeys(" ".join(context.split()) for context in contexts))


def nsmc(path: Path, size: str) -> bytes:
    """Returns the reviews of every seventh film, without authors, until they have `size` bytes."""
    films = members(path, "raw")
    rows: list[str] = []
    length = 0
    for name in sorted(films)[::7]:
        for review in json.loads(films[name]):
            text = " ".join(review["review"].split())
            row = {"id": review["review_id"], "text": text, "rating": int(review["rating"])}
            rows.append(json.dumps(row, ensure_ascii=False))
            length += len(rows[-1].encode()) + 1
            if length > int(size):
                return _lines(rows)
    return _lines(rows)


def udhr(path: Path, names: str) -> dict[str, bytes]:
    """Returns translations of the Universal Declaration, a paragraph a line, and their index."""
    files = members(path, "data/udhr")
    rows = {row.attrib["f"]: row for row in _elements(files["index.xml"], "udhr")}
    index = ["file\tiso639_3\tscript\tbcp47\tname"]
    contents = {}
    for name in names.split():
        row = rows[name].attrib
        fields = (row["iso639-3"], row["iso15924"], row["bcp47"], row["n"])
        index.append("\t".join((f"udhr_{name}.txt", *fields)))
        paragraphs = _elements(files[f"udhr_{name}.xml"], "title", "para")
        texts = (" ".join("".join(paragraph.itertext()).split()) for paragraph in paragraphs)
        contents[f"udhr_{name}.txt"] = _lines(text for text in texts if text)
    return contents | {"index.tsv": _lines(index)}


def _elements(text: bytes, *tags: str) -> list[xml.etree.ElementTree.Element]:
    root = xml.etree.ElementTree.fromstring(text)
    return [element for element in root.iter() if element.tag.rpartition("}")[2] in tags]


def greedy_story(path: Path, _: str) -> bytes:
    """Returns the text that llama2.c's own test expects of stories260K."""
    (literal,) = re.findall(r"(?m)^expected_stdout = (b'.*')$", path.read_text("utf-8"))
    return ast.literal_eval(literal)


def stories_config(path: Path, _: str) -> bytes:
    """Returns the config.json of stories260K, of the header of its weights."""
    width, hidden, layers, heads, kv_heads, pieces, length = _header(path.read_bytes())
    config = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "dtype": "float32",
        "eos_token_id": 2,
        "head_dim": width // heads,
        "hidden_act": "silu",
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": hidden,
        "max_position_embeddings": length,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads,
        "pad_token_id": None,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": True,
        "transformers_version": "5.23.0",
        "use_cache": True,
        "vocab_size": pieces,
    }
    return (json.dumps(config, indent=2) + "\n").encode()


def stories_weights(path: Path, _: str) -> bytes:
    """Returns the weights of stories260K as Hugging Face names and orders them, in safetensors.

    llama2.c rotates neighbouring numbers of a head, Hugging Face the two halves of a head, so rows
    of the query and key weights change places.
    """
    import numpy as np
    import safetensors.numpy

    content = path.read_bytes()
    width, hidden, layers, heads, kv_heads, pieces, _ = _header(content)
    size = width // heads
    numbers = np.frombuffer(content, np.float32, offset=28)
    shapes = {  # in the order of the file
        "embed_tokens": (pieces, width),
        "input_layernorm": (layers, width),
        "self_attn.q_proj": (layers, width, width),
        "self_attn.k_proj": (layers, kv_heads * size, width),
        "self_attn.v_proj": (layers, kv_heads * size, width),
        "self_attn.o_proj": (layers, width, width),
        "post_attention_layernorm": (layers, width),
        "mlp.gate_proj": (layers, hidden, width),
        "mlp.down_proj": (layers, width, hidden),
        "mlp.up_proj": (layers, hidden, width),
        "norm": (width,),
    }
    tensors = {}
    start = 0
    for name, shape in shapes.items():
        stop = start + int(np.prod(shape))
        array = numbers[start:stop].reshape(shape)
        start = stop
        if name in ("self_attn.q_proj", "self_attn.k_proj"):
            pairs = array.reshape(layers, -1, size // 2, 2, width)
            array = np.ascontiguousarray(pairs.swapaxes(2, 3)).reshape(shape)
        if name in ("embed_tokens", "norm"):
            tensors[f"model.{name}.weight"] = array
        else:
            layered = {f"model.layers.{i}.{name}.weight": array[i] for i in range(layers)}
            tensors |= layered
    return safetensors.numpy.save(tensors, {"format": "pt"})


def _header(content: bytes) -> tuple[int, ...]:
    """Returns width, hidden width, layers, heads, key heads, pieces, length of a llama2.c file."""
    return struct.unpack("7i", content[:28])


def llama2_config(_: Path, __: str) -> bytes:
    """Returns a tokenizer_config.json for Llama 2's tokenizer, which is published without one."""
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "legacy": False,
        "model_max_length": 4096,
        "clean_up_tokenization_spaces": False,
    }
    return json.dumps(config).encode()


def llama3_json(path: Path, _: str) -> bytes:
    """Returns the tokenizer.json of Llama 3's tiktoken file, by transformers, packed by gzip."""
    from transformers.convert_slow_tokenizer import TikTokenConverter

    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer = TikTokenConverter(vocab_file=str(path), pattern=pattern).converted()
    return gzip.compress(tokenizer.to_str(pretty=True).encode(), mtime=0)


def _lines(texts: Iterable[str]) -> bytes:
    return "".join(text + "\n" for text in texts).encode()


MAKERS: dict[str, Callable[[Path, str], Content]] = {
    function.__name__: function
    for function in (
        copy, first_lines, member, members, korquad_part, korquad_contexts, nsmc, udhr,
        greedy_story, stories_config, stories_weights, llama2_config, llama3_json,
    )
}  # fmt: skip


# ---------------------------------------------------------------------------- checking
def read_table(path: Path = TABLE) -> list[Item]:
    """Reads the table of the data."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Item(**row) for row in rows]


def digest(name: str, content: Content) -> str:
    """Returns the SHA-256 that the table has for a content; see Item."""
    if isinstance(content, dict):
        listing = (f"{digest(name, content[name])}  {name}" for name in sorted(content))
        return hashlib.sha256(_lines(listing)).hexdigest()
    if name.endswith(".gz"):
        content = gzip.decompress(content)
    return hashlib.sha256(content).hexdigest()


def is_right(item: Item, folder: Path) -> bool:
    """Says whether a file or folder is there with the content of the table."""
    path = folder / item.target
    if not item.target.endswith("/"):
        return path.is_file() and digest(path.name, path.read_bytes()) == item.sha256
    files = {file.name: file.read_bytes() for file in path.glob("*") if file.is_file()}
    return digest("", files) == item.sha256


# ---------------------------------------------------------------------------- fetching
def fetch(url: str, path: Path) -> None:
    """Downloads a file; goes on with the part of it that an earlier call left beside it."""
    partial = path.with_name(path.name + ".part")
    start = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Accept": "application/vnd.github.raw, */*"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # it has all bytes already, or more
            raise
        partial.unlink()
        fetch(url, path)
        return
    with response, partial.open("ab" if response.status == 206 else "wb") as file:
        length = int(response.headers.get("Content-Length") or 0)
        total = length + file.tell() if length else 0
        while block := response.read(BLOCK):
            file.write(block)
            _show(url, file.tell(), total)
        size = file.tell()
    if total and size < total:
        raise OSError(f"ended after {size:,} of {total:,} bytes; run it again to go on")
    partial.replace(path)


def _show(url: str, size: int, total: int) -> None:
    if sys.stderr.isatty():
        share = f" of {total / 1e6:.1f}" if total else ""
        print(f"\r{url[:70]}: {size / 1e6:.1f}{share} MB", end="\x1b[K", file=sys.stderr)


def write(item: Item, content: Content, folder: Path) -> None:
    """Writes a file whole, or the files of a folder, each whole."""
    path = folder / item.target
    files = content if isinstance(content, dict) else {path.name: content}
    parent = path if isinstance(content, dict) else path.parent
    parent.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        temporary = parent / f".{name}.new"
        temporary.write_bytes(text)
        temporary.replace(parent / name)


def download_name(source: str) -> str:
    """Returns the name of a download while it is needed."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def get(source: str, items: list[Item], folder: Path) -> dict[str, str]:
    """Makes the items of one source; target -> what is wrong, for those that could not be made."""
    downloads = folder / ".downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    path = downloads / download_name(source)
    try:
        if not path.exists():
            fetch(source, path)
    except (OSError, urllib.error.URLError) as error:
        return dict.fromkeys((item.target for item in items), str(error))
    wrong = {}
    for item in items:
        name, _, argument = item.how.partition(" ")
        try:
            content = MAKERS[name](path, argument)
        except (ImportError, KeyError, OSError, ValueError, tarfile.TarError) as error:
            wrong[item.target] = f"{item.how.split()[0]}: {type(error).__name__}: {error}"
            continue
        sha256 = digest(item.target, content)
        if sha256 == item.sha256:
            write(item, content, folder)
        else:
            wrong[item.target] = f"has SHA-256 {sha256}, not {item.sha256} of the table"
    path.unlink()
    return wrong


def get_all(items: list[Item], folder: Path) -> dict[str, str]:
    """Makes items source by source and says how each went; returns what `get` does, of all."""
    wrong: dict[str, str] = {}
    for source in dict.fromkeys(item.source for item in items):
        wanted = [item for item in items if item.source == source]
        wrong |= get(source, wanted, folder)
        for item in wanted:
            print(f"{'missing' if item.target in wrong else 'fetched'}  {item.target}", flush=True)
    downloads = folder / ".downloads"
    if downloads.exists() and not any(downloads.iterdir()):
        downloads.rmdir()
    return wrong


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    default = os.environ.get("LRL_TEST_DATA") or str(CHECKOUT / "test_data")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=default, help=f"the folder; now {default}")
    parser.add_argument("--only", nargs="+", default=[""], help="how targets begin")
    parser.add_argument("--check", action="store_true", help="say what is missing; fetch nothing")
    parser.add_argument("--table", type=Path, default=TABLE, help="another table of data")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Fetches what is missing and returns the exit code."""
    args = parse(arguments)
    items = [item for item in read_table(args.table) if item.target.startswith(tuple(args.only))]
    if not items:
        print(f"{args.table} has nothing that begins with {', '.join(args.only)}", file=sys.stderr)
        return 2
    missing = [item for item in items if not is_right(item, args.to)]
    if args.check:
        wrong = dict.fromkeys((item.target for item in missing), "missing or changed")
    else:
        wrong = get_all(missing, args.to)
    print(f"{args.to}: {len(items) - len(wrong)} of {len(items)} files and folders are there")
    for item in missing:
        if item.target in wrong:
            print(f"missing {item.target}: {wrong[item.target]}\n  from {item.source}", end="")
            print(f" ({item.how.split()[0]}; {item.licence})")
    if not wrong and args.to.resolve() != (CHECKOUT / "test_data").resolve():
        print(f"set LRL_TEST_DATA={args.to} for the tests")
    return 3 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
