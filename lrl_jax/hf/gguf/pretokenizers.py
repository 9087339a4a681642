r"""Finds llama.cpp's name for the way in which a byte-level tokenizer cuts text into words.

llama.cpp takes no pattern from a file. It has a list of names, and beside each the patterns that it
cuts by and whether a word that is a piece stays whole. What no name stands for cannot be said: a
vocabulary under another name loads without a word of warning, and its ids are wrong.
"""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

from lrl_jax.vocab.tokenizer.inspection import leaves
from lrl_jax.vocab.tokenizer.patterns import PATTERNS, aware

# Patterns as llama.cpp has them, one after another on what the one before left.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SHORTENED = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
LLAMA3 = rf"{SHORTENED}|{LETTERS}|\p{{N}}{{1,3}}|{SIGNS}|{SPACES}"
QWEN2 = rf"{SHORTENED}|{LETTERS}|\p{{N}}|{SIGNS}|{SPACES}"
QWEN35 = (
    rf"{SHORTENED}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{SPACES}"
)
DIGITS = r"\p{N}"


@dataclasses.dataclass(frozen=True)
class CutRule:
    """Describes one of llama.cpp's pre-tokenizers.

    Attributes:
      patterns: what it cuts by, in order; each cuts what the ones before left.
      whole: whether a word that is a piece is taken without joining.
    """

    patterns: tuple[str, ...]
    whole: bool


RULES = {
    "gpt-2": CutRule((GPT2,), whole=False),
    "llama-bpe": CutRule((LLAMA3,), whole=True),
    "smaug-bpe": CutRule((LLAMA3,), whole=False),
    "qwen2": CutRule((QWEN2,), whole=False),
    "qwen35": CutRule((QWEN35,), whole=False),
    "smollm": CutRule((DIGITS, GPT2), whole=False),
}
# What a tokenizer.json cuts by, and its `ignore_merges` -> the name.
NAMES: dict[tuple[tuple[str, ...], bool], str] = {
    ((PATTERNS["gpt2"],), False): "gpt-2",
    ((PATTERNS["llama3"],), True): "llama-bpe",
    ((PATTERNS["llama3"],), False): "smaug-bpe",
    ((PATTERNS["qwen2"],), False): "qwen2",
    # A mark before letters is a letter of the run to both, so that these two cut alike.
    ((aware(PATTERNS["qwen2"]),), False): "qwen35",
    ((DIGITS, PATTERNS["gpt2"]), False): "smollm",
}
INSTEAD = (
    "run it in transformers or vLLM, which read tokenizer.json, or build the vocabulary with "
    "pretokenizer: keep"
)


def name_of(tree: Mapping[str, Any]) -> str:
    """Returns llama.cpp's name for how a tokenizer.json cuts text.

    Raises:
      ValueError: llama.cpp has none; it says what comes of that, and what to do.
    """
    patterns = tuple(_patterns(tree))
    whole = bool(tree["model"].get("ignore_merges"))
    if name := NAMES.get((patterns, whole)):
        return name
    if any(r"\p{M" in pattern for pattern in patterns):
        raise ValueError(
            "its pre-tokenizer keeps combining marks with their letters (mark_aware), and "
            "llama.cpp has no such rule for it: it would cut words at every mark and say nothing; "
            + INSTEAD
        )
    shown = " then ".join(patterns) or "nothing"
    raise ValueError(
        f"llama.cpp has no pre-tokenizer that cuts by {shown:.200}"
        f"{' and takes whole words as pieces' if whole else ''}; {INSTEAD.partition(', or')[0]}"
    )


def _patterns(tree: Mapping[str, Any]) -> Iterator[str]:
    """Yields the patterns by which text is cut, in order; refuses what has no pattern."""
    for node in leaves(tree.get("pre_tokenizer")):
        kind = node.get("type")
        if kind == "Split" and _isolates(node):
            yield node["pattern"]["Regex"]
        elif kind == "Digits" and node.get("individual_digits"):
            yield DIGITS
        elif kind == "ByteLevel" and not node.get("add_prefix_space", True):
            if node.get("use_regex", True):
                yield PATTERNS["gpt2"]
        else:
            raise ValueError(
                f"its pre-tokenizer has a part that llama.cpp lacks ({node!s:.120}); "
                f"{INSTEAD.partition(', or')[0]}"
            )


def _isolates(node: Mapping[str, Any]) -> bool:
    pattern, alone = node.get("pattern"), node.get("behavior") in ("Isolated", "isolated")
    return alone and not node.get("invert") and isinstance(pattern, dict) and "Regex" in pattern
