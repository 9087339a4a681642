"""Llama decoder: grouped-query attention, rotary positions, SwiGLU.

    params = init(cfg, jax.random.key(0))  # {"embed_VD": ..., "layers/q_DNH": ..., ...}
    logits_BTV = bind(cfg, params)(tokens_BT, segments_BT, positions_BT)

Parameters live in a flat dict, the one form that checkpoints, optimizers and sharding know;
`bind` dresses it as an NNX module. A name ends in its shape; leaves under "layers/" are
stacked along a leading L axis and scanned.

Shape suffixes (the whole package uses these letters and no others):
  B batch    T query position   S key position   L layer
  D model    F feed-forward     V vocabulary     W new vocabulary
  N query heads   K key/value heads   G = N // K   H head width   R adapter rank
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Literal

from flax import nnx
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from lrl_jax.model import attention, sharding
from lrl_jax.model import lora as adapters
from lrl_jax.model.cache import Cache
from lrl_jax.model.lora import Lora

Params = dict[str, jax.Array]
Dtype = Literal["float32", "bfloat16"]
Remat = Literal["nothing", "qkv", "projections", "dots", "full", "offload"]

VOCAB_MULTIPLE = 128  # the vocabulary is padded to whole TPU lanes, and so to any mesh up to 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Llama 3.1 frequency scaling."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_length: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """Everything that decides the shape or the arithmetic of the network.

    Attributes:
      vocab_size: the tokenizer's size; embedding arrays have `padded_vocab_size` rows.
      dtype: of activations and of matrix products; parameters keep their own dtype.
      remat: what a layer keeps for its backward pass, a key of LADDER.
      lora: adapters beside the weights, if any.
      attention: "auto" chooses by `jax.default_backend()`; compiling for another machine
        names it (a key of `attention.IMPLEMENTATIONS`).
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
    rope_scaling: RopeScaling | None = None
    tie_embeddings: bool = False
    dtype: Dtype = "bfloat16"
    remat: Remat = "nothing"
    lora: Lora | None = None
    attention: str = "auto"
    unroll: int = 1

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads={self.num_heads} must be a multiple of num_kv_heads={self.num_kv_heads}"
            )
        if self.head_width % 2:
            raise ValueError(f"head_width={self.head_width} must be even: rotary positions pair it")
        if self.remat not in LADDER:
            raise ValueError(f"remat={self.remat!r}; want one of {', '.join(LADDER)}")

    @property
    def padded_vocab_size(self) -> int:
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE

    @property
    def sizes(self) -> dict[str, int]:
        """Dimension letter -> size of the parameter arrays (V is padded)."""
        return dict(
            L=self.depth, D=self.width, F=self.mlp_width, V=self.padded_vocab_size,
            N=self.num_heads, K=self.num_kv_heads, H=self.head_width,
            R=self.lora.rank if self.lora else 0,
        )  # fmt: skip


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    What is named by `checkpoint_name` is what the ladder of `remat` chooses from.
    """

    def __init__(self, cfg: LlamaConfig, params: Mapping[str, jax.Array]):
        self.cfg = cfg
        for name in layer_names(cfg):
            setattr(self, name, nnx.Param(params[f"layers/{name}"]))

    def __call__(self, x_BTD, segments_BT, rope_BTH) -> jax.Array:
        """One layer over whole rows; tokens of one segment see those before them."""
        x_BTD = checkpoint_name(x_BTD, "stream")
        q_BTNH, k_BSKH, v_BSKH = self.project(x_BTD, rope_BTH)
        out_BTNH = attention.attention(q_BTNH, k_BSKH, v_BSKH, segments_BT, self.cfg.attention)
        return self.finish(x_BTD, out_BTNH)

    def extend(self, x_BTD, positions_BT, rope_BTH, cache: Cache, l) -> tuple[jax.Array, Cache]:
        """One layer over tokens that follow those in the cache; `l` is the layer's index."""
        q_BTNH, k_BTKH, v_BTKH = self.project(x_BTD, rope_BTH)
        cache = cache.write(l, positions_BT, k_BTKH, v_BTKH)
        k_BSKH, v_BSKH = cache.read(l)
        mask_BTS = cache.visible(positions_BT)
        out_BTNH = attention.masked(q_BTNH, k_BSKH, v_BSKH, mask_BTS)
        return self.finish(x_BTD, out_BTNH), cache

    def project(self, x_BTD, rope_BTH) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values of the normed stream, the first two rotated."""
        y_BTD = self.norm("attn_norm_D", x_BTD)
        q_BTNH = rotate(sharding.heads(self.times("q_DNH", y_BTD)), rope_BTH)
        k_BTKH = rotate(sharding.heads(self.times("k_DKH", y_BTD)), rope_BTH)
        v_BTKH = sharding.heads(self.times("v_DKH", y_BTD))
        return (
            checkpoint_name(q_BTNH, "q"),
            checkpoint_name(k_BTKH, "k"),
            checkpoint_name(v_BTKH, "v"),
        )

    def finish(self, x_BTD, out_BTNH) -> jax.Array:
        """Adds attention's output to the stream, then the feed-forward half of the block."""
        out_BTNH = checkpoint_name(out_BTNH, "attention")
        out_BTD = checkpoint_name(self.times("o_NHD", out_BTNH), "o")
        x_BTD = sharding.stream(x_BTD + out_BTD)
        y_BTD = self.norm("mlp_norm_D", x_BTD)
        gate_BTF = checkpoint_name(sharding.inner(self.times("gate_DF", y_BTD)), "gate")
        up_BTF = checkpoint_name(sharding.inner(self.times("up_DF", y_BTD)), "up")
        inner_BTF = jax.nn.silu(gate_BTF) * up_BTF
        out_BTD = checkpoint_name(self.times("down_FD", inner_BTF), "down")
        return sharding.stream(x_BTD + out_BTD)

    def times(self, name: str, x_BTX) -> jax.Array:
        """x times a weight of this layer, its adapter included."""
        out_BTY = product(x_BTX, self.cast(name))
        if self.cfg.lora and f"layers/{name}" in self.cfg.lora.names:
            first, second = adapters.factors(name)
            low_BTR = product(x_BTX, self.cast(first))
            out_BTY += self.cfg.lora.scale * product(low_BTR, self.cast(second))
        return out_BTY

    def norm(self, name: str, x_BTD) -> jax.Array:
        return rms_norm(x_BTD, getattr(self, name)[...], self.cfg.norm_eps)

    def cast(self, name: str) -> jax.Array:
        """A weight in the compute dtype."""
        return getattr(self, name)[...].astype(self.cfg.dtype)


