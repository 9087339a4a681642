"""Computes a decoder of the Llama family: grouped-query attention, rotary positions, gated MLP.

    params = init(cfg, jax.random.key(0))  # {"embed_VD": ..., "layers/q_DNH": ..., ...}
    logits_BTV = bind(cfg, params)(tokens_BT, segments_BT, positions_BT)

Parameters are a flat dict, the form that checkpoints, optimizers and sharding work with; `bind`
makes an NNX module of it. A name ends in the letters of its shape. Parameters under "layers/" are
stacked along a leading L axis, and the layers are run by a scan.

Shape suffixes (the whole package uses these letters and no others):
  B batch    T query position   S key position   L layer
  D model    F feed-forward     V vocabulary     W new vocabulary
  N query heads   K key/value heads   G = N // K   H head width   R adapter rank
"""

from collections.abc import Callable, Mapping
import functools
import operator
from typing import Any

from flax import nnx
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from lrl_jax.model import attention, quantize, rope, sharding
from lrl_jax.model import cache as caches
from lrl_jax.model import lora as adapters
from lrl_jax.model.arithmetic import ACTIVATIONS, product, rms_norm, softcap, take_rows
from lrl_jax.model.cache import Cache, Stored
from lrl_jax.model.config import QK_NORMS, Dtype, LlamaConfig
from lrl_jax.model.remat import LADDER, Remat

__all__ = ["LADDER", "Dtype", "Llama", "LlamaConfig", "Params", "Remat", "abstract", "bind", "init"]

Params = dict[str, jax.Array]
Keep = tuple[Stored, Stored]  # keys and values that a cache stores


