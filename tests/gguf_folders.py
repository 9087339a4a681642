"""Exported folders small enough for any test, and what llama.cpp's own converter makes of them."""

import os
from pathlib import Path
import subprocess
import sys
from typing import Any

from etils import epath
import pytest
import tiny_llama

from lrl_jax.hf import save
from lrl_jax.model import llama
from lrl_jax.vocab.tokenizer import load as tokenizers
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
    reader = gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    return fields, {tensor.name: tensor for tensor in reader.tensors}


def convert(folder: Path, out: Path, kind: str) -> Path:
    """What llama.cpp's converter makes of a folder."""
    pytest.importorskip("torch", reason="not compared with llama.cpp: torch is not installed")
    command = [sys.executable, f"{LLAMA_CPP}/convert_hf_to_gguf.py", str(folder)]
    command += ["--outfile", str(out), "--outtype", kind]
    environment = {**os.environ, "PYTHONPATH": f"{LLAMA_CPP}/gguf-py"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return out
