"""Reads an export back and compares it with what was trained: the gate of the step export."""

from collections.abc import Collection, Sequence
import dataclasses
import importlib.util

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from lrl_jax.hf import load
from lrl_jax.model import llama
from lrl_jax.vocab.tokenizer.auto import AutoCodec
from lrl_jax.vocab.tokenizer.types import Tokenizer

TOLERANCE = 1e-4  # of float32 logits, for each unit of the largest one (at least 1)
LOGIT_TEXTS, LOGIT_TOKENS = 8, 128  # what logits are compared on; tokens are compared on all texts


@dataclasses.dataclass(frozen=True)
class Gate:
    """Holds what `check` measured, and what is wrong."""

    texts: int  # tokenised by both tokenizer forms
    tokens: int  # of these texts
    reload_error: float  # largest difference of logits, trained against reloaded by us
    transformers_error: float | None  # against transformers; None when torch is not installed
    problems: tuple[str, ...]  # what is wrong, a sentence each; empty when the gate is passed


def check(
    folder: epath.PathLike,
    cfg: llama.LlamaConfig,
    params: llama.Params,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    dtype: str,
    base: epath.PathLike | None = None,
    full: Collection[str] = (),
) -> Gate:
    """Compares an exported folder with the model and the tokenizer it came from.

    The trained parameters are rounded to the export's dtype first: logits must then agree to
    float32 arithmetic, so that a tensor in the wrong place cannot hide behind rounding.

    Args:
      texts: at least one; a sample of what the model will read.
      base: of a folder that holds an adapter, the model that the adapter is put on.
      full: parameters that a folder with an adapter holds whole; others but the adapter's should be
        the base's.
    """
    if not texts:
        raise ValueError("the export gate needs texts; name some in export.gate_on")
    folder = epath.Path(folder)
    problems = _token_problems(folder, tokenizer, texts)
    batch_BT = _batch(tokenizer, texts)
    exact = dataclasses.replace(cfg, dtype="float32")
    plain = dataclasses.replace(exact, lora=None)
    model, adapter = (folder, None) if base is None else (base, folder)
    written = [name for name in params if base is None or name in full or "_lora_" in name]
    shardings = {name: w.sharding for name, w in params.items()}
    rounded = {
        name: (w.astype(dtype) if name in written else w).astype("float32")
        for name, w in params.items()
    }
    want_BTV = _logits(exact, rounded, batch_BT)
    bound = TOLERANCE * max(1.0, float(np.abs(want_BTV).max()))
    reloaded = load.load(model, plain, shardings, "float32", adapter=adapter)
    reload_error = float(np.abs(_logits(plain, reloaded, batch_BT) - want_BTV).max())
    del reloaded  # transformers loads a copy of its own
    if not reload_error <= bound:
        problems.append(f"reloaded logits differ by {reload_error:.2g} (at most {bound:.2g})")
    error = _transformers_error(model, adapter, batch_BT, want_BTV)
    if error is not None and not error <= bound:
        problems.append(f"transformers' logits differ by {error:.2g} (at most {bound:.2g})")
    tokens = sum(len(ids) for ids in tokenizer.encode_batch(texts))
    return Gate(len(texts), tokens, reload_error, error, tuple(problems))


def _token_problems(folder: epath.Path, tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Says where the folder's `AutoTokenizer` differs from training's tokenizer."""
    auto = AutoCodec(folder)
    problems = []
    pairs = zip(auto.encode_batch(texts), tokenizer.encode_batch(texts), strict=True)
    wrong = [i for i, (got, want) in enumerate(pairs) if got != want]
    if wrong:
        problems.append(
            f"AutoTokenizer and the tokenizer of training differ on {len(wrong)} of {len(texts)} "
            f"texts, first {texts[wrong[0]][:60]!r}"
        )
    size = max(auto.tokenizer.get_vocab().values()) + 1
    if size != tokenizer.size:
        problems.append(f"AutoTokenizer has {size} ids, the tokenizer of training {tokenizer.size}")
    for name in ("bos", "eos"):
        auto_id = getattr(auto.tokenizer, f"{name}_token_id")
        own_id = getattr(tokenizer, f"{name}_id")
        if auto_id != own_id and (auto_id is not None or own_id != tokenizer.eos_id):
            problems.append(f"AutoTokenizer's {name} is {auto_id}, that of training {own_id}")
    return problems


def _batch(tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """Returns the longest texts as rows of equal length, so that nothing is padding."""
    longest = sorted(texts, key=len, reverse=True)[:LOGIT_TEXTS]
    rows = [[tokenizer.bos_id, *tokenizer.encode(text)][:LOGIT_TOKENS] for text in longest]
    length = max(map(len, rows))
    return np.array([(row * length)[:length] for row in rows], np.int32)


def _logits(cfg: llama.LlamaConfig, params: llama.Params, batch_BT: np.ndarray) -> np.ndarray:
    """Returns float32 logits of whole rows, one row at a time to stay small."""

    @jax.jit
    def run(params, tokens_BT):
        ones_BT, positions_T = jnp.ones_like(tokens_BT), jnp.arange(tokens_BT.shape[1])
        with jax.default_matmul_precision("float32"):
            return llama.bind(cfg, params)(tokens_BT, ones_BT, positions_T[None])

    return np.concatenate([np.asarray(run(params, row_T[None])) for row_T in batch_BT])


def _transformers_error(
    folder: epath.PathLike, adapter: epath.Path | None, batch_BT: np.ndarray, want_BTV: np.ndarray
) -> float | None:
    """Returns the largest difference from the float32 logits of transformers' model.

    An adapter is put on it by peft. Returns None without those libraries.
    """
    needs = ["torch", "peft"] if adapter else ["torch"]
    remote = any("://" in str(path) for path in (folder, adapter))
    if remote or any(importlib.util.find_spec(name) is None for name in needs):
        return None
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    if adapter:
        import peft

        vocab_size = want_BTV.shape[-1]
        if model.config.vocab_size != vocab_size:
            model.resize_token_embeddings(vocab_size, mean_resizing=False)
        model = peft.PeftModel.from_pretrained(model, str(adapter), local_files_only=True)
    model = model.eval()
    with torch.no_grad():
        rows = [model(torch.tensor(row_T[None].astype(np.int64))).logits for row_T in batch_BT]
    return float(np.abs(torch.cat(rows).numpy() - want_BTV).max())