class Block(nnx.Module):
    """Computes one layer: x + attention(norm(x)), then x + mlp(norm(x)).

    A scan runs all layers, so each gets its kind (of `cfg.kinds`) as an index, or None when the
    model has a single kind; layers that are apart get a Python int.
    The values named with `checkpoint_name` are those that `remat.LADDER` can keep for the backward
    pass.
    """

    def __init__(self, cfg: LlamaConfig, params: Mapping[str, jax.Array]):
        self.cfg = cfg
        for name in layer_names(cfg):
            setattr(self, name, nnx.Param(params[f"layers/{name}"]))

    def __call__(self, x_BTD, segments_BT, ropes, kind) -> jax.Array:
        """Runs the layer over whole rows; each token sees the earlier tokens of its segment."""
        x_BTD = checkpoint_name(x_BTD, "stream")
        q_BTNH, k_BSKH, v_BSKH = self.project(x_BTD, _select(kind, ropes))
        out_BTNH = self.attend(q_BTNH, k_BSKH, v_BSKH, segments_BT, kind)
        return self.finish(x_BTD, out_BTNH)

    def begin(self, x_BTD, segments_BT, ropes, kind) -> tuple[jax.Array, Keep]:
        """Does what a call does, and returns keys and values too, [B, K, T, H]."""
        q_BTNH, k_BTKH, v_BTKH = self.project(x_BTD, _select(kind, ropes))
        out_BTNH = self.attend(q_BTNH, k_BTKH, v_BTKH, segments_BT, kind)
        return self.finish(x_BTD, out_BTNH), _by_heads(k_BTKH, v_BTKH)

    def extend(self, x_BTD, positions_BT, ropes, kind, cache: Cache, l) -> tuple[jax.Array, Cache]:
        """Runs the layer over tokens that follow those in the cache; `l` is the layer's index."""
        q_BTNH, k_BTKH, v_BTKH = self.project(x_BTD, _select(kind, ropes))
        cache = cache.write(l, *_by_heads(k_BTKH, v_BTKH))
        k_BKSH, v_BKSH = cache.read(l)
        windows = [jnp.int32(layer.window or cache.length) for layer in self.cfg.kinds]
        mask_BTS = cache.visible(positions_BT, _select(kind, windows))
        out_BTNH = attention.by_heads(
            q_BTNH, k_BKSH, v_BKSH, mask_BTS, self.cfg.attention_softcap, self.cfg.attention_scale
        )
        return self.finish(x_BTD, out_BTNH), cache

    def project(self, x_BTD, by: rope.Table) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns rotated queries, rotated keys, and values of the normalised stream."""
        y_BTD = self.norm("attn_norm_D", x_BTD)
        q_BTNH = sharding.heads(self.times("q_DNH", y_BTD))
        k_BTKH = sharding.heads(self.times("k_DKH", y_BTD))
        v_BTKH = sharding.heads(self.times("v_DKH", y_BTD))
        if self.cfg.qkv_bias:
            q_BTNH += self.cast("q_bias_NH")[None, None]
            k_BTKH += self.cast("k_bias_KH")[None, None]
            v_BTKH += self.cast("v_bias_KH")[None, None]
        if names := QK_NORMS[self.cfg.qk_norm]:
            q_BTNH, k_BTKH = self.norm(names[0], q_BTNH), self.norm(names[1], k_BTKH)
        return (
            checkpoint_name(rope.rotate(q_BTNH, by), "q"),
            checkpoint_name(rope.rotate(k_BTKH, by), "k"),
            checkpoint_name(v_BTKH, "v"),
        )

    def attend(self, q_BTNH, k_BSKH, v_BSKH, segments_BT, kind) -> jax.Array:
        """Returns attention within the window of this kind of layer, [B, T, N, H].

        Kernels need the window at compile time, so one branch is compiled for each kind and the
        layer chooses among them. A window as long as the row is the same as no window.
        """
        windows = [layer.window for layer in self.cfg.kinds]
        windows = [w if w is not None and w < k_BSKH.shape[1] else None for w in windows]
        branches = [
            functools.partial(
                attention.attention, implementation=self.cfg.attention, window=window,
                softcap=self.cfg.attention_softcap, scale=self.cfg.attention_scale,
            )
            for window in windows
        ]  # fmt: skip
        if len(set(windows)) == 1:
            return branches[0](q_BTNH, k_BSKH, v_BSKH, segments_BT)
        if isinstance(kind, int):
            return branches[kind](q_BTNH, k_BSKH, v_BSKH, segments_BT)
        return jax.lax.switch(kind, branches, q_BTNH, k_BSKH, v_BSKH, segments_BT)

    def finish(self, x_BTD, out_BTNH) -> jax.Array:
        """Adds the output of attention to the stream, then that of the feed-forward part."""
        out_BTNH = checkpoint_name(out_BTNH, "attention")
        out_BTD = checkpoint_name(self.times("o_NHD", out_BTNH), "o")
        out_BTD = self.norm("attn_out_norm_D", out_BTD)
        x_BTD = sharding.stream(x_BTD + out_BTD, self.cfg.sequence_parallel)
        y_BTD = self.norm("mlp_norm_D", x_BTD)
        gate_BTF = checkpoint_name(sharding.inner(self.times("gate_DF", y_BTD)), "gate")
        up_BTF = checkpoint_name(sharding.inner(self.times("up_DF", y_BTD)), "up")
        inner_BTF = ACTIVATIONS[self.cfg.activation](gate_BTF) * up_BTF
        out_BTD = checkpoint_name(self.times("down_FD", inner_BTF), "down")
        out_BTD = self.norm("mlp_out_norm_D", out_BTD)
        return sharding.stream(x_BTD + out_BTD, self.cfg.sequence_parallel)

    def times(self, name: str, x_BTX) -> jax.Array:
        """Returns x times a weight of this layer, plus the product of its adapter if it has one."""
        if self.cfg.frozen and f"layers/{name}" in self.cfg.frozen.scales:
            out_BTY = self.decoded(name, self.cfg.frozen, x_BTX)
        else:
            out_BTY = product(x_BTX, self.cast(name), to_stream=name.endswith("D"))
        if self.cfg.lora and f"layers/{name}" in self.cfg.lora.names:
            first, second = adapters.factors(name)
            low_BTR = product(x_BTX, self.cast(first))
            out_BTY += self.cfg.lora.scale * product(low_BTR, self.cast(second))
        return out_BTY

    def decoded(self, name: str, stored: quantize.Storage, x_BTX) -> jax.Array:
        """Returns x times a quantised weight; only this layer's weight is decoded, never all."""
        scale = stored.scales[f"layers/{name}"].removeprefix("layers/")

        def times(x_BTX, codes, scales):
            weight = quantize.decode(codes, scales, sharding.letters(scale), stored.kind)
            return product(x_BTX, weight.astype(self.cfg.dtype))

        if self.cfg.remat == "full":  # else the scan keeps the decoded weights of all layers
            times = jax.checkpoint(times, prevent_cse=False)
        return times(x_BTX, getattr(self, name)[...], getattr(self, scale)[...])

    def norm(self, name: str, x) -> jax.Array:
        """Returns x normalised, or unchanged where the family has no such norm."""
        return _norm(self.cfg, getattr(self, name), x) if hasattr(self, name) else x

    def cast(self, name: str) -> jax.Array:
        """Returns a weight in the compute dtype."""
        return sharding.scattered(getattr(self, name)[...].astype(self.cfg.dtype), name)


