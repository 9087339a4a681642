"""How a Hugging Face Llama checkpoint is laid out, said once for import and export.

Each row: our parameter, the HF tensor, and how many of our trailing dimensions are HF's `out`
dimension. `{l}` marks a per-layer tensor; ours are stacked along a leading L axis.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

import numpy as np

from lrl_jax.model import sharding
from lrl_jax.model.llama import Dtype, LlamaConfig, Remat
from lrl_jax.model.rope import Llama3

Index = tuple[slice, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """One parameter in both layouts; HF linear weights are [out, in]."""

    ours: str  # name in the flat dict of parameters
    hf: str  # tensor name in the safetensors files
    num_out: int  # how many trailing letters are HF's `out` dimension (0: no transpose)

    @property
    def letters(self) -> str:
        """Dimension letters of one layer's array."""
        return sharding.letters(self.ours).removeprefix("L")

    @property
    def stacked(self) -> bool:
        return "{l}" in self.hf


ROWS = (
    Row("embed_VD", "model.embed_tokens.weight", 0),
    Row("layers/attn_norm_D", "model.layers.{l}.input_layernorm.weight", 0),
    Row("layers/q_DNH", "model.layers.{l}.self_attn.q_proj.weight", 2),
    Row("layers/k_DKH", "model.layers.{l}.self_attn.k_proj.weight", 2),
    Row("layers/v_DKH", "model.layers.{l}.self_attn.v_proj.weight", 2),
    Row("layers/o_NHD", "model.layers.{l}.self_attn.o_proj.weight", 1),
    Row("layers/mlp_norm_D", "model.layers.{l}.post_attention_layernorm.weight", 0),
    Row("layers/gate_DF", "model.layers.{l}.mlp.gate_proj.weight", 1),
    Row("layers/up_DF", "model.layers.{l}.mlp.up_proj.weight", 1),
    Row("layers/down_FD", "model.layers.{l}.mlp.down_proj.weight", 1),
    Row("norm_D", "model.norm.weight", 0),
    Row("unembed_DV", "lm_head.weight", 1),
)


def rows(cfg: LlamaConfig) -> tuple[Row, ...]:
    """The rows a checkpoint of this config has; tied models store no `lm_head`."""
    return tuple(r for r in ROWS if not (cfg.tie_embeddings and r.ours == "unembed_DV"))


def tensors(cfg: LlamaConfig) -> dict[str, tuple[Row, int]]:
    """HF tensor name -> its row and layer (0 where there is none)."""
    return {
        row.hf.format(l=l): (row, l)
        for row in rows(cfg)
        for l in range(cfg.depth if row.stacked else 1)
    }


def hf_shape(row: Row, cfg: LlamaConfig) -> tuple[int, ...]:
    """Shape of the HF tensor; the vocabulary is unpadded there."""
    sizes = [_sizes(cfg)[letter] for letter in row.letters]
    if not row.num_out:
        return tuple(sizes)
    return math.prod(sizes[-row.num_out :]), math.prod(sizes[: -row.num_out])


def hf_region(row: Row, index: Index, cfg: LlamaConfig) -> Index:
    """Which part of the HF tensor holds the part `index` of our (one-layer) array."""
    if not row.num_out:
        return index
    sizes = [_sizes(cfg)[letter] for letter in row.letters]
    cut = len(sizes) - row.num_out
    return _merge(index[cut:], sizes[cut:]), _merge(index[:cut], sizes[:cut])


def to_ours(w: np.ndarray, row: Row, shape: tuple[int, ...]) -> np.ndarray:
    """An HF tensor, or `hf_region` of it, as our array of this shape."""
    return (w.T if row.num_out else w).reshape(shape)


def to_hf(w: np.ndarray, row: Row, cfg: LlamaConfig) -> np.ndarray:
    """One layer's array as the HF tensor; padding rows of the vocabulary are stripped."""
    if "V" in row.letters:
        w = np.take(w, range(cfg.vocab_size), axis=row.letters.index("V"))
    if not row.num_out:
        return w
    rows_in = math.prod(w.shape[: -row.num_out])
    return w.reshape(rows_in, -1).T


def _sizes(cfg: LlamaConfig) -> dict[str, int]:
    return cfg.sizes | {"V": cfg.vocab_size}


def _merge(index: Index, sizes: list[int]) -> slice:
    """The flat slice of neighbouring dimensions, of which only the first may be cut."""
    inner = math.prod(sizes[1:])
    assert all(
        s.indices(size) == (0, size, 1) for s, size in zip(index[1:], sizes[1:], strict=True)
    )
    start, stop, _ = index[0].indices(sizes[0])
    return slice(start * inner, stop * inner)


