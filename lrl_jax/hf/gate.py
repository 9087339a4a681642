"""Reads an export back and compares it with what was trained: the gate of the step export."""

from collections.abc import Callable, Collection, Mapping, Sequence
import dataclasses
import functools
import importlib.util
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from lrl_jax.hf import load
from lrl_jax.model import llama
from lrl_jax.vocab.tokenizer.auto import AutoCodec
from lrl_jax.vocab.tokenizer.types import Tokenizer

TOLERANCE = 1e-4  # of float32 logits, for each unit of the largest one (at least 1)
Logits = Callable[[np.ndarray], np.ndarray]
LOGIT_TEXTS, LOGIT_TOKENS = 8, 128  # what logits are compared on; tokens are compared on all texts


@dataclasses.dataclass(frozen=True)
class Gate:
    """Holds what `check` measured, and what is wrong.

    Attributes:
      texts: how many texts were tokenised by both tokenizer forms.
      tokens: how many tokens these have.
      reload_error: largest difference of logits, trained against reloaded by us.
      transformers_error: the same against transformers; None when torch is not installed.
      problems: what is wrong, a sentence each; empty when the gate is passed.
    """

    texts: int
    tokens: int
    reload_error: float
    transformers_error: float | None
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Tells whether nothing is wrong."""
        return not self.problems


def check(
    folder: epath.PathLike,
    cfg: llama.LlamaConfig,
    params: llama.Params,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    dtype: str,
) -> Gate:
    """Compares an exported folder with the model and the tokenizer it came from.

    The trained parameters are rounded to the export's dtype first: logits must then agree to
    float32 arithmetic, so that a tensor in the wrong place cannot hide behind rounding.

    Args:
      texts: at least one; a sample of what the model will read.
      dtype: of the tensors in the folder, as given to `save`.
    """
    exact = dataclasses.replace(cfg, dtype="float32")
    shardings = {name: w.sharding for name, w in params.items()}

    def trained(batch_BT: np.ndarray) -> np.ndarray:
        return _logits(exact, _rounded(params, dtype, params), batch_BT)

    def reloaded(batch_BT: np.ndarray) -> np.ndarray:
        return _logits(exact, load.load(folder, exact, shardings, "float32"), batch_BT)

    return _compare(folder, tokenizer, texts, trained, reloaded, functools.partial(_peer, folder))


def check_adapter(
    folder: epath.PathLike,
    base: epath.PathLike,
    cfg: llama.LlamaConfig,
    params: llama.Params,
    full: Collection[str],
    tokenizer: Tokenizer,
    texts: Sequence[str],
    dtype: str,
) -> Gate:
    """Compares an exported adapter, put on the model in `base`, like `check`.

    Args:
      cfg: of the model with its adapters.
      params: with the adapters; what is neither theirs nor in `full` should be the base's.
      full: what the folder holds whole, as given to `adapter.save`.
    """
    exact = dataclasses.replace(cfg, dtype="float32")
    plain = dataclasses.replace(exact, lora=None)
    written = [name for name in params if name in full or "_lora_" in name]

    def trained(batch_BT: np.ndarray) -> np.ndarray:
        return _logits(exact, _rounded(params, dtype, written), batch_BT)

    def reloaded(batch_BT: np.ndarray) -> np.ndarray:
        shardings = {name: w.sharding for name, w in params.items()}
        both = load.load(base, plain, shardings, "float32", adapter=epath.Path(folder))
        return _logits(plain, both, batch_BT)

    peer = functools.partial(_peer, base, folder, cfg.vocab_size)
    return _compare(folder, tokenizer, texts, trained, reloaded, peer)


def _compare(
    folder: epath.PathLike,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    trained: Logits,
    reloaded: Logits,
    peer: Callable[[], Any],
) -> Gate:
    if not texts:
        raise ValueError("the export gate needs texts; name some in export.gate_on")
    folder = epath.Path(folder)
    problems = _token_problems(folder, tokenizer, texts)
    batch_BT = _batch(tokenizer, texts)
    want_BTV = trained(batch_BT)
    bound = TOLERANCE * max(1.0, float(np.abs(want_BTV).max()))
    reload_error = float(np.abs(reloaded(batch_BT) - want_BTV).max())
    if not reload_error <= bound:
        problems.append(f"reloaded logits differ by {reload_error:.2g} (at most {bound:.2g})")
    error = _transformers_error(peer, batch_BT, want_BTV)
    if error is not None and not error <= bound:
        problems.append(f"transformers' logits differ by {error:.2g} (at most {bound:.2g})")
    tokens = sum(len(ids) for ids in tokenizer.encode_batch(texts))
    return Gate(len(texts), tokens, reload_error, error, tuple(problems))


def _rounded(params: llama.Params, dtype: str, names: Collection[str]) -> llama.Params:
    """Returns float32 parameters, those in `names` rounded as in a file of `dtype`."""
    return {
        name: (w.astype(dtype) if name in names else w).astype("float32")
        for name, w in params.items()
    }


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
        auto_id, own_id = (
            getattr(auto.tokenizer, f"{name}_token_id"),
            getattr(tokenizer, f"{name}_id"),
        )
        if auto_id != own_id and (auto_id is not None or own_id != tokenizer.eos_id):
            problems.append(f"AutoTokenizer's {name} is {auto_id}, that of training {own_id}")
    return problems


def _batch(tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """Returns the longest texts as rows of equal length, so that nothing is padding."""
    longest = sorted(texts, key=len, reverse=True)[:LOGIT_TEXTS]
    rows = [[tokenizer.bos_id, *tokenizer.encode(text)][:LOGIT_TOKENS] for text in longest]
    length = max(map(len, rows))
    return np.array([(row * length)[:length] for row in rows], np.int32)


def _logits(
    cfg: llama.LlamaConfig, params: Mapping[str, jax.Array], batch_BT: np.ndarray
) -> np.ndarray:
    """Returns float32 logits of whole rows, one row at a time to stay small."""

    @jax.jit
    def run(params, tokens_BT):
        ones_BT, positions_T = jnp.ones_like(tokens_BT), jnp.arange(tokens_BT.shape[1])
        with jax.default_matmul_precision("float32"):
            return llama.bind(cfg, params)(tokens_BT, ones_BT, positions_T[None])

    return np.concatenate([np.asarray(run(params, row_T[None])) for row_T in batch_BT])


def _transformers_error(peer: Callable[[], Any], batch_BT, want_BTV) -> float | None:
    """Returns the largest difference from the float32 logits of transformers' model, if any."""
    if (model := peer()) is None:
        return None
    import torch

    with torch.no_grad():
        rows = [model(torch.tensor(row_T[None].astype(np.int64))).logits for row_T in batch_BT]
    return float(np.abs(torch.cat(rows).numpy() - want_BTV).max())


def _peer(folder: epath.PathLike, beside: epath.PathLike = "", vocab_size: int = 0) -> Any:
    """Loads transformers' model, with peft's adapter if given; None without those libraries."""
    needs = ["torch", "peft"] if beside else ["torch"]
    remote = any("://" in str(path) for path in (folder, beside))
    if remote or any(importlib.util.find_spec(name) is None for name in needs):
        return None
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    if beside:
        import peft

        if model.config.vocab_size != vocab_size:
            model.resize_token_embeddings(vocab_size, mean_resizing=False)
        model = peft.PeftModel.from_pretrained(model, str(beside), local_files_only=True)
    return model.eval()