class Llama(nnx.Module):
    """Computes the logits of the next token at every position."""

    def __init__(self, cfg: LlamaConfig, params: Mapping[str, Any]):
        self.cfg = cfg
        self.embed_VD = nnx.Param(params["embed_VD"])
        self.layers = _blocks(cfg, params)
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
        ropes = self.ropes(positions_BT, length=positions_BT.shape[1])

        def step(x_BTD, scanned):
            layer, kind = scanned
            return layer(x_BTD, segments_BT, ropes, kind), None

        policy = LADDER[cfg.remat]
        run = jax.checkpoint(step, policy=policy, prevent_cse=False) if policy else step
        scanned = self.layers, self.layer_kinds()
        x_BTD, _ = jax.lax.scan(run, self.embed(tokens_BT), scanned, unroll=cfg.unroll)
        return _norm(cfg, self.norm_D, x_BTD)

    def states(self, tokens_BT, segments_BT, positions_BT, look: Callable[[jax.Array], Any]) -> Any:
        """Returns what `look` makes of the stream at each layer: trees of arrays, [L + 1, ...].

        As with Hugging Face's hidden_states, it sees the embeddings first and `hidden` last. Only
        what it returns is kept, and not the stream of every layer.
        """
        ropes = self.ropes(positions_BT, length=positions_BT.shape[1])

        def step(x_BTD, scanned):
            layer, kind, _ = scanned
            return layer(x_BTD, segments_BT, ropes, kind), look(x_BTD)

        x_BTD, seen = self.each_layer(step, self.embed(tokens_BT))
        last = look(_norm(self.cfg, self.norm_D, x_BTD))
        return jax.tree.map(lambda end, each: jnp.stack((*each, end)), last, seen)

    def begin(self, tokens_BT, segments_BT, positions_BT, length: int) -> Keep:
        """Returns the keys and values of rows that begin here, for a cache.

        Args:
          segments_BT: 1 for tokens and 0 for the padding after them.
          length: the longest row that is decoded (`ropes`).
        """
        ropes = self.ropes(positions_BT, length)

        def step(x_BTD, scanned):
            layer, kind, _ = scanned
            return layer.begin(x_BTD, segments_BT, ropes, kind)

        return self.each_layer(step, self.embed(tokens_BT, take_rows))[1]

    def extend(
        self, tokens_BT, positions_BT, cache: Cache, length: int = 0
    ) -> tuple[jax.Array, Cache]:
        """Returns `hidden` of tokens that follow those in the cache, and the updated cache.

        `length` is the longest row that is decoded (`ropes`); 0 means what the cache can hold.
        """
        ropes = self.ropes(positions_BT, length or cache.length)

        def step(carry, scanned):
            layer, kind, l = scanned
            return layer.extend(carry[0], positions_BT, ropes, kind, carry[1], l), None

        (x_BTD, cache), _ = self.each_layer(step, (self.embed(tokens_BT, take_rows), cache))
        return _norm(self.cfg, self.norm_D, x_BTD), cache.advance(tokens_BT.shape[1])

    def each_layer(self, step, carry):
        """Runs the layers one after another, by a scan or, where they are apart, by a Python loop.

        Args:
          step: (carry, (layer, kind, index)) -> carry, a tree of arrays or None.

        Returns:
          The carry, and the trees: stacked, or tuples where the layers are apart.
        """
        if isinstance(self.layers, Block):
            scanned = self.layers, self.layer_kinds(), jnp.arange(self.cfg.depth)
            return jax.lax.scan(step, carry, scanned)
        trees = []
        for l, layer in enumerate(self.layers):
            kind = self.cfg.kinds.index(self.cfg.layers[l])
            carry, tree = step(carry, (layer, kind, l))
            trees.append(tree)
        return carry, jax.tree.map(lambda *leaves: leaves, *trees)

    def decode(self, tokens_BT, positions_BT, cache: Cache) -> tuple[jax.Array, Cache]:
        """Returns logits [B, T, vocab_size] of tokens after the cache, and the updated cache."""
        x_BTD, cache = self.extend(tokens_BT, positions_BT, cache)
        return self.logits(x_BTD), cache

    def ropes(self, positions_BT, length: int) -> list[rope.Table]:
        """Returns the rotary table of each kind of layer; `length` is the longest row possible."""
        return [rope.table(positions_BT, kind.rope, length) for kind in self.cfg.kinds]

    def layer_kinds(self) -> jax.Array | None:
        """Returns the index of each layer's kind, [L]; None when all layers are of one kind."""
        indices = [self.cfg.kinds.index(kind) for kind in self.cfg.layers]
        return jnp.array(indices, jnp.int32) if len(self.cfg.kinds) > 1 else None

    def embed(self, tokens_BT, take=operator.getitem) -> jax.Array:
        """Returns the embedding of each token; `take` reads rows of a table."""
        table_VD = sharding.rows(self.embed_VD[...].astype(self.cfg.dtype))
        x_BTD = sharding.stream(take(table_VD, tokens_BT), self.cfg.sequence_parallel)
        if self.cfg.scaled_embedding:
            x_BTD *= jnp.array(self.cfg.width**0.5, x_BTD.dtype)
        return x_BTD

    def logits(self, x_BTD) -> jax.Array:
        """Returns the float32 logits of `hidden`, [B, T, vocab_size], without padded columns."""
        logits_BTV = jnp.einsum(
            "btd,dv->btv", x_BTD, self.unembedding(), preferred_element_type=jnp.float32
        )
        logits_BTV = softcap(logits_BTV, self.cfg.logit_softcap)
        return sharding.inner(logits_BTV)[..., : self.cfg.vocab_size]

    def unembedding(self) -> jax.Array:
        """Returns the output matrix, [D, padded_vocab_size], in the compute dtype."""
        w_DV = self.embed_VD[...].T if self.cfg.tie_embeddings else self.unembed_DV[...]
        return sharding.scattered(w_DV.astype(self.cfg.dtype), "unembed_DV")


