"""Checks a tokenizer.json before a library reads it: it may come from anyone.

The `tokenizers` library loads ids in the billions and repeated ids without a word, and a pattern
that never finishes takes the process with it. What is read here is plain JSON; patterns that are
not well known run in a child process first, with a limit on time and memory.
"""

from collections.abc import Iterator, Mapping
import functools
import json
import re
import subprocess
import sys
from typing import Any

from lrl_jax.vocab.tokenizer.declared import content
from lrl_jax.vocab.tokenizer.patterns import well_known
from lrl_jax.vocab.tokenizer.types import CONFIG, MAX_BYTES, MAX_VALUES, not_a_tokenizer

MAX_ID = 1 << 22  # the largest published vocabularies have some 260,000
CPU_SECONDS = 5  # what the trial may take; it needs well under one
WALL_SECONDS = 60  # the same where the machine is busy
MEMORY = 4 << 30  # bytes of address space
TRIAL_CHARS = 5000
TRIED = 64  # characters, and words, of a pattern that are tried
# Parts that do no harm on any text, whatever their settings.
HARMLESS = {"Sequence", "Split", "ByteLevel", "Digits", "NFC", "NFD", "NFKC", "NFKD"}
# Bytes that no text has in UTF-8: GPT-NeoX, Pythia and OLMo have no pieces for them.
UNUSED = {0xC0, 0xC1, *range(0xF5, 0x100)}
SEQUENCES = ("pretokenizers", "normalizers", "decoders")
GUESSED = {
    "bos_token": ("<|begin_of_text|>", "<s>"),
    "eos_token": ("<|end_of_text|>", "</s>", "<|endoftext|>", "<|im_end|>"),
}
AGAIN = "fetch it again, or from another place"

TRIAL = """
import json, resource, sys
limits = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu"], limits["cpu"]))
resource.setrlimit(resource.RLIMIT_AS, (limits["memory"], limits["memory"]))
import tokenizers
given = json.load(sys.stdin)
fast = tokenizers.Tokenizer.from_str(json.dumps(given["tokenizer"]))
for text in given["texts"]:
    fast.encode(text, add_special_tokens=False)
"""


@functools.cache
def alphabet() -> dict[int, str]:
    """Returns byte -> character, as GPT-2 made it: a printable byte stands for itself."""
    printed = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    other = [byte for byte in range(256) if byte not in printed]
    return {byte: chr(byte) for byte in printed} | {b: chr(256 + n) for n, b in enumerate(other)}


@functools.cache
def byte_of() -> dict[str, int]:
    """Returns character -> the byte it stands for."""
    return {c: byte for byte, c in alphabet().items()}


def inspect(data: bytes, where: str) -> dict[str, Any]:
    """Reads a byte-level BPE tokenizer.json; one that is not fit to use is a ValueError."""
    try:
        tree = parsed(data)
        model, added = _model(tree), _added(tree)
        _ids(model["vocab"], added)
        _merges(model)
        _in_bytes(tree)
        tried(tree)
    except ValueError as e:
        raise ValueError(f"{where}: {e}") from None
    except RecursionError:
        raise ValueError(f"{where}: its JSON is nested too deep; {AGAIN}") from None
    return tree


