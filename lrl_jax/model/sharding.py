"""Decides where each dimension lies on the mesh, for parameters and for activations.

Parameters are placed by their name: `spec` while a step reads them, `resting` between steps.
Activations are constrained by shape; within a layer weights never are: constraining one to its
gathered form turns the reduce-scatter of its gradient into an all-reduce.
"""

from collections.abc import Mapping, Sequence
import functools
import math

import jax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import PartitionSpec as P

# Copies of the model in other slices, over a slower network; copies within a slice; devices of a
# copy that gather weights when they need them; devices that split the products themselves.
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
    """Returns how a parameter is split over one copy of the model; norms are whole on each device.

    The factor of an adapter that does not meet the stream is split by its rank.

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
    """Returns `spec`, except that a factor whose rank does not divide is whole on each device."""
    return P(*(
        None if axis == "fsdp" and size % axes["fsdp"] else axis
        for axis, size in zip(spec(name), shape, strict=False)
    ))  # fmt: skip


def resting(name: str, shape: Sequence[int], axes: Mapping[str, int]) -> P:
    """Returns how a parameter, and its optimizer state, is split between steps.

    Copies of the model within a slice hold a part each (ZeRO, arXiv 1910.02054), where they divide
    it, and layers gather from all of them. Slices hold all of it: their network is slow.

    Args:
      axes: mesh axis -> devices along it.

    >>> tuple(resting("layers/q_DNH", (2, 64, 4, 16), dict(data=2, fsdp=4, tensor=1)))
    (None, ('fsdp', 'data'), 'tensor', None)
    >>> tuple(resting("layers/q_DNH", (2, 60, 4, 16), dict(data=8, fsdp=4, tensor=1)))
    (None, 'fsdp', 'tensor', None)
    """
    split_over = list(_of_a_copy(name, shape, axes))
    if "fsdp" in split_over and axes["data"] > 1:
        split = split_over.index("fsdp")
        if _shared(shape[split], axes):
            split_over[split] = ("fsdp", "data")
    return P(*split_over)


def _shared(width: int, axes: Mapping[str, int]) -> bool:
    """Tells whether copies of the model divide a dimension, D or a rank, between them."""
    return width % (axes["fsdp"] * axes["data"]) == 0


def holders(width: int, axes: Mapping[str, int]) -> int:
    """Returns how many devices of a slice share what is kept between steps.

    >>> holders(64, dict(data=2, fsdp=4, tensor=2)), holders(60, dict(data=2, fsdp=4, tensor=2))
    (16, 8)
    """
    copies = axes["data"] if _shared(width, axes) else 1
    return axes["tensor"] * axes["fsdp"] * copies


def scattered(w: jax.Array, name: str) -> jax.Array:
    """Returns a weight unchanged, but scatters its gradient over one copy of the model, then over
    copies.

    The TPU compiler makes a sum on every device of what is scattered over all devices at once.
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
    """Constrains the residual stream: rows of the batch are split, the rest is whole.

    With `sequence`, tokens are split over the tensor axis (arXiv 2205.05198): what lies between
    blocks, norms included, is then held once and not on every device of that axis. Where they do
    not divide, as one token at a time in decoding, they stay whole.

    On a TPU D is the dimension whose numbers lie side by side. Left alone, the compiler turns the
    stream over in the forward pass and back again in the backward pass: 2.6% of a step of 7B.
    """
    x_BTD = constrain(x_BTD, P(BATCH, "tensor" if sequence and _divides(x_BTD) else None, None))
    if platform() != "tpu":
        return x_BTD
    return with_layout_constraint(x_BTD, Layout(major_to_minor=(0, 1, 2)))


def _divides(x_BTD: jax.Array) -> bool:
    return x_BTD.shape[1] % jax.sharding.get_abstract_mesh().shape.get("tensor", 1) == 0


def inner(x_BTF: jax.Array) -> jax.Array:
    """Constrains feed-forward activations and logits: the last dimension is split too."""
    return constrain(x_BTF, P(BATCH, None, "tensor"))


def heads(x_BTNH: jax.Array) -> jax.Array:
    """Constrains queries, keys and values: heads are split too."""
    return constrain(x_BTNH, P(BATCH, None, "tensor", None))


def rows(table_VD: jax.Array) -> jax.Array:
    """Constrains the table that a lookup reads to whole rows.

    Left alone, the compiler gathers the *result* split along D on every device and replicates
    it to split it by rows ("involuntary full rematerialization").
    """
    return constrain(table_VD, P("tensor", None))


def rows_split(axes: Mapping[str, int]) -> int:
    """Returns how many pieces a batch is cut into.

    >>> rows_split(dict(slices=2, data=2, fsdp=4, tensor=8))
    16
    """
    return math.prod(axes[axis] for axis in BATCH)


def constrain(x: jax.Array, to: P) -> jax.Array:
    """Hints a sharding to the compiler under `jax.set_mesh`; without a mesh it does nothing."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, to)


def platform() -> str:
    """Returns the kind of machine that is compiled for: "cpu", "gpu" or "tpu".

    Under `jax.set_mesh` that of the mesh, which may be of devices nobody has here; else JAX's own.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    name = device.platform if device else jax.default_backend()
    return "gpu" if name in ("cuda", "rocm") else name


def device_kind() -> str:
    """Returns JAX's name for the devices that are compiled for, such as "TPU v5 lite"."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.device_kind if device else jax.devices()[0].device_kind