def bind(cfg: LlamaConfig, params: Mapping[str, Any]) -> Llama:
    """Returns a module of these parameters: a pytree, cheap to make inside `jit` and `grad`."""
    return Llama(cfg, params)


def apart(params: Mapping[str, jax.Array]) -> dict[str, jax.Array | tuple[jax.Array, ...]]:
    """Returns parameters with an array for each layer in place of stacked ones; `bind` takes both.

    On a CPU a scan copies the weights of a layer out of the stack before it can multiply by them.
    """
    return {
        name: tuple(w[l] for l in range(len(w))) if name.startswith("layers/") else w
        for name, w in params.items()
    }


def _blocks(cfg: LlamaConfig, params: Mapping[str, Any]) -> Any:
    """Returns all layers as one block, or as a list of blocks where their arrays are apart."""
    names = [f"layers/{name}" for name in layer_names(cfg)]
    if not isinstance(params[names[0]], tuple):
        return Block(cfg, params)
    layers = [Block(cfg, {name: params[name][l] for name in names}) for l in range(cfg.depth)]
    return nnx.List(layers)


def _by_heads(k_BTKH, v_BTKH) -> Keep:
    return caches.split(jnp.swapaxes(k_BTKH, 1, 2)), caches.split(jnp.swapaxes(v_BTKH, 1, 2))


