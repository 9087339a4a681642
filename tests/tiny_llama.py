"""A Llama small enough for any test, with absurd constants, and weights that hide no mix-up."""

from pathlib import Path

import jax
import numpy as np

from lrl_jax.hf import save
from lrl_jax.model import llama
from lrl_jax.vocab.tokenizer import sentencepieces
from lrl_jax.vocab.tokenizer.types import Tokenizer

CFG = llama.LlamaConfig(
    vocab_size=97, width=32, depth=3, mlp_width=48, num_heads=4, num_kv_heads=2, head_width=8,
    norm_eps=0.1, rope_theta=100.0, dtype="float32",
)  # fmt: skip


def params(cfg: llama.LlamaConfig = CFG, seed: int = 0) -> llama.Params:
    """Random everywhere, in norms and padding too: ones and zeros would hide a mix-up."""
    rng = np.random.default_rng(seed)
    return {
        name: jax.device_put(0.3 * rng.standard_normal(leaf.shape, np.float32))
        for name, leaf in llama.abstract(cfg).items()
    }


def write(folder: Path, cfg: llama.LlamaConfig, tokenizer: Tokenizer, context: int = 64) -> Path:
    """Writes the model and a SentencePiece tokenizer as a Hugging Face folder; returns it."""
    ids = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": context}
    save.save(folder, params(cfg), cfg, ids, "float32", 10**9)
    sentencepieces.write(tokenizer, folder)
    return folder


def _logits(cfg, params, tokens_BT, segments_BT, positions_BT):
    return llama.bind(cfg, params)(tokens_BT, segments_BT, positions_BT)


_compiled = jax.jit(_logits, static_argnums=0)


def logits(params, tokens_BT, segments_BT=None, positions_BT=None, cfg=CFG) -> np.ndarray:
    """Logits of whole rows; one segment, positions from 0, unless given."""
    tokens_BT = np.asarray(tokens_BT, np.int32)
    if segments_BT is None:
        segments_BT = np.ones_like(tokens_BT)
    if positions_BT is None:
        positions_BT = np.broadcast_to(np.arange(tokens_BT.shape[1]), tokens_BT.shape)
    batch = (np.asarray(x, np.int32) for x in (tokens_BT, segments_BT, positions_BT))
    return np.asarray(_compiled(cfg, params, *batch))
