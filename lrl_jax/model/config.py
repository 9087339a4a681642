"""Everything that decides the shape or the arithmetic of the decoder; families are values of it."""

import dataclasses
from typing import Literal

from lrl_jax.model import quantize
from lrl_jax.model.arithmetic import ACTIVATIONS
from lrl_jax.model.lora import LoraConfig
from lrl_jax.model.remat import LADDER, Remat
from lrl_jax.model.rope import LongRope, Rope, Scaling

Dtype = Literal["float32", "bfloat16"]

VOCAB_MULTIPLE = 128  # the vocabulary is padded to whole TPU lanes, and so to any mesh up to 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """What tells layers of one model from one another.

    Attributes:
      window: how many tokens a token sees, itself included; None: all of its segment so far.
    """

    window: int | None
    rope: Rope


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """A decoder. What has a default is what Llama has; the other families differ there.

    Attributes:
      vocab_size: the tokenizer's size; embedding arrays have `padded_vocab_size` rows.
      family: whose checkpoints it is read from and written to, a key of `families.FAMILIES`.
      rotary_width: how many dimensions of a head positions turn; None: all.
      window: how many tokens a token of a local layer sees, itself included; None: no layer is.
      local_layers: which layers are local, a value for each; (): all, if there is a window.
      local_rope_theta: of local layers, unscaled; None: theirs is that of all.
      activation: of the gate, a key of `arithmetic.ACTIVATIONS`.
      qkv_bias: queries, keys and values have biases (Qwen2).
      qk_norm: queries and keys are normed by head (Qwen3, Gemma 3).
      centred_norms: norms store what their scale has more than 1 (Gemma).
      sandwich_norms: what attention and feed-forward add to the stream is normed (Gemma 2).
      scaled_embedding: the stream begins as sqrt(width) times the embedding (Gemma).
      query_scalar: scores are divided by its square root; None: `head_width`.
      attention_softcap, logit_softcap: bounds of scores and of logits (Gemma 2); None: none.
      dtype: of activations and of matrix products; parameters keep their own dtype.
      remat: what a layer keeps for its backward pass, a key of `remat.LADDER`.
      lora: adapters beside the weights, if any.
      frozen: weights that are stored in fewer bits, if any.
      attention: a key of `attention.IMPLEMENTATIONS`, or "auto": by the machine that is compiled
        for.
      sequence_parallel: between blocks, tokens are split over the mesh's tensor axis.
      unroll: layers compiled one after another in a step of the scan; at `depth` a small model
        trains a tenth faster, and compiles as many times slower.
    """

    vocab_size: int
    width: int
    depth: int
    mlp_width: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    norm_eps: float
    rope_theta: float
    rope_scaling: Scaling | None = None
    tie_embeddings: bool = False
    family: str = "llama"
    rotary_width: int | None = None
    window: int | None = None
    local_layers: tuple[bool, ...] = ()
    local_rope_theta: float | None = None
    activation: str = "silu"
    qkv_bias: bool = False
    qk_norm: bool = False
    centred_norms: bool = False
    sandwich_norms: bool = False
    scaled_embedding: bool = False
    query_scalar: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    dtype: Dtype = "bfloat16"
    remat: Remat = "nothing"
    lora: LoraConfig | None = None
    frozen: quantize.Storage | None = None
    attention: str = "auto"
    sequence_parallel: bool = False
    unroll: int = 1

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads={self.num_heads} must be a multiple of num_kv_heads={self.num_kv_heads}"
            )
        if self.remat not in LADDER:
            raise ValueError(f"remat={self.remat!r}; want one of {', '.join(LADDER)}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation={self.activation!r}; want one of {', '.join(ACTIVATIONS)}"
            )
        if self.window is not None and self.window < 1:
            raise ValueError(f"window={self.window}; a token sees at least itself: want 1 or more")
        if len(self.local_layers) not in (0, self.depth):
            raise ValueError(
                f"local_layers says {len(self.local_layers)} layers, depth={self.depth}; want a "
                "value for each layer, or none"
            )
        self._check_rotary()

    def _check_rotary(self) -> None:
        turning = self.whole_rope.width
        if turning % 2:
            raise ValueError(f"head_width={turning} must be even: rotary positions pair it")
        if not 0 < turning <= self.head_width:
            raise ValueError(f"rotary_width={turning}; a head has {self.head_width} dimensions")
        if isinstance(s := self.rope_scaling, LongRope):
            for name, factors in (("short", s.short), ("long", s.long)):
                if len(factors) != turning // 2:
                    raise ValueError(
                        f"rope_scaling has {len(factors)} {name} factors; rotary positions of "
                        f"{turning} dimensions want {turning // 2}"
                    )

    @property
    def padded_vocab_size(self) -> int:
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE

    @property
    def sizes(self) -> dict[str, int]:
        """Dimension letter -> size of the parameter arrays (V is padded; small ones are blocks)."""
        return dict(
            L=self.depth, D=self.width, F=self.mlp_width, V=self.padded_vocab_size,
            N=self.num_heads, K=self.num_kv_heads, H=self.head_width,
            R=self.lora.rank if self.lora else 0,
            h=quantize.blocks(self.head_width), f=quantize.blocks(self.mlp_width),
        )  # fmt: skip

    @property
    def attention_scale(self) -> float:
        """What attention scores are multiplied by."""
        return (self.query_scalar or self.head_width) ** -0.5

    def seen(self, length: int) -> float:
        """How many tokens a token sees on average in a row of `length`, summed over layers."""
        local = self.local_layers or (True,) * self.depth
        near = min(self.window or length, length)  # a ramp up to the window, then all of it
        near = near * (1 - near / (2 * length))
        return sum(near if self.window and it else length / 2 for it in local)

    @property
    def whole_rope(self) -> Rope:
        """Rotary positions of the layers that are not local."""
        width = self.head_width if self.rotary_width is None else self.rotary_width
        return Rope(theta=self.rope_theta, width=width, scaling=self.rope_scaling)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of layer the model has: one, or whole and local ones in this order."""
        whole = Kind(window=None, rope=self.whole_rope)
        if self.window is None:
            return (whole,)
        rope = self.whole_rope
        if self.local_rope_theta is not None:
            rope = dataclasses.replace(rope, theta=self.local_rope_theta, scaling=None)
        local = Kind(window=self.window, rope=rope)
        has = (not all(self.local_layers), any(self.local_layers) or not self.local_layers)
        return tuple(kind for kind, wanted in zip((whole, local), has, strict=True) if wanted)
