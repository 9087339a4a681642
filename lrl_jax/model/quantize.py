"""Stores frozen weights in eight or four bits; each layer decodes its weights when it uses them.

Codes have the weight's own name and shape; the scales are a parameter of their own:

    int8  layers/q_DNH  layers/q_scale_NH    one scale for each output
    nf4   layers/q_DNH  layers/q_scale_DNh   one scale for each block of 64 along H (or F)

A small letter is the number of blocks of its dimension. Blocks lie along H or F and never along D,
so that codes and scales are split over the mesh as the weight would be
(docs/decisions/0011-quantised-base.md).
"""

from collections.abc import Mapping
import dataclasses
import functools
import statistics
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

Kind = Literal["bfloat16", "int8", "nf4"]

BLOCK = 64  # weights that share a scale (QLoRA, arXiv 2305.14314, section 3)
# Letters of a weight -> those of its output dimensions.
OUTPUTS = {"DNH": "NH", "DKH": "KH", "NHD": "D", "DF": "F", "FD": "D"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Storage:
    """Describes how frozen weights are stored.

    `int8` and `nf4` apply to the matrices of layers among `names`. Embeddings become bfloat16,
    because looking up one row would decode the whole table. Norms and biases are unchanged.
    """

    kind: Kind
    names: tuple[str, ...]  # the frozen parameters

    @property
    def scales(self) -> dict[str, str]:
        """Returns a mapping from the name of each quantised weight to the name of its scales.

        >>> Storage(kind="nf4", names=("embed_VD", "norm_D", "layers/q_DNH")).scales
        {'layers/q_DNH': 'layers/q_scale_DNh'}
        """
        if self.kind == "bfloat16":
            return {}
        coded = (name for name in self.names if name.rpartition("_")[2] in OUTPUTS)
        return {name: scale_name(name, self.kind) for name in coded}

    def dtype(self, name: str, other: str) -> str:
        """Returns the dtype in which a parameter is stored; `other` if this storage leaves it."""
        if is_scale(name):
            return "float32" if self.kind == "int8" else "bfloat16"
        if name in self.scales:
            return "int8" if self.kind == "int8" else "int4"
        matrix = name in self.names and name.rpartition("_")[2] in (*OUTPUTS, "VD", "DV")
        return "bfloat16" if matrix else other

    def stored(
        self, name: str, w: jax.Array, places: Mapping[str, jax.sharding.Sharding]
    ) -> dict[str, jax.Array]:
        """Returns a parameter in its stored form by name, and its scales if it is quantised."""
        scale = self.scales.get(name)
        if scale is None:
            return {name: w.astype(self.dtype(name, w.dtype.name))}
        codes, scales = _coder(scale, self.kind, places[name], places[scale])(w)
        return {name: codes, scale: scales}


def codebook() -> np.ndarray:
    """Returns the sixteen values of NormalFloat4, float32 (QLoRA, section 3 and appendix E).

    They are evenly spaced quantiles of a normal distribution, eight above zero and seven below, and
    zero itself, scaled so that the largest is 1. The outermost quantile is the mean of the two that
    eight and seven values would give.
    """
    inverse = statistics.NormalDist().inv_cdf
    end = 1 - (1 / 32 + 1 / 30) / 2
    above = [inverse(p) for p in np.linspace(end, 0.5, 9)[:-1]]
    below = [-inverse(p) for p in np.linspace(end, 0.5, 8)[:-1]]
    return np.sort(np.array([*above, 0.0, *below]) / max(above)).astype(np.float32)


def blocks(size: int) -> int:
    """Returns how many blocks of 64 weights, or of the largest divisor below, a dimension has.

    >>> blocks(11008), blocks(128), blocks(96), blocks(8)
    (172, 2, 2, 1)
    """
    return size // max(n for n in range(1, BLOCK + 1) if size % n == 0)


def scale_name(name: str, kind: Kind) -> str:
    """Returns the name under which a weight's scales are stored.

    >>> scale_name("layers/q_DNH", "int8"), scale_name("layers/down_FD", "nf4")
    ('layers/q_scale_NH', 'layers/down_scale_fD')
    """
    stem, _, letters = name.rpartition("_")
    if kind == "int8":
        return f"{stem}_scale_{OUTPUTS[letters]}"
    return f"{stem}_scale_{letters.replace('H', 'h').replace('F', 'f')}"


def is_scale(name: str) -> bool:
    """Tells whether a parameter holds the scales of another one; scales are never trained."""
    return "_scale_" in name


@functools.lru_cache
def _coder(scale: str, kind: Kind, *places: jax.sharding.Sharding):
    """Returns a compiled encoder of a stacked weight; going by layers takes little extra memory."""
    code = functools.partial(encode, scale_letters=scale.rpartition("_")[2], kind=kind)
    return jax.jit(lambda w: jax.lax.map(code, w), out_shardings=places)


# ---------------------------------------------------------------------------- one layer
def encode(w: jax.Array, scale_letters: str, kind: Kind) -> tuple[jax.Array, jax.Array]:
    """Returns the codes of one layer's weight, in its shape, and its scales.

    >>> codes, scale = encode(jnp.array([[0.5, -2.0], [1.0, 0.0]]), "F", "int8")
    >>> codes.tolist(), (scale * 127).tolist()
    ([[64, -127], [127, 0]], [1.0, 2.0])
    """
    w = w.astype(jnp.float32)
    if kind == "int8":
        scale = jnp.max(jnp.abs(w), axis=range(w.ndim - len(scale_letters))) / 127.0
        outputs = (None,) * (w.ndim - scale.ndim)
        return jnp.round(w / _nonzero(scale)[outputs]).astype(jnp.int8), scale
    axis = _blocked(scale_letters)
    parts = w.reshape(*w.shape[:axis], blocks(w.shape[axis]), -1, *w.shape[axis + 1 :])
    # Scales are bfloat16, half the bytes of float32; codes are computed from the rounded scale.
    scale = jnp.max(jnp.abs(parts), axis=axis + 1).astype(jnp.bfloat16)
    shares = w / _nonzero(_spread(scale, axis, w.shape[axis]))
    values = codebook()
    borders = jnp.asarray((values[1:] + values[:-1]) / 2)
    # int4 and not uint4, because checkpoints can store int4.
    return (jnp.searchsorted(borders, shares) - 8).astype(jnp.int4), scale


def decode(codes: jax.Array, scale: jax.Array, scale_letters: str, kind: Kind) -> jax.Array:
    """Decodes a weight to float32."""
    if kind == "int8":
        outputs = (None,) * (codes.ndim - scale.ndim)
        return codes.astype(jnp.float32) * scale[outputs]
    axis = _blocked(scale_letters)
    return _look_up(codes) * _spread(scale, axis, codes.shape[axis])


def _look_up(codes: jax.Array) -> jax.Array:
    """Returns the values of codes -8 to 7, by a chain of selects because TPUs have no fast gather.

    The barrier makes the table depend on the codes of this layer. Without it XLA moves the table
    out of the loop over layers and stores each of its values as an array as large as the weight:
    ten times the memory of the decoded weight (measured).
    """
    table = jnp.asarray(codebook()), jnp.arange(-8, 8, dtype=jnp.int8)
    (values, keys), codes = jax.lax.optimization_barrier((table, codes))
    code, out = codes.astype(jnp.int8), jnp.broadcast_to(values[0], codes.shape)
    for i in range(1, 16):
        out = jnp.where(code == keys[i], values[i], out)
    return out


def _blocked(scale_letters: str) -> int:
    return next(i for i, letter in enumerate(scale_letters) if letter.islower())


def _spread(scale: jax.Array, axis: int, size: int) -> jax.Array:
    return jnp.repeat(scale.astype(jnp.float32), size // scale.shape[axis], axis)


def _nonzero(scale: jax.Array) -> jax.Array:
    """Replaces the scale 0 of an all-zero block by 1, so that it can be divided by."""
    return jnp.where(scale == 0, 1.0, scale)
