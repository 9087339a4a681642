"""Low-rank adapters: which weights have one, what its two factors are called, how they start.

The adapter of `layers/q_DNH` is `layers/q_lora_DR` and `layers/q_lora_RNH`: x times the weight
becomes x q + scale (x A) B, with R the adapter's rank (LoRA, arXiv 2106.09685).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
    """What of a model is adapted.

    Attributes:
      names: parameters that have an adapter, such as "layers/q_DNH".
      rank: R, the width of an adapter.
      rank_stabilised: whether products are scaled by alpha / sqrt(rank) (arXiv 2312.03732).
    """

    names: tuple[str, ...]
    rank: int
    alpha: float
    rank_stabilised: bool = False

    @property
    def scale(self) -> float:
        """What an adapter's product is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


def factors(name: str) -> tuple[str, str]:
    """Names of the two factors of a weight's adapter; D is where it meets the stream.

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
    """Factors of an adapter that is nothing yet: A uniform up to fan_in**-0.5, B zero (PEFT)."""
    if not name.endswith("R"):
        return jnp.zeros(shape, jnp.float32)
    bound = math.prod(shape[1:-1]) ** -0.5  # all but the layer axis and R
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)
