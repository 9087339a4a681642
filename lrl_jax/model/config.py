"""Everything that decides the shape or the arithmetic of the decoder; families are values of it."""

import dataclasses
from typing import Literal

from lrl_jax.model import quantize
from lrl_jax.model.arithmetic import ACTIVATIONS
from lrl_jax.model.lora import LoraConfig
from lrl_jax.model.remat import LADDER, Remat
from lrl_jax.model.rope import LongRope, NoPositions, Rope, Scaling

Dtype = Literal["float32", "bfloat16"]

NORMS = ("before", "after", "both")
# What a norm of queries and of keys goes over -> the names of the two parameters.
QK_NORMS = {"none": (), "head": ("q_norm_H", "k_norm_H"), "all heads": ("q_norm_NH", "k_norm_KH")}
VOCAB_MULTIPLE = 128  # the vocabulary is padded to whole TPU lanes, and so to any mesh up to 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerKind:
    """Describes what tells the layers of one model from one another.

    Attributes:
      window: how many tokens a token sees, itself included; None: all of its segment so far.
      rope: its rotary positions; with `NoPositions` as their scaling, none.
    """

    window: int | None
    rope: Rope


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """Describes a decoder. Defaults are what Llama has; the other families differ there.

    Attributes:
      vocab_size: the tokenizer's size; embedding arrays have `padded_vocab_size` rows.
      family: whose checkpoints it is read from and written to, a key of `families.FAMILIES`.
      rotary_width: how many dimensions of a head positions turn; None: all.
      window: how many tokens a token of a local layer sees, itself included; None: no layer is.
      local_layers: which layers are local, a value for each; (): all, if there is a window.
      local_rope_theta: of local layers, unscaled; None: theirs is that of all.
      unrotated_layers: which layers have no rotary positions, a value for each (SmolLM3); (): all
        layers have them.
      activation: of the gate, a key of `arithmetic.ACTIVATIONS`.
      qkv_bias: queries, keys and values have biases (Qwen2).
      qk_norm: what the norm of queries and keys goes over, a key of QK_NORMS: each "head" (Qwen3,
        Gemma 3) or "all heads" (OLMo-2).
      centred_norms: norms store what their scale has more than 1 (Gemma).
      norms: where attention and feed-forward have a norm: "before", on what they read; "after", on
        what they add to the stream (OLMo-2); or on "both" sides (Gemma 2).
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
    unrotated_layers: tuple[bool, ...] = ()
    activation: str = "silu"
    qkv_bias: bool = False
    qk_norm: Literal["none", "head", "all heads"] = "none"
    centred_norms: bool = False
    norms: Literal["before", "after", "both"] = "before"
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
        for name, allowed in (
            ("remat", LADDER), ("activation", ACTIVATIONS), ("qk_norm", QK_NORMS), ("norms", NORMS)
        ):  # fmt: skip
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name}={value!r}; want one of {', '.join(allowed)}")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window={self.window}; a token sees at least itself: want 1 or more")
        for name in ("local_layers", "unrotated_layers"):
            if (count := len(getattr(self, name))) not in (0, self.depth):
                raise ValueError(
                    f"{name} says {count} layers, depth={self.depth}; want a value for each layer, "
                    "or none"
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
    def norms_before(self) -> bool:
        """Tells whether attention and feed-forward read the stream through a norm."""
        return self.norms in ("before", "both")

    @property
    def norms_after(self) -> bool:
        """Tells whether what attention and feed-forward add to the stream goes through a norm."""
        return self.norms in ("after", "both")

    @property
    def padded_vocab_size(self) -> int:
        """Returns how many rows the embedding arrays have."""
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE

    @property
    def sizes(self) -> dict[str, int]:
        """Returns the size of each dimension letter in parameter arrays.

        V is padded; small letters count the blocks of a quantised dimension.
        """
        return dict(
            L=self.depth, D=self.width, F=self.mlp_width, V=self.padded_vocab_size,
            N=self.num_heads, K=self.num_kv_heads, H=self.head_width,
            R=self.lora.rank if self.lora else 0,
            h=quantize.blocks(self.head_width), f=quantize.blocks(self.mlp_width),
        )  # fmt: skip

    @property
    def attention_scale(self) -> float:
        """Returns what attention scores are multiplied by."""
        return (self.query_scalar or self.head_width) ** -0.5

    def seen(self, length: int) -> float:
        """Returns how many tokens a token of a row sees on average, summed over layers.

        Args:
          length: of the row, in tokens.
        """
        near = min(self.window or length, length)  # a ramp up to the window, then all of it
        near = near * (1 - near / (2 * length))
        return sum(near if kind.window else length / 2 for kind in self.layers)

    @property
    def whole_rope(self) -> Rope:
        """Returns the rotary positions of the layers that are not local."""
        width = self.head_width if self.rotary_width is None else self.rotary_width
        return Rope(theta=self.rope_theta, width=width, scaling=self.rope_scaling)

    @property
    def local_rope(self) -> Rope:
        """Returns the rotary positions of local layers."""
        if self.local_rope_theta is None:
            return self.whole_rope
        return dataclasses.replace(self.whole_rope, theta=self.local_rope_theta, scaling=None)

    @property
    def layers(self) -> tuple[LayerKind, ...]:
        """Returns the kind of each layer."""
        local = self.local_layers or (True,) * self.depth
        unrotated = self.unrotated_layers or (False,) * self.depth
        return tuple(map(self._kind, local, unrotated))

    @property
    def kinds(self) -> tuple[LayerKind, ...]:
        """Returns the kinds of layer the model has: whole before local, rotated before not."""
        every = [self._kind(local, still) for local in (False, True) for still in (False, True)]
        return tuple(dict.fromkeys(kind for kind in every if kind in self.layers))

    def _kind(self, local: bool, unrotated: bool) -> LayerKind:
        window = self.window if local else None
        rope = self.whole_rope if window is None else self.local_rope
        if unrotated:
            rope = dataclasses.replace(rope, scaling=NoPositions())
        return LayerKind(window=window, rope=rope)