def added_tokens(tree: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the tokens of an inspected file that stand whole in text or control the model."""
    return tree.get("added_tokens") or []


def pairs(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the merges of an inspected model, which are written `"a b"` or `["a", "b"]`."""
    both = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
    return [(left, right) for left, right in both]


# ---------------------------------------------------------------------------- its parts
def parsed(data: bytes) -> dict[str, Any]:
    """Parses a tokenizer.json; a ValueError says what other bytes look like."""
    if guess := not_a_tokenizer(data):
        raise ValueError(f"{guess}; want a tokenizer.json")
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data)} bytes are no tokenizer; want at most {MAX_BYTES}")
    if (count := sum(data.count(mark) for mark in (b",", b"[", b"{"))) > MAX_VALUES:
        raise ValueError(f"some {count:,} values are no tokenizer; want at most {MAX_VALUES:,}")
    try:
        tree = json.loads(data, object_pairs_hook=_once)
    except ValueError as e:
        raise ValueError(f"is not the JSON of a tokenizer ({e}); {AGAIN}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"holds a JSON {type(tree).__name__}; want an object, as tokenizer.json")
    return tree


def _once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(items)
    if len(tree) < len(items):
        seen: set[str] = set()
        twice = next(key for key, _ in items if key in seen or seen.add(key))
        raise ValueError(f"{twice!r} stands in it twice")
    return tree


def _model(tree: Mapping[str, Any]) -> dict[str, Any]:
    model = tree.get("model")
    if not isinstance(model, dict):
        raise ValueError("has no model; want a tokenizer.json that `tokenizers` has written")
    if model.get("type", "BPE") != "BPE":  # files of 2020 do not say
        raise ValueError(f"is a {model['type']} tokenizer; want byte-level BPE")
    if model.get("byte_fallback"):
        raise ValueError(
            "is SentencePiece BPE written as JSON (byte_fallback); want the tokenizer.model it "
            "was made of, from the same repository"
        )
    if model.get("dropout"):
        raise ValueError(f"drops merges at random (dropout {model['dropout']}); set it to null")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise ValueError("marks the inside or the end of words; want byte-level BPE")
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not vocab or not isinstance(merges, list):
        raise ValueError(f"has no vocab or no merges in its model; {AGAIN}")
    return model


def _added(tree: Mapping[str, Any]) -> dict[str, int]:
    """Returns the added tokens and their ids."""
    tokens = added_tokens(tree)
    if not isinstance(tokens, list):
        raise ValueError(f"its added_tokens are no list; {AGAIN}")
    ids: dict[str, int] = {}
    for token in tokens:
        if not (isinstance(token, dict) and isinstance(token.get("content"), str)):
            raise ValueError(f"has {token!r:.80} as an added token; want content and id")
        if not isinstance(token.get("special"), bool):
            raise ValueError(f"does not say whether {token['content']!r} is special; {AGAIN}")
        if not token["content"] or token["content"] in ids:
            raise ValueError(f"has the added token {token['content']!r} twice or empty; {AGAIN}")
        ids[token["content"]] = token.get("id", -1)
    return ids


def _ids(vocab: Mapping[str, Any], added: Mapping[str, Any]) -> None:
    for piece, i in (*vocab.items(), *added.items()):
        if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < MAX_ID:
            raise ValueError(f"gives {piece!r} the id {i!r}; want whole numbers below {MAX_ID}")
    for piece, i in added.items():
        if vocab.get(piece, i) != i:
            raise ValueError(f"gives {piece!r} the ids {vocab[piece]} and {i}; {AGAIN}")
    owner: dict[int, str] = {}
    for piece, i in {**vocab, **added}.items():
        if owner.setdefault(i, piece) != piece:
            raise ValueError(f"gives the id {i} to {owner[i]!r} and to {piece!r}; {AGAIN}")
    if max(owner) >= 2 * len(owner):
        raise ValueError(f"has ids up to {max(owner)} for {len(owner)} pieces; {AGAIN}")


def _merges(model: Mapping[str, Any]) -> None:
    vocab = model["vocab"]
    for merge in model["merges"]:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        ok = isinstance(parts, list) and [type(piece) for piece in parts] == [str, str]
        if not ok or any(piece not in vocab for piece in (*parts, "".join(parts))):
            raise ValueError(
                f"has the merge {merge!r:.80}; want two pieces of the vocab whose join is one too"
            )


def _in_bytes(tree: Mapping[str, Any]) -> None:
    cut, back = (leaves(tree.get(key)) for key in ("pre_tokenizer", "decoder"))
    in_bytes = [node for node in cut if node.get("type") == "ByteLevel"]
    decoded = any(node.get("type") == "ByteLevel" for node in back)
    if not decoded or len(in_bytes) != 1 or in_bytes != cut[-1:]:
        raise ValueError(
            "does not end its pre_tokenizer in ByteLevel, or has no ByteLevel decoder; want "
            "byte-level BPE (of a SentencePiece tokenizer take the tokenizer.model)"
        )
    if in_bytes[0].get("add_prefix_space"):
        raise ValueError("puts a space before every text (add_prefix_space); set it to false")
    vocab = tree["model"]["vocab"]
    used = {byte: c for byte, c in alphabet().items() if byte not in UNUSED}
    missing = [byte for byte, c in used.items() if c not in vocab]
    if missing:
        raise ValueError(
            f"has no piece for {len(missing)} of {len(used)} bytes, such as 0x{missing[0]:02X}; "
            f"some text would be lost. {AGAIN.capitalize()}"
        )


def leaves(node: Any) -> list[dict[str, Any]]:
    """Returns the parts of a pre-tokenizer, normaliser or decoder, sequences flattened."""
    if node is None:
        return []
    if not isinstance(node, dict) or not isinstance(node.get("type"), str):
        raise ValueError(f"has {node!r:.80} where a part of a tokenizer should stand; {AGAIN}")
    if node.get("type") != "Sequence":
        return [node]
    inside = next((node[key] for key in SEQUENCES if isinstance(node.get(key), list)), [])
    return [leaf for child in inside for leaf in leaves(child)]


# ---------------------------------------------------------------------------- the trial
def tried(tree: Mapping[str, Any]) -> None:
    """Runs what is not well known in a child process, on text made to be slow."""
    nodes = [leaf for key in ("normalizer", "pre_tokenizer") for leaf in leaves(tree.get(key))]
    patterns = sorted({*regexes(nodes)} - well_known())
    if not patterns and all(node.get("type") in HARMLESS for node in nodes):
        return
    symbols = {c: i for i, c in enumerate(alphabet().values())}
    model = {"type": "BPE", "vocab": symbols, "merges": []}
    parts = {key: tree.get(key) for key in ("normalizer", "pre_tokenizer", "decoder")}
    bare = {"version": "1.0", "added_tokens": [], **parts, "model": model}
    if what := _harm(json.dumps({"tokenizer": bare, "texts": list(_slow(patterns))})):
        raise ValueError(
            f"cuts or normalises text in an unsafe way: on {TRIAL_CHARS} characters it {what}. Of "
            f"its patterns these are not well known: {patterns!s:.400}. Replace them, or take "
            "another tokenizer"
        )


def _harm(given: str) -> str:
    """Runs TRIAL in a child process and returns what went wrong; '' for nothing."""
    limits = json.dumps({"cpu": CPU_SECONDS, "memory": MEMORY})
    command = [sys.executable, "-P", "-c", TRIAL, limits]
    try:
        done = subprocess.run(
            command, input=given.encode(), capture_output=True, timeout=WALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"takes over {WALL_SECONDS} s"
    if done.returncode < 0:
        return f"takes over {CPU_SECONDS} s, or crashes"
    said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
    return f"fails: {said[-1]:.200}" if done.returncode else ""


def regexes(node: Any) -> Iterator[str]:
    """Yields the patterns in the parts of a tokenizer.json."""
    if isinstance(node, dict):
        if isinstance(node.get("Regex"), str):
            yield node["Regex"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from regexes(child)


def _slow(patterns: list[str]) -> Iterator[str]:
    """Yields long runs of what patterns may repeat, some with an end that makes them backtrack."""
    letters = dict.fromkeys("aA1 \n'-._\u00e9\u0301\uac00\u0915" + "".join(patterns))
    words = dict.fromkeys(word for p in patterns for word in re.findall(r"[^\W_]{2,}", p))
    runs = [run for c in [*letters][:TRIED] for run in (c, c + "a", c + " ", c + "1")]
    for run in (*runs, *[*words][:TRIED]):
        text = run * (TRIAL_CHARS // len(run) + 1)
        yield text
        yield text + "\x01"


# ---------------------------------------------------------------------------- its config
def named(
    tree: Mapping[str, Any], config: Mapping[str, Any] | None, where: str
) -> tuple[str, str, str]:
    """Returns the names of bos, eos and pad; eos replaces those that a tokenizer lacks.

    Without `config`, a tokenizer_config.json, names that are well known are looked for.
    """
    tokens = added_tokens(tree)
    special = [token["content"] for token in tokens if token["special"]]
    whole = [token["content"] for token in tokens]
    if config is None:
        present = {key: [name for name in GUESSED[key] if name in special] for key in GUESSED}
        config = {key: names[0] for key, names in present.items() if names}
    bos, eos, pad = (content(config.get(f"{key}_token")) for key in ("bos", "eos", "pad"))
    if eos is None:
        raise ValueError(
            f"{where}: has no end-of-text token; put {CONFIG} beside it, with an eos_token that "
            f"is one of its special tokens ({', '.join(special[:4]) or 'it has none'})"
        )
    for name in (bos, eos, pad):
        if name is not None and name not in whole:
            raise ValueError(
                f"{where}: {CONFIG} names {name!r}, which is no special token of tokenizer.json; "
                "take both from the same repository"
            )
    listed = config.get("added_tokens_decoder")
    if not isinstance(listed, dict | None):
        raise ValueError(f"{where}: {CONFIG} has {listed!r:.80} as its added_tokens_decoder")
    refuse_unlisted(tree, listed or {}, f"{where}: {CONFIG}")
    return bos or eos, eos, pad or eos


def refuse_unlisted(tree: Mapping[str, Any], listed: Mapping[str, Any], source: str) -> None:
    """Raises ValueError where another file (`source`) adds tokens that tokenizer.json has not."""
    have = {str(token["id"]): token["content"] for token in added_tokens(tree)}
    other = [i for i, token in listed.items() if content(token) != have.get(i)]
    if other:
        raise ValueError(
            f"{source} lists {len(other)} added tokens that tokenizer.json has not, such "
            f"as {content(listed[other[0]])!r} with id {other[0]}; save both once more with "
            "transformers (`save_pretrained`)"
        )
