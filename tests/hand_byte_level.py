"""Byte-level tokenizers small enough to do by hand: ids in tests are worked out, not recorded."""

import json
from typing import Any

from lrl_jax.vocab.tokenizer import patterns
from lrl_jax.vocab.tokenizer.load import from_files
from lrl_jax.vocab.tokenizer.types import Tokenizer

PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
OTHER = [byte for byte in range(256) if byte not in PRINTED]
SYMBOL = {b: chr(b) for b in PRINTED} | {b: chr(256 + n) for n, b in enumerate(OTHER)}
MERGES = (("a", "b"), ("Ġ", "ab"), ("ab", "c"))
# Llama 3: byte b is id b, then
AB, G_AB, ABC, BOS, EOS = 256, 257, 258, 259, 260


def llama3(merges: tuple[tuple[str, str], ...] = MERGES) -> dict[str, Any]:
    """A tokenizer.json as Llama 3's: added tokens outside the vocab, words taken whole."""
    vocab = {SYMBOL[b]: b for b in range(256)} | {
        left + right: 256 + n for n, (left, right) in enumerate(merges)
    }
    bos, eos = len(vocab), len(vocab) + 1
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [token(bos, "<|begin_of_text|>"), token(eos, "<|end_of_text|>")],
        "normalizer": None,
        "pre_tokenizer": cut_by(patterns.PATTERNS["llama3"]),
        "post_processor": {
            "type": "Sequence",
            "processors": [
                in_bytes(add_prefix_space=True, trim_offsets=False),
                {
                    "type": "TemplateProcessing",
                    "single": [
                        {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}},
                        {"Sequence": {"id": "A", "type_id": 0}},
                    ],
                    "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
                    "special_tokens": {
                        "<|begin_of_text|>": {
                            "id": "<|begin_of_text|>",
                            "ids": [bos],
                            "tokens": ["<|begin_of_text|>"],
                        }
                    },
                },
            ],
        },
        "decoder": in_bytes(add_prefix_space=True),
        "model": model(vocab, [list(merge) for merge in merges], ignore_merges=True),
    }


def qwen2() -> dict[str, Any]:
    """As Qwen's: NFC, no bos, a token that stands whole in text without being special."""
    tree = llama3()
    tree["added_tokens"] = [token(259, "<|endoftext|>"), token(260, "<tool_call>", special=False)]
    tree["normalizer"] = {"type": "NFC"}
    tree["pre_tokenizer"] = cut_by(patterns.PATTERNS["qwen2"])
    tree["post_processor"] = in_bytes(trim_offsets=False, use_regex=False)
    tree["model"]["ignore_merges"] = False
    return tree


def gpt2() -> dict[str, Any]:
    """As GPT-2's: its pattern built in, merges as "a b", the added token in the vocab, no type."""
    tree = llama3()
    tree["added_tokens"] = [token(259, "<|endoftext|>")]
    tree["pre_tokenizer"] = in_bytes()
    tree["post_processor"] = in_bytes(trim_offsets=False)
    vocab = tree["model"]["vocab"] | {"<|endoftext|>": 259}
    tree["model"] = model(vocab, [" ".join(merge) for merge in MERGES])
    del tree["model"]["type"], tree["model"]["ignore_merges"]
    return tree


def tekken() -> dict[str, Any]:
    """As Mistral's: special tokens have the first ids, marks stay with their letters."""
    tree = llama3()
    names = {"<unk>": 0, "<s>": 1, "</s>": 2, "[INST]": 3}
    tree["added_tokens"] = [token(i, name) for name, i in names.items()]
    tree["pre_tokenizer"] = cut_by(patterns.PATTERNS["tekken"])
    tree["post_processor"] = None
    vocab = names | {piece: 4 + i for piece, i in tree["model"]["vocab"].items()}
    tree["model"] = model(vocab, [list(merge) for merge in MERGES])
    return tree


CONFIGS: dict[str, dict[str, Any] | None] = {
    "llama3": {
        "bos_token": "<|begin_of_text|>",
        "eos_token": {"content": "<|end_of_text|>", "lstrip": False},
        "clean_up_tokenization_spaces": True,
        "chat_template": "{{ x }}",
        "tokenizer_class": "PreTrainedTokenizerFast",
    },
    "qwen2": {
        "bos_token": None,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "Qwen2Tokenizer",
    },
    "gpt2": None,
    "tekken": {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "LlamaTokenizer"},
}
TREES = {"llama3": llama3, "qwen2": qwen2, "gpt2": gpt2, "tekken": tekken}


def files(tree: dict[str, Any], config: dict[str, Any] | None = None) -> dict[str, bytes]:
    found = {"tokenizer.json": json.dumps(tree).encode()}
    return found | (
        {} if config is None else {"tokenizer_config.json": json.dumps(config).encode()}
    )


def make(style: str = "llama3") -> Tokenizer:
    return from_files(files(TREES[style](), CONFIGS[style]), style)


def token(i: int, content: str, special: bool = True) -> dict[str, Any]:
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    return {"id": i, "content": content, **dict.fromkeys(flags, False), "special": special}


def in_bytes(**settings: bool) -> dict[str, Any]:
    usual = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"type": "ByteLevel", **usual, **settings}


def cut_by(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}}
    split |= {"behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, in_bytes(use_regex=False)]}


def model(vocab: dict[str, int], merges: list[Any], ignore_merges: bool = False) -> dict[str, Any]:
    unset = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    flags = {"fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore_merges}
    return {"type": "BPE", **dict.fromkeys(unset), **flags, "vocab": vocab, "merges": merges}
