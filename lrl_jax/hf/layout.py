"""Says how a Hugging Face checkpoint is laid out, once for import and export.

Each row names our parameter, the HF tensor, and how many of our trailing dimensions are HF's `out`
dimension. `{l}` marks a tensor of one layer; ours are stacked along a leading L axis.
"""

import dataclasses
import functools
import math

import jax
import numpy as np

from lrl_jax.hf.families import FAMILIES
from lrl_jax.model import llama, sharding
from lrl_jax.model.llama import LlamaConfig

Index = tuple[slice, ...]


@dataclasses.dataclass(frozen=True)
class LayoutRow:
    """Describes one parameter in both layouts; HF linear weights are [out, in]."""

    ours: str  # name in the flat dict of parameters
    hf: str  # tensor name in the safetensors files
    num_out: int  # how many trailing letters are HF's `out` dimension (0: no transpose)

    @property
    def letters(self) -> str:
        """Returns the dimension letters of one layer's array."""
        return sharding.letters(self.ours).removeprefix("L")

    @property
    def stacked(self) -> bool:
        """Tells whether our parameter has a leading L axis."""
        return "{l}" in self.hf

    @property
    def outer(self) -> int:
        """Returns the index in `letters` of the dimension whose ranges are byte ranges in HF."""
        return len(self.letters) - self.num_out if self.num_out else 0


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Describes an HF tensor: a parameter of one layer, or several in a row along `out`."""

    rows: tuple[LayoutRow, ...]
    l: int  # 0 where there are no layers
    shape: tuple[int, ...]


# Llama's names; other families rename some and lack others (`families.FAMILIES`).
ROWS = (
    LayoutRow("embed_VD", "model.embed_tokens.weight", 0),
    LayoutRow("layers/attn_norm_D", "model.layers.{l}.input_layernorm.weight", 0),
    LayoutRow("layers/q_DNH", "model.layers.{l}.self_attn.q_proj.weight", 2),
    LayoutRow("layers/k_DKH", "model.layers.{l}.self_attn.k_proj.weight", 2),
    LayoutRow("layers/v_DKH", "model.layers.{l}.self_attn.v_proj.weight", 2),
    LayoutRow("layers/q_bias_NH", "model.layers.{l}.self_attn.q_proj.bias", 2),
    LayoutRow("layers/k_bias_KH", "model.layers.{l}.self_attn.k_proj.bias", 2),
    LayoutRow("layers/v_bias_KH", "model.layers.{l}.self_attn.v_proj.bias", 2),
    LayoutRow("layers/q_norm_H", "model.layers.{l}.self_attn.q_norm.weight", 0),
    LayoutRow("layers/k_norm_H", "model.layers.{l}.self_attn.k_norm.weight", 0),
    LayoutRow("layers/q_norm_NH", "model.layers.{l}.self_attn.q_norm.weight", 2),
    LayoutRow("layers/k_norm_KH", "model.layers.{l}.self_attn.k_norm.weight", 2),
    LayoutRow("layers/o_NHD", "model.layers.{l}.self_attn.o_proj.weight", 1),
    LayoutRow("layers/attn_out_norm_D", "model.layers.{l}.attn_out_norm.weight", 0),
    LayoutRow("layers/mlp_norm_D", "model.layers.{l}.post_attention_layernorm.weight", 0),
    LayoutRow("layers/gate_DF", "model.layers.{l}.mlp.gate_proj.weight", 1),
    LayoutRow("layers/up_DF", "model.layers.{l}.mlp.up_proj.weight", 1),
    LayoutRow("layers/down_FD", "model.layers.{l}.mlp.down_proj.weight", 1),
    LayoutRow("layers/mlp_out_norm_D", "model.layers.{l}.mlp_out_norm.weight", 0),
    LayoutRow("norm_D", "model.norm.weight", 0),
    LayoutRow("unembed_DV", "lm_head.weight", 1),
)


@functools.lru_cache
def rows(cfg: LlamaConfig) -> tuple[LayoutRow, ...]:
    """Returns the rows of a checkpoint of this config: all the model's weights, but no adapters."""
    names, parameters = FAMILIES[cfg.family].tensors, llama.abstract(cfg)
    return tuple(
        dataclasses.replace(row, hf=names.get(row.ours, row.hf))
        for row in ROWS
        if row.ours in parameters
    )


def tensors(cfg: LlamaConfig) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint, by HF's name."""
    out = {}
    for name, rows_of_tensor in _by_tensor(cfg).items():
        shapes = [hf_shape(row, cfg) for row in rows_of_tensor]
        shape = (sum(out_size for out_size, *_ in shapes), *shapes[0][1:])
        for l in range(cfg.depth if rows_of_tensor[0].stacked else 1):
            out[name.format(l=l)] = Tensor(rows_of_tensor, l, shape)
    return out


def hf_shape(row: LayoutRow, cfg: LlamaConfig) -> tuple[int, ...]:
    """Returns the shape of what a row has of its HF tensor; the vocabulary is unpadded there."""
    sizes = [_sizes(cfg)[letter] for letter in row.letters]
    if not row.num_out:
        return tuple(sizes)
    inner = sizes[: -row.num_out]
    return (math.prod(sizes[-row.num_out :]), *([math.prod(inner)] if inner else []))


def hf_region(row: LayoutRow, index: Index, cfg: LlamaConfig) -> Index:
    """Returns the region of the HF tensor that holds the region `index` of our one-layer array."""
    if not row.num_out:
        return index
    sizes = [_sizes(cfg)[letter] for letter in row.letters]
    cut = len(sizes) - row.num_out
    neighbours = _by_tensor(cfg)[row.hf]
    before = sum(hf_shape(other, cfg)[0] for other in neighbours[: neighbours.index(row)])
    out = _merge(index[cut:], sizes[cut:])
    out = slice(before + out.start, before + out.stop)
    return (out, _merge(index[:cut], sizes[:cut])) if cut else (out,)


def to_ours(w: np.ndarray, row: LayoutRow, shape: tuple[int, ...]) -> np.ndarray:
    """Returns an HF tensor, or `hf_region` of it, as our array of this shape."""
    return (w.T if row.num_out else w).reshape(shape)


def to_hf(w: np.ndarray | jax.Array, row: LayoutRow) -> np.ndarray | jax.Array:
    """Returns one layer's array, or a range of its `outer` dimension, as rows of the HF tensor.

    Of numpy or of jax; the vocabulary's padding is the caller's to leave out.
    """
    if not row.num_out:
        return w
    inner = w.shape[: -row.num_out]
    return w.reshape(math.prod(inner), -1).T if inner else w.reshape(-1)


@functools.lru_cache
def _by_tensor(cfg: LlamaConfig) -> dict[str, tuple[LayoutRow, ...]]:
    """Returns HF's name (with `{l}` in it) -> the rows that lie in that tensor, in order."""
    out: dict[str, tuple[LayoutRow, ...]] = {}
    for row in rows(cfg):
        out[row.hf] = (*out.get(row.hf, ()), row)
    return out


def _sizes(cfg: LlamaConfig) -> dict[str, int]:
    return cfg.sizes | {"V": cfg.vocab_size}


def _merge(index: Index, sizes: list[int]) -> slice:
    """Returns the flat slice of neighbouring dimensions, of which only the first may be cut."""
    inner = math.prod(sizes[1:])
    assert all(
        s.indices(size) == (0, size, 1) for s, size in zip(index[1:], sizes[1:], strict=True)
    )
    start, stop, _ = index[0].indices(sizes[0])
    return slice(start * inner, stop * inner)