def _norm(cfg: LlamaConfig, scale: nnx.Param, x) -> jax.Array:
    return rms_norm(x, scale[...], cfg.norm_eps, cfg.centred_norms)


def _select(kind, options: list):
    """Returns the option (a tree of arrays) at index `kind`; the only option when that is None."""
    if kind is None or len(options) == 1:
        return options[0]
    if isinstance(kind, int):
        return options[kind]
    return jax.tree.map(lambda *arrays: jax.lax.select_n(kind, *arrays), *options)


# ---------------------------------------------------------------------------- parameters
def layer_names(cfg: LlamaConfig) -> list[str]:
    """Returns the names of a layer's parameters, without "layers/"."""
    before, after = (cfg.norms in (side, "both") for side in ("before", "after"))
    names = ["attn_norm_D"] * before + ["q_DNH", "k_DKH", "v_DKH", "o_NHD"]
    names += ["mlp_norm_D"] * before + ["gate_DF", "up_DF", "down_FD"]
    names += ["q_bias_NH", "k_bias_KH", "v_bias_KH"] * cfg.qkv_bias
    names += QK_NORMS[cfg.qk_norm]
    names += ["attn_out_norm_D", "mlp_out_norm_D"] * after
    beside = [*cfg.frozen.scales.values()] if cfg.frozen else []
    if cfg.lora:
        beside = [factor for name in cfg.lora.names for factor in adapters.factors(name)] + beside
    return names + [name.removeprefix("layers/") for name in beside]


def abstract(cfg: LlamaConfig, dtype: str = "float32") -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shape and dtype of every parameter by name; allocates nothing."""
    top = ["embed_VD", "norm_D"] + ["unembed_DV"] * (not cfg.tie_embeddings)
    out = {}
    for name in top + [f"layers/{name}" for name in layer_names(cfg)]:
        stored = cfg.frozen.dtype(name, dtype) if cfg.frozen else dtype
        if "R" in sharding.letters(name):  # adapters: bfloat16 would lose small updates
            stored = "float32"
        out[name] = jax.ShapeDtypeStruct(shape(name, cfg), jnp.dtype(stored))
    return out


def shape(name: str, cfg: LlamaConfig) -> tuple[int, ...]:
    """Returns the shape of a parameter, which the letters at the end of its name give."""
    return tuple(cfg.sizes[letter] for letter in sharding.letters(name))


def init(cfg: LlamaConfig, key: jax.Array, dtype: str = "float32") -> Params:
    """Returns random parameters to train from scratch; the values do not depend on a sharding.

    Norms scale by 1 and biases are 0. The other weights are normal with standard deviation 0.02
    (GPT-2), with zeros in padding rows. Adapters start by adding zero (`lora.init`).
    """
    return {
        name: _init(name, leaf.shape, cfg, jax.random.fold_in(key, i)).astype(leaf.dtype)
        for i, (name, leaf) in enumerate(abstract(cfg, dtype).items())
    }


def _init(name: str, shape: tuple[int, ...], cfg: LlamaConfig, key: jax.Array) -> jax.Array:
    letters = sharding.letters(name)
    if "norm" in name:
        return jnp.full(shape, 0.0 if cfg.centred_norms else 1.0)
    if "bias" in name:
        return jnp.zeros(shape)
    if "R" in letters:
        return adapters.init(name, shape, key)
    w = 0.02 * jax.random.normal(key, shape, jnp.float32)
    if "V" not in letters:
        return w
    row = jax.lax.broadcasted_iota(jnp.int32, shape, letters.index("V"))
    return jnp.where(row < cfg.vocab_size, w, 0.0)