class Llama(nnx.Module):
    """Tokens to next-token logits."""

    def __init__(self, cfg: LlamaConfig, params: Mapping[str, jax.Array]):
        self.cfg = cfg
        self.embed_VD = nnx.Param(params["embed_VD"])
        self.layers = Block(cfg, params)
        self.norm_D = nnx.Param(params["norm_D"])
        if not cfg.tie_embeddings:
            self.unembed_DV = nnx.Param(params["unembed_DV"])

    def __call__(self, tokens_BT, segments_BT, positions_BT) -> jax.Array:
        """Returns float32 logits, [B, T, vocab_size]."""
        return self.logits(self.hidden(tokens_BT, segments_BT, positions_BT))

    def hidden(self, tokens_BT, segments_BT, positions_BT) -> jax.Array:
        """Returns the final normed residual stream, [B, T, D].

        Segment 0 is padding; tokens see only earlier tokens of their own segment.
        """
        cfg = self.cfg
        rope_BTH = rope(positions_BT, cfg)

        def step(x_BTD, layer):
            return layer(x_BTD, segments_BT, rope_BTH), None

        x_BTD, _ = jax.lax.scan(
            rematerialised(step, cfg), self.embed(tokens_BT), self.layers, unroll=cfg.unroll
        )
        return rms_norm(x_BTD, self.norm_D[...], cfg.norm_eps)

    def extend(self, tokens_BT, positions_BT, cache: Cache) -> tuple[jax.Array, Cache]:
        """`hidden` of tokens that follow those in the cache, and the longer cache."""
        rope_BTH = rope(positions_BT, self.cfg)

        def step(carry, scanned):
            layer, l = scanned
            return layer.extend(carry[0], positions_BT, rope_BTH, carry[1], l), None

        scanned = (self.layers, jnp.arange(self.cfg.depth))
        (x_BTD, cache), _ = jax.lax.scan(step, (self.embed(tokens_BT), cache), scanned)
        return rms_norm(x_BTD, self.norm_D[...], self.cfg.norm_eps), cache

    def decode(self, tokens_BT, positions_BT, cache: Cache) -> tuple[jax.Array, Cache]:
        """Logits [B, T, vocab_size] of tokens that follow those in the cache."""
        x_BTD, cache = self.extend(tokens_BT, positions_BT, cache)
        return self.logits(x_BTD), cache

    def embed(self, tokens_BT) -> jax.Array:
        table_VD = sharding.rows(self.embed_VD[...].astype(self.cfg.dtype))
        return sharding.stream(table_VD[tokens_BT])

    def logits(self, x_BTD) -> jax.Array:
        """Float32 logits of `hidden`, [B, T, vocab_size]; the padded columns are cut."""
        logits_BTV = jnp.einsum(
            "btd,dv->btv", x_BTD, self.unembedding(), preferred_element_type=jnp.float32
        )
        return sharding.inner(logits_BTV)[..., : self.cfg.vocab_size]

    def unembedding(self) -> jax.Array:
        """The output matrix, [D, padded_vocab_size], in the compute dtype."""
        w_DV = self.embed_VD[...].T if self.cfg.tie_embeddings else self.unembed_DV[...]
        return w_DV.astype(self.cfg.dtype)