# ---------------------------------------------------------------------------- config.json
REQUIRED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads",
)  # fmt: skip
# What we compute; a config that asks for anything else is refused.
FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": ("llama",),
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "partial_rotary_factor": (1, 1.0),
    "quantization_config": (None,),
}


def config_from_hf(
    hf: Mapping[str, Any], dtype: Dtype = "bfloat16", remat: Remat = "nothing"
) -> LlamaConfig:
    """What `config.json` says, of transformers 4 or 5; its defaults are HF's.

    Args:
      dtype, remat: ours, as in LlamaConfig; a checkpoint does not decide them.

    Raises:
      ValueError: not a Llama, or one with parts we do not compute; names key and value.
    """
    for key, allowed in FIXED.items():
        got = hf.get(key, allowed[0])
        if got not in allowed:
            want = " or ".join(map(repr, allowed))
            raise ValueError(f"config.json: {key}={got!r} is not supported; want {want}")
    missing = [key for key in REQUIRED if key not in hf]
    if missing:
        raise ValueError(f"config.json: {', '.join(missing)} missing; is this a Llama's config?")
    heads = hf["num_attention_heads"]
    theta, scaling = _rope(hf)
    return LlamaConfig(
        vocab_size=hf["vocab_size"], width=hf["hidden_size"], depth=hf["num_hidden_layers"],
        mlp_width=hf["intermediate_size"], num_heads=heads,
        num_kv_heads=hf.get("num_key_value_heads") or heads,
        head_width=hf.get("head_dim") or hf["hidden_size"] // heads,
        norm_eps=hf.get("rms_norm_eps", 1e-6), rope_theta=theta, rope_scaling=scaling,
        tie_embeddings=hf.get("tie_word_embeddings", False), dtype=dtype, remat=remat,
    )  # fmt: skip


def config_to_hf(base: Mapping[str, Any], cfg: LlamaConfig, dtype: str) -> dict[str, Any]:
    """`config.json` of an export: the base's, with our shapes; unknown keys are kept.

    Args:
      base: the config the model came from; {} for a model trained from scratch, to which
        `bos_token_id`, `eos_token_id` and `max_position_embeddings` may be given here.
      dtype: of the exported tensors.
    """
    out = dict(base)
    out.pop("torch_dtype", None)  # the name of `dtype` before transformers 5
    if not {"rope_parameters", "rope_scaling", "rope_theta"} & set(base):
        out |= _rope_to_hf(cfg)
    out |= dict(
        architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu",
        vocab_size=cfg.vocab_size, hidden_size=cfg.width, num_hidden_layers=cfg.depth,
        intermediate_size=cfg.mlp_width, num_attention_heads=cfg.num_heads,
        num_key_value_heads=cfg.num_kv_heads, head_dim=cfg.head_width,
        rms_norm_eps=cfg.norm_eps, tie_word_embeddings=cfg.tie_embeddings, dtype=dtype,
    )  # fmt: skip
    return out


def _rope(hf: Mapping[str, Any]) -> tuple[float, Llama3 | None]:
    new, old = hf.get("rope_parameters"), hf.get("rope_scaling")
    rope = dict(new or old or {})
    theta = float(rope.get("rope_theta") or hf.get("rope_theta") or 10_000.0)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise ValueError(f"config.json: rope_type={kind!r} is not supported; want default, llama3")
    try:
        return theta, Llama3(
            factor=float(rope["factor"]),
            low_freq_factor=float(rope["low_freq_factor"]),
            high_freq_factor=float(rope["high_freq_factor"]),
            original_length=int(rope["original_max_position_embeddings"]),
        )
    except KeyError as e:
        raise ValueError(f"config.json: rope_type llama3 without {e}") from None


def _rope_to_hf(cfg: LlamaConfig) -> dict[str, Any]:
    """Both spellings: transformers 5 reads `rope_parameters`, older readers the other two."""
    if (s := cfg.rope_scaling) is None:
        return dict(
            rope_parameters=dict(rope_type="default", rope_theta=cfg.rope_theta),
            rope_theta=cfg.rope_theta,
        )
    scaling = dict(
        rope_type="llama3", factor=s.factor, low_freq_factor=s.low_freq_factor,
        high_freq_factor=s.high_freq_factor, original_max_position_embeddings=s.original_length,
    )  # fmt: skip
    return dict(
        rope_parameters=scaling | dict(rope_theta=cfg.rope_theta),
        rope_scaling=scaling,
        rope_theta=cfg.rope_theta,
    )
