"""Decides how parameters and activations are split over the mesh.

Parameters are placed by their name: by `spec` while a step uses them, by `resting` between steps.
Activations are constrained by their shape. Weights are never constrained within a layer, because
constraining a gathered weight turns the reduce-scatter of its gradient into an all-reduce.
"""

from collections.abc import Mapping, Sequence
import functools
import math

import jax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import PartitionSpec as P

# Mesh axes: copies of the model in other slices, over a slower network; copies within a slice;
# devices of a copy that gather weights when they use them; devices that split matrix products.
AXES = ("slices", "data", "fsdp", "tensor")
BATCH = AXES[:3]

# Dimension letter -> mesh axis; letters not listed are not split.
DIMENSIONS = {"D": "fsdp", "V": "tensor", "F": "tensor", "N": "tensor", "K": "tensor"}


def letters(name: str) -> str:
    """Returns the dimension letters of a parameter, the stacked layer axis included.

    >>> letters("layers/q_DNH"), letters("embed_VD")
    ('LDNH', 'VD')
    """
    own = name.rpartition("_")[2]
    return "L" + own if name.startswith("layers/") else own


def spec(name: str) -> P:
    """Returns how a parameter is split over one copy of the model; norms are not split.

    Of an adapter's two factors, the one without D is split along its rank.

    >>> tuple(spec("layers/o_NHD")), tuple(spec("layers/attn_norm_D"))
    ((None, 'tensor', None, 'fsdp'), ())
    >>> tuple(spec("layers/up_lora_DR")), tuple(spec("layers/up_lora_RF"))
    ((None, 'fsdp', None), (None, 'fsdp', 'tensor'))
    """
    own = letters(name)
    if own.removeprefix("L") == "D":
        return P()
    places = DIMENSIONS if "D" in own else DIMENSIONS | {"R": "fsdp"}
    return P(*(places.get(letter) for letter in own))


def _of_a_copy(name: str, shape: Sequence[int], axes: Mapping[str, int]) -> P:
    """Returns `spec`, but does not split an adapter's factor whose rank does not divide evenly."""
    return P(*(
        None if axis == "fsdp" and size % axes["fsdp"] else axis
        for axis, size in zip(spec(name), shape, strict=False)
    ))  # fmt: skip


def resting(name: str, shape: Sequence[int], axes: Mapping[str, int]) -> P:
    """Returns how a parameter and its optimizer state are split over mesh `axes` between steps.

    The copies of the model within a slice store a share each (ZeRO, arXiv 1910.02054) where the
    dimension divides evenly, and layers gather weights from all of them. Each slice stores
    everything, because the network between slices is slow.

    >>> tuple(resting("layers/q_DNH", (2, 64, 4, 16), dict(data=2, fsdp=4, tensor=1)))
    (None, ('fsdp', 'data'), 'tensor', None)
    >>> tuple(resting("layers/q_DNH", (2, 60, 4, 16), dict(data=8, fsdp=4, tensor=1)))
    (None, 'fsdp', 'tensor', None)
    """
    return P(*(
        ("fsdp", "data") if axis == "fsdp" and axes["data"] > 1 and _shared(size, axes) else axis
        for axis, size in zip(_of_a_copy(name, shape, axes), shape, strict=False)
    ))  # fmt: skip


def _shared(width: int, axes: Mapping[str, int]) -> bool:
    """Tells whether a dimension (D or a rank) divides evenly among the copies of the model."""
    return width % (axes["fsdp"] * axes["data"]) == 0


def holders(width: int, axes: Mapping[str, int]) -> int:
    """Returns over how many devices of a slice the state is split between steps.

    >>> holders(64, dict(data=2, fsdp=4, tensor=2)), holders(60, dict(data=2, fsdp=4, tensor=2))
    (16, 8)
    """
    copies = axes["data"] if _shared(width, axes) else 1
    return axes["tensor"] * axes["fsdp"] * copies


def scattered(w: jax.Array, name: str) -> jax.Array:
    """Returns a weight unchanged, and scatters its gradient in two steps.

    The gradient is scattered over the devices of one copy of the model and then over the copies.
    Scattered over all devices at once, the TPU compiler would compute the whole sum on each device.
    """
    axes = jax.sharding.get_abstract_mesh().shape
    if axes.get("data", 1) == 1:
        return w
    return _scattered(w, _of_a_copy(name, w.shape, axes))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _scattered(w: jax.Array, to: P) -> jax.Array:
    return w


_scattered.defvjp(lambda w, to: (w, None), lambda to, _, d_w: (constrain(d_w, to),))


def stream(x_BTD: jax.Array, sequence: bool = False) -> jax.Array:
    """Constrains the residual stream: it is split by rows of the batch.

    With `sequence`, tokens are split over the tensor axis too (arXiv 2205.05198), so that
    activations between blocks, norms included, are stored once and not on every device of that
    axis. Tokens that do not divide evenly, as in decoding one at a time, are not split.

    On a TPU, D is also made the dimension that is contiguous in memory. Otherwise the compiler
    transposes the stream in the forward pass and back in the backward pass, which takes 2.6% of a
    step of a 7B model.
    """
    ways = jax.sharding.get_abstract_mesh().shape.get("tensor", 1)
    split = "tensor" if sequence and x_BTD.shape[1] % ways == 0 else None
    x_BTD = constrain(x_BTD, P(BATCH, split, None))
    if platform() != "tpu":
        return x_BTD
    return with_layout_constraint(x_BTD, Layout(major_to_minor=(0, 1, 2)))


def inner(x_BTF: jax.Array) -> jax.Array:
    """Constrains feed-forward activations and logits: split by rows and by the last dimension."""
    return constrain(x_BTF, P(BATCH, None, "tensor"))


def heads(x_BTNH: jax.Array) -> jax.Array:
    """Constrains queries, keys and values: split by rows and by heads."""
    return constrain(x_BTNH, P(BATCH, None, "tensor", None))


def rows(table_VD: jax.Array) -> jax.Array:
    """Constrains the embedding table so that a lookup reads whole rows.

    Otherwise the compiler computes a result that is split along D, and replicates it in order to
    split it by rows ("involuntary full rematerialization").
    """
    return constrain(table_VD, P("tensor", None))


def rows_split(axes: Mapping[str, int]) -> int:
    """Returns over how many devices the rows of a batch are split.

    >>> rows_split(dict(slices=2, data=2, fsdp=4, tensor=8))
    16
    """
    return math.prod(axes[axis] for axis in BATCH)


def constrain(x: jax.Array, to: P) -> jax.Array:
    """Returns x with a sharding hint for the compiler; without `jax.set_mesh`, x unchanged."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, to)


def platform() -> str:
    """Returns the platform that programs are compiled for: "cpu", "gpu" or "tpu".

    It is the platform of the mesh under `jax.set_mesh`, whose devices need not be on this machine,
    and otherwise JAX's default.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    name = device.platform if device else jax.default_backend()
    return "gpu" if name in ("cuda", "rocm") else name
