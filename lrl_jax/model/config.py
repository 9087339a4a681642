"""Describes the shape and the arithmetic of a decoder; a model family is a set of these values."""

import dataclasses
from typing import Literal

from lrl_jax.model import quantize
from lrl_jax.model.arithmetic import ACTIVATIONS
from lrl_jax.model.lora import LoraConfig
from lrl_jax.model.remat import LADDER, Remat
from lrl_jax.model.rope import LongRope, NoPositions, Rope, Scaling

Dtype = Literal["float32", "bfloat16"]

NORMS = ("before", "after", "both")
# What the norm of queries and keys is computed over -> the names of its two parameters.
QK_NORMS = {"none": (), "head": ("q_norm_H", "k_norm_H"), "all heads": ("q_norm_NH", "k_norm_KH")}
VOCAB_MULTIPLE = 128  # pads the vocabulary to whole TPU lanes, which divides over up to 128 devices


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerKind:
    """Describes what may differ between the layers of one model."""

    window: int | None  # tokens that a token sees, itself included; None: all of its segment so far
    rope: Rope  # with the scaling `NoPositions` the layer has no rotary positions


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """Describes a decoder. The defaults are those of Llama; other families set other values."""

    vocab_size: int  # tokens; embedding arrays have `padded_vocab_size` rows
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
    family: str = "llama"  # the format of its checkpoints, a key of `families.FAMILIES`
    rotary_width: int | None = None  # dimensions of a head that are rotated; None means all
    # How many tokens a token of a local layer sees, itself included; None: no layer is local.
    window: int | None = None
    local_layers: tuple[bool, ...] = ()  # for each layer; () means all when `window` is set
    local_rope_theta: float | None = None  # unscaled theta of local layers; None: `rope_theta`
    # For each layer, whether it has no rotary positions (SmolLM3); () means that all have them.
    unrotated_layers: tuple[bool, ...] = ()
    activation: str = "silu"  # of the gate, a key of `arithmetic.ACTIVATIONS`
    qkv_bias: bool = False  # whether queries, keys and values have biases (Qwen2)
    # The norm of queries and keys: of each head (Qwen3, Gemma 3) or of all together (OLMo-2).
    qk_norm: Literal["none", "head", "all heads"] = "none"
    centred_norms: bool = False  # whether norms store their scale minus 1 (Gemma)
    # Norms of attention's and feed-forward's input, of their output (OLMo-2), or both (Gemma 2).
    norms: Literal["before", "after", "both"] = "before"
    scaled_embedding: bool = False  # whether embeddings are multiplied by sqrt(width) (Gemma)
    query_scalar: float | None = None  # scores are divided by its root; None means `head_width`
    attention_softcap: float | None = None  # soft cap of scores (Gemma 2)
    logit_softcap: float | None = None  # soft cap of logits (Gemma 2)
    dtype: Dtype = "bfloat16"  # of activations and matrix products; parameters keep their own
    remat: Remat = "nothing"  # what a layer keeps for its backward pass, a key of `remat.LADDER`
    lora: LoraConfig | None = None  # the adapters, if any
    frozen: quantize.Storage | None = None  # how frozen weights are stored in fewer bits, if so
    attention: str = "auto"  # a key of `attention.IMPLEMENTATIONS`; "auto" chooses by the machine
    sequence_parallel: bool = False  # splits tokens over the tensor axis between blocks
    # Layers compiled into one step of the scan; with `depth` a small model trains a tenth faster,
    # but takes `depth` times as long to compile.
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
    def padded_vocab_size(self) -> int:
        """Returns how many rows the embedding arrays have."""
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE

    @property
    def sizes(self) -> dict[str, int]:
        """Returns the size of each dimension letter in parameter arrays.

        V is the padded vocabulary. A small letter is the number of blocks of a quantised dimension.
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
        """Returns how many tokens a token sees on average in rows of `length`, over all layers."""
        near = min(self.window or length, length)  # counts grow until the window is full
        near = near * (1 - near / (2 * length))
        return sum(near if kind.window else length / 2 for kind in self.layers)

    @property
    def whole_rope(self) -> Rope:
        """Returns the rotary positions of layers that are not local."""
        width = self.head_width if self.rotary_width is None else self.rotary_width
        return Rope(theta=self.rope_theta, width=width, scaling=self.rope_scaling)

    @property
    def layers(self) -> tuple[LayerKind, ...]:
        """Returns the kind of each layer."""
        local = self.local_layers or (True,) * self.depth
        unrotated = self.unrotated_layers or (False,) * self.depth
        return tuple(map(self._kind, local, unrotated))

    @property
    def kinds(self) -> tuple[LayerKind, ...]:
        """Returns the distinct kinds of layer: global before local, rotated before unrotated."""
        every = [self._kind(local, still) for local in (False, True) for still in (False, True)]
        return tuple(dict.fromkeys(kind for kind in every if kind in self.layers))

    def _kind(self, local: bool, unrotated: bool) -> LayerKind:
        window, rope = self.window if local else None, self.whole_rope
        if window is not None and self.local_rope_theta is not None:
            rope = dataclasses.replace(rope, theta=self.local_rope_theta, scaling=None)
        if unrotated:
            rope = dataclasses.replace(rope, scaling=NoPositions())
        return LayerKind(window=window, rope=rope)
