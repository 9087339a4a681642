r"""Holds the patterns by which byte-level tokenizers cut text before any merge.

`\p{L}+` ends a word at every combining mark, and abugidas write vowels as marks: no number of
merges gets such a language below its count of pre-tokens. With `[\p{L}\p{M}]+` marks stay with
their letters, and text without marks is cut as before.
"""

from collections.abc import Mapping
import functools
import re
from typing import Any

# By the tokenizer that first came with them; many others use the same.
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "tekken": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
# What a pattern is read by: a class opened (a bracket right after it is a letter), closed, escapes.
PART = re.compile(r"\\[pP]\{[^}]*\}|\\.|\[\^?\]?|\]|.", re.DOTALL)


def keeping_marks(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Makes the content of a tokenizer.json mark-aware; only its pre-tokenizer changes.

    GPT-2's pattern, which ByteLevel has built in, is written out so that it can change.
    """
    if not tree.get("pre_tokenizer"):
        return dict(tree)
    parts = _rewritten(tree["pre_tokenizer"])
    whole = parts[0] if len(parts) == 1 else {"type": "Sequence", "pretokenizers": parts}
    return {**tree, "pre_tokenizer": whole}


def aware(pattern: str) -> str:
    r"""Returns a pattern whose letters take the marks after them; doing it again changes nothing.

    >>> print(aware(r" ?\p{L}+|[^\s\p{L}]+"))
     ?[\p{L}\p{M}]+|[^\s\p{L}\p{M}]+
    """
    if r"\p{M" in pattern:
        return pattern
    out, depth = [], 0
    for token in PART.findall(pattern):
        if token == r"\p{L}":
            token = r"\p{L}\p{M}" if depth else r"[\p{L}\p{M}]"
        elif token == r"\P{L}":
            token = r"[^\p{L}\p{M}]"  # a class within a class, where it stands in one
        elif token[0] == "[":
            depth += 1
        elif token == "]" and depth:
            depth -= 1
        out.append(token)
    return "".join(out)


@functools.cache
def well_known() -> frozenset[str]:
    """Returns patterns that finish on any text: those of `PATTERNS`, mark-aware or not."""
    return frozenset(p for pattern in PATTERNS.values() for p in (pattern, aware(pattern)))


def _rewritten(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a pre-tokenizer's parts in order; a whole one comes back as a list of one."""
    kind = node["type"]
    if kind == "Sequence":
        parts = [cut for child in node["pretokenizers"] for cut in _rewritten(child)]
        return [{**node, "pretokenizers": parts}]
    if kind == "ByteLevel" and node.get("use_regex", True):
        split = {"type": "Split", "pattern": {"Regex": aware(PATTERNS["gpt2"])}}
        return [split | {"behavior": "Isolated", "invert": False}, {**node, "use_regex": False}]
    if kind == "Split" and "Regex" in node["pattern"]:
        return [{**node, "pattern": {"Regex": aware(node["pattern"]["Regex"])}}]
    return [dict(node)]