# ---------------------------------------------------------------------------- parameters
def abstract(cfg: LlamaConfig, dtype: str = "float32") -> dict[str, jax.ShapeDtypeStruct]:
    """Names, shapes and dtypes of the parameters; allocates nothing."""
    top = ["embed_VD", "norm_D"] + ["unembed_DV"] * (not cfg.tie_embeddings)
    names = top + [f"layers/{name}" for name in layer_names(cfg)]
    return {name: jax.ShapeDtypeStruct(shape(name, cfg), jnp.dtype(dtype)) for name in names}


def layer_names(cfg: LlamaConfig) -> list[str]:
    """Names of a layer's parameters, without "layers/"."""
    names = ["attn_norm_D", "q_DNH", "k_DKH", "v_DKH", "o_NHD"]
    names += ["mlp_norm_D", "gate_DF", "up_DF", "down_FD"]
    adapted = cfg.lora.names if cfg.lora else ()
    return names + [part.removeprefix("layers/") for name in adapted for part in adapters.factors(name)]


def shape(name: str, cfg: LlamaConfig) -> tuple[int, ...]:
    """Shape of a parameter, read off its name."""
    return tuple(cfg.sizes[letter] for letter in sharding.letters(name))


def init(cfg: LlamaConfig, key: jax.Array, dtype: str = "float32") -> Params:
    """Random parameters: norms 1, the rest normal of deviation 0.02 (GPT-2); padding rows 0.

    Adapters start as nothing (`lora.init`).

    Large models: `jax.jit(init, static_argnums=(0, 2), out_shardings=...)`; the values do not
    depend on the sharding.
    """
    out = {}
    for i, (name, leaf) in enumerate(abstract(cfg, dtype).items()):
        if "norm" in name:
            out[name] = jnp.ones(leaf.shape, leaf.dtype)
            continue
        if "R" in sharding.letters(name):
            w = adapters.init(name, leaf.shape, jax.random.fold_in(key, i))
            out[name] = w.astype(leaf.dtype)
            continue
        w = 0.02 * jax.random.normal(jax.random.fold_in(key, i), leaf.shape, jnp.float32)
        if "V" in sharding.letters(name):
            axis = sharding.letters(name).index("V")
            row = jax.lax.broadcasted_iota(jnp.int32, leaf.shape, axis)
            w = jnp.where(row < cfg.vocab_size, w, 0.0)
        out[name] = w.astype(leaf.dtype)
    return out


def bind(cfg: LlamaConfig, params: Mapping[str, jax.Array]) -> Llama:
    """The model of these parameters; a pytree, cheap to make inside `jax.jit` and `jax.grad`."""
    return Llama(cfg, params)


# ---------------------------------------------------------------------------- memory
def _keep(*names: str):
    """Attention's own residuals are always kept: they are small, and costly to redo."""
    return jax.checkpoint_policies.save_only_these_names(attention.RESIDUALS, *names)


