"""Exported folders small enough for any test, and what llama.cpp's own converter makes of them."""

from collections.abc import Callable, Sequence
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

from etils import epath
import hand_byte_level
import hand_tokenizer
import pytest
import tiny_llama

from lrl_jax.hf import families, save
from lrl_jax.hf.gguf import vocabulary
from lrl_jax.model import llama, rope
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer import sentencepieces
from lrl_jax.vocab.tokenizer.types import Tokenizer

gguf = pytest.importorskip("gguf", reason="not compared: gguf is not installed")

# The folder vendor/llama.cpp of llama_cpp_python 0.3.36's source distribution.
LLAMA_CPP = os.environ.get("LRL_LLAMA_CPP", "")
needs_llama_cpp = pytest.mark.skipif(
    not LLAMA_CPP, reason="not compared with llama.cpp: LRL_LLAMA_CPP names no folder of it"
)
# Widths that divide into the quantiser's blocks of 32, and one (of the feed-forward) that does not.
SHAPE = dict(
    width=64, depth=2, mlp_width=48, num_heads=4, num_kv_heads=2, head_width=16, norm_eps=0.1,
    rope_theta=100.0, dtype="float32",
)  # fmt: skip
CONTEXT = 96


def config(size: int, **changes: Any) -> llama.LlamaConfig:
    return llama.LlamaConfig(**SHAPE | dict(vocab_size=size) | changes)


def write(
    folder: Path, tokenizer: Tokenizer, dtype: str = "float32", rows: int = 0, **changes: Any
) -> Path:
    """Writes a model of random weights and a tokenizer as a Hugging Face folder."""
    cfg = config(rows or tokenizer.size, **changes)
    ids = dict(
        bos_token_id=tokenizer.bos_id, eos_token_id=tokenizer.eos_id,
        max_position_embeddings=CONTEXT,
    )  # fmt: skip
    save.save(folder, tiny_llama.params(cfg), cfg, ids, dtype, 10**9)
    tokenizers.family(tokenizer).write(tokenizer, epath.Path(folder))
    return folder


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata and the tensors of a GGUF file."""
    contents = {key: field.contents() for key, field in fields(path).items()}
    return contents, {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def fields(path: Path) -> dict[str, Any]:
    """The fields of a GGUF file, which have types and contents."""
    return dict(gguf.GGUFReader(path).fields)


def as_gemma() -> Tokenizer:
    """SentencePiece that puts no space before a text and has a piece that is whole in any text."""
    proto = sentencepieces.proto_of(hand_tokenizer.make())
    proto.normalizer_spec.add_dummy_prefix = False
    proto.pieces.add(piece="<ab>", score=0.0, type=vocabulary.USER_DEFINED)
    return tokenizers.from_bytes(proto.SerializeToString())


def _llama3() -> Tokenizer:
    return hand_byte_level.make("llama3")


def _qwen() -> Tokenizer:
    return hand_byte_level.make("qwen2")


# A model of each family that llama.cpp computes: its tokenizer, and its fields.
SHAPES: dict[str, tuple[Callable[[], Tokenizer], dict[str, Any]]] = {
    "llama": (hand_tokenizer.make, {}),
    "unprefixed": (as_gemma, {}),
    "llama3": (_llama3, dict(rope_scaling=rope.Llama3(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_length=64))),
    "linear": (_llama3, dict(rope_scaling=rope.Linear(factor=3.0), tie_embeddings=True)),
    "mistral": (hand_tokenizer.make, dict(family="mistral", window=17)),
    "qwen2": (_qwen, dict(family="qwen2")),
    "qwen3": (_qwen, dict(family="qwen3", num_heads=2, num_kv_heads=1)),
    "gemma": (as_gemma, dict(family="gemma", tie_embeddings=True)),
    "gemma2": (as_gemma, dict(
        family="gemma2", tie_embeddings=True, query_scalar=16, window=8,
        local_layers=(True, False), attention_softcap=0.7, logit_softcap=3.0)),
    "gemma3": (as_gemma, dict(
        family="gemma3_text", tie_embeddings=True, query_scalar=16, window=8, depth=6,
        local_layers=(*[True] * 5, False), local_rope_theta=50.0)),
    "olmo2": (lambda: hand_byte_level.make("gpt2"), dict(family="olmo2")),
    "smollm3": (_llama3, dict(
        family="smollm3", depth=4, unrotated_layers=(False, False, False, True))),
}  # fmt: skip


def write_shape(name: str, folder: Path) -> Path:
    """Writes a model of SHAPES with random weights as a Hugging Face folder."""
    tokenizer, changes = SHAPES[name]
    fields = families.FAMILIES[changes.get("family", "llama")].ours | changes
    return write(folder / name, tokenizer(), **fields)


def convert(jobs: Sequence[tuple[Path, Path, str, str]]) -> None:
    """Writes what llama.cpp's converter makes of folders.

    Args:
      jobs: folder, file, type and, where the converter cannot find it, how text is cut.
    """
    pytest.importorskip("torch", reason="not compared with llama.cpp: torch is not installed")
    script = Path(__file__).with_name("gguf_converter.py")
    text = json.dumps([[*map(str, job)] for job in jobs])
    subprocess.run([sys.executable, str(script), LLAMA_CPP, text], check=True, capture_output=True)
