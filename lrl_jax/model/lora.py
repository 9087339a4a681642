"""Adds low-rank adapters to weights: names and initialises their two factors, and merges them.

The adapter of `layers/q_DNH` is `layers/q_lora_DR` and `layers/q_lora_RNH`: x times the weight
becomes x q + scale (x A) B, with R the adapter's rank (LoRA, arXiv 2106.09685).
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import re

import jax
import jax.numpy as jnp

from lrl_jax.model import quantize


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Describes which weights of a model have adapters, and their shape."""

    names: tuple[str, ...]  # parameters that have an adapter, such as "layers/q_DNH"
    rank: int  # R, the width of an adapter
    alpha: float
    rank_stabilised: bool = False  # scales products by alpha / sqrt(rank) (arXiv 2312.03732)

    @property
    def scale(self) -> float:
        """Returns the factor that an adapter's product is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


def factors(name: str) -> tuple[str, str]:
    """Returns the names of the two factors of a weight's adapter.

    >>> factors("layers/q_DNH")
    ('layers/q_lora_DR', 'layers/q_lora_RNH')
    >>> factors("layers/down_FD")
    ('layers/down_lora_FR', 'layers/down_lora_RD')
    """
    stem, _, letters = name.rpartition("_")
    inner = "D" if letters.startswith("D") else letters.removesuffix("D")
    outer = letters.removeprefix(inner)
    return f"{stem}_lora_{inner}R", f"{stem}_lora_R{outer}"


def init(name: str, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
    """Returns one factor of an adapter that adds nothing at first, as PEFT initialises it.

    The first factor, A, is uniform within +-fan_in**-0.5; the second, B, is zero.
    """
    if not name.endswith("R"):
        return jnp.zeros(shape, jnp.float32)
    bound = math.prod(shape[1:-1]) ** -0.5  # fan_in: all dimensions but the layer axis and R
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def matching(pattern: str, names: Sequence[str]) -> tuple[str, ...]:
    """Returns the weights of layers whose name `pattern` matches (`re.search`), one at least.

    >>> matching("q_|down", ["embed_VD", "layers/q_DNH", "layers/mlp_norm_D", "layers/down_FD"])
    ('layers/q_DNH', 'layers/down_FD')
    """
    weights = [name for name in names if name.rpartition("_")[2] in quantize.OUTPUTS]
    try:
        matches = tuple(name for name in weights if re.search(pattern, name))
    except re.error as e:
        raise ValueError(f"lora.match: {pattern!r} is not a regular expression: {e}") from None
    if matches:
        return matches
    raise ValueError(
        f"lora.match: {pattern!r} finds no weight of a layer; there are {', '.join(weights)}"
    )


def merge(params: Mapping[str, jax.Array], lora: LoraConfig) -> dict[str, jax.Array]:
    """Merges adapters into their weights, so that the model computes the same without them.

    Merged weights are float32, the dtype of the sum; other parameters are returned unchanged.
    """
    out = {name: w for name, w in params.items() if "_lora_" not in name}
    for name in lora.names:
        first, second = (params[factor] for factor in factors(name))
        merged = jax.jit(_merged, out_shardings=out[name].sharding)
        out[name] = merged(out[name], first, second, jnp.float32(lora.scale))
    return out


def _merged(w: jax.Array, first: jax.Array, second: jax.Array, scale: jax.Array) -> jax.Array:
    """Returns w + scale (A B) for all layers; the product sums over R alone."""
    exact = jax.lax.Precision.HIGHEST  # a TPU would multiply in bfloat16 by default
    first_LXR = first.reshape(first.shape[0], -1, first.shape[-1])
    second_LRY = second.reshape(*second.shape[:2], -1)
    product = jnp.einsum("lxr,lry->lxy", first_LXR, second_LRY, precision=exact)
    return w.astype(jnp.float32) + scale * product.reshape(w.shape)