# What a layer keeps for its backward pass besides its input: names given above by
# `checkpoint_name` (stream q k v attention o gate up down), from least memory to most. "full" is
# everything, nothing made again; "offload" keeps the stream too, but in the host's memory.
LADDER = {
    "nothing": _keep(),
    "qkv": _keep("q", "k", "v"),
    "projections": _keep("q", "k", "v", "o"),
    "dots": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.checkpoint_dots, _keep()
    ),
    "full": None,
    "offload": jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[attention.RESIDUALS],
        names_which_can_be_offloaded=["stream", "q", "k", "v", "o"],
        offload_src="device",
        offload_dst="pinned_host",
    ),
}


def rematerialised(step, cfg: LlamaConfig):
    """Wraps the body of the layer scan in the policy the config names."""
    policy = LADDER[cfg.remat]
    return step if policy is None else jax.checkpoint(step, policy=policy, prevent_cse=False)


# ---------------------------------------------------------------------------- arithmetic
def product(x_BTX: jax.Array, w_XY: jax.Array) -> jax.Array:
    """x times w over all dimensions of x that w begins with, as one two-dimensional product.

    An einsum says the same; but with two row dimensions XLA's CPU compiler makes a weight's
    gradient 1.5 times slower (docs/log.md).

    >>> product(jnp.ones((1, 2, 3)), jnp.ones((3, 4, 5))).shape
    (1, 2, 4, 5)
    >>> product(jnp.ones((1, 2, 4, 5)), jnp.ones((4, 5, 3))).shape
    (1, 2, 3)
    """
    rows, inner = x_BTX.shape[:2], x_BTX.shape[2:]
    size = math.prod(inner)
    out = x_BTX.reshape(-1, size) @ w_XY.reshape(size, -1)
    return out.reshape(*rows, *w_XY.shape[len(inner) :])


def rms_norm(x_BTD, scale_D, eps: float) -> jax.Array:
    """Scales to unit mean square; float32 inside, as bfloat16 squares lose the small ones."""
    x32_BTD = x_BTD.astype(jnp.float32)
    x32_BTD *= jax.lax.rsqrt(jnp.mean(jnp.square(x32_BTD), axis=-1, keepdims=True) + eps)
    return scale_D[None, None].astype(x_BTD.dtype) * x32_BTD.astype(x_BTD.dtype)


def rope(positions_BT, cfg: LlamaConfig) -> tuple[jax.Array, jax.Array]:
    """Sines and cosines, [B, T, H // 2]; float32, as bfloat16 cannot tell 256 from 257."""
    exponents_H = jnp.arange(0, cfg.head_width, 2, dtype=jnp.float32) / cfg.head_width
    freqs_H = cfg.rope_theta**-exponents_H
    if cfg.rope_scaling is not None:
        freqs_H = _scale_frequencies(freqs_H, cfg.rope_scaling)
    angles_BTH = positions_BT[..., None].astype(jnp.float32) * freqs_H[None, None]
    return jnp.sin(angles_BTH), jnp.cos(angles_BTH)


def _scale_frequencies(freqs_H, s: RopeScaling) -> jax.Array:
    """Slows long wavelengths by `factor`, keeps short ones, blends between (Llama 3.1)."""
    wavelengths_H = 2 * jnp.pi / freqs_H
    ramp_H = s.original_length / wavelengths_H - s.low_freq_factor
    keep_H = jnp.clip(ramp_H / (s.high_freq_factor - s.low_freq_factor), 0.0, 1.0)
    return freqs_H * (keep_H + (1 - keep_H) / s.factor)


def rotate(x_BTNH, rope_BTH) -> jax.Array:
    """Rotates the two halves of each head, the layout of HF Llama checkpoints; float32 inside."""
    sin_BT1H, cos_BT1H = (t_BTH[:, :, None] for t_BTH in rope_BTH)
    a_BTNH, b_BTNH = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    rotated = (a_BTNH * cos_BT1H - b_BTNH * sin_BT1H, b_BTNH * cos_BT1H + a_BTNH * sin_BT1H)
    return jnp.concatenate(rotated, axis=-1).astype(x_BTNH.dtype)
