"""Starts the processes that share the devices, and builds the mesh that names the devices.

start()
mesh = make(recipe.train.mesh)
with jax.set_mesh(mesh): ...
"""

from collections.abc import Mapping, Sequence
import contextlib
import functools
import math
import operator
import socket
import warnings

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from lrl_jax.devices import peers
from lrl_jax.model import llama, sharding
from lrl_jax.recipe import train as recipe_train

# Seconds of silence after which a process that is alone counts as gone. It would be aborted by its
# own other half: after a night of a suspended laptop, Ctrl-Z, or a machine with too much work.
NEVER = 10**8


def start(
    coordinator: str = "",
    processes: int = 0,
    process_id: int = 0,
    heartbeat: int = peers.HEARTBEAT_SECONDS,
) -> None:
    """Joins this process to the other processes of the run, or makes it a group of its own.

    Call it before anything else uses JAX, in every process; a second call does nothing. From then
    on the processes end together (`lrl_jax.devices.peers`).

    Args:
      coordinator: host:port of process 0. "" means the one that the cluster names (TPU pods, Slurm,
        MPI); outside any cluster this process is alone.
      processes, process_id: how many there are and which this is, from 0; with `coordinator`.
      heartbeat: after how many seconds of silence a process counts as gone, unless it is alone.
    """
    if not jax.distributed.is_initialized():
        _join(coordinator, processes, process_id, heartbeat)
    peers.start(heartbeat)


def _join(coordinator: str, processes: int, process_id: int, heartbeat: int) -> None:
    if coordinator:
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"coordinator={coordinator!r}; want host:port, such as 10.0.0.1:8476")
        if not 0 <= process_id < processes:
            raise ValueError(
                f"process_id={process_id} with processes={processes}; "
                "ids run from 0 to processes - 1"
            )
        _initialize(heartbeat, coordinator, processes, process_id)
    elif processes > 1:
        raise ValueError(f"processes={processes} needs a coordinator, such as 10.0.0.1:8476")
    else:
        _start_alone(heartbeat)


def _start_alone(heartbeat: int) -> None:
    """Makes this process a group of its own, unless it stands in a cluster that names its peers."""
    try:
        _initialize(heartbeat)  # the cluster names the peers
        return
    except ValueError:  # no cluster
        pass
    except RuntimeError as e:
        if "before" not in str(e):
            raise
        warnings.warn(
            "JAX was in use before mesh.start(), so this process stays alone. "
            "Call mesh.start() first.",
            stacklevel=4,
        )
        return
    with socket.socket() as s:
        s.bind(("localhost", 0))
        address = f"localhost:{s.getsockname()[1]}"
    _initialize(NEVER, address, 1, 0, coordinator_bind_address=address)


def _initialize(heartbeat: int, *args, **kwargs) -> None:
    alone = args[1:2] == (1,)  # then CPU devices need no network between them
    jax.config.update("jax_cpu_collectives_implementation", None if alone else "gloo")
    # JAX would end every process when one is gone, without saying which; `peers` does both.
    jax.config.update("jax_enable_recoverability", not alone)
    # It would take SIGTERM for itself; `signals` listens to more of them, in every step.
    jax.config.update("jax_enable_preemption_service", False)
    waiting = contextlib.nullcontext() if alone else peers.joining(_waits(*args))
    with waiting:  # JAX's own limit, which aborts the process, comes after that of `joining`
        jax.distributed.initialize(
            *args,
            heartbeat_timeout_seconds=heartbeat,
            initialization_timeout=round(2 * peers.JOIN),
            **kwargs,
        )


def _waits(address: str = "", processes: int = 0, process_id: int = 0) -> str:
    """Says whom a process waits for; without an address, those that the cluster names.

    >>> _waits("10.0.0.1:8476", 4, 2)
    'process 2 of 4 waits for process 0 at 10.0.0.1:8476'
    """
    if not address:
        return "waiting for the other processes of this cluster"
    if process_id:
        return f"process {process_id} of {processes} waits for process 0 at {address}"
    return f"process 0 of {processes} waits at {address} for the others"


def make(shape: recipe_train.Mesh, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Builds the mesh (slices, data, fsdp, tensor) over all devices, or over the given ones.

    Devices may be descriptions of devices on another machine. The recipe's `data` counts all copies
    of the model; the mesh axis `data` has the copies within a slice. Refuses axes that do not
    multiply to the number of devices, and slices that are not theirs; suggests others.
    """
    devices = list(devices) if devices is not None else jax.devices()
    data, fsdp, tensor = sizes(shape, len(devices))
    within = (data // shape.slices, fsdp, tensor)
    parts = [_laid_out(within, group) for group in _slices(devices, shape.slices)]
    return Mesh(np.stack(parts), sharding.AXES, axis_types=(AxisType.Auto,) * len(sharding.AXES))


def sizes(shape: recipe_train.Mesh, count: int) -> tuple[int, int, int]:
    """Returns the devices along data, fsdp and tensor, with -1 replaced by what is left of `count`.

    Refuses axes that do not multiply to `count`, and a `data` that is no multiple of the slices.

    >>> sizes(recipe_train.Mesh(data=2), 64)
    (2, 32, 1)
    """
    axes = [shape.data, shape.fsdp, shape.tensor]
    text = f"mesh data={shape.data}, fsdp={shape.fsdp}, tensor={shape.tensor}"
    if axes.count(-1) > 1 or any(size < 1 and size != -1 for size in axes):
        raise ValueError(f"{text}: axes are 1 or more, and one of them may be -1 (what is left)")
    product = math.prod(size for size in axes if size != -1)
    if -1 in axes and count % product == 0:
        axes[axes.index(-1)] = count // product
    if math.prod(axes) != count:
        raise ValueError(f"{text} does not fit {count} devices; {_suggest(count, shape.slices)}")
    if axes[0] % shape.slices:
        raise ValueError(
            f"{text}: data={axes[0]} is not a multiple of slices={shape.slices}, which hold whole "
            f"copies of the model; {_suggest(count, shape.slices)}"
        )
    return axes[0], axes[1], axes[2]


def _suggest(count: int, slices: int = 1) -> str:
    """Returns meshes of `count` devices, sharding parameters first and splitting tensors last.

    >>> _suggest(4)
    'try data=1, fsdp=4, tensor=1 or data=2, fsdp=2, tensor=1 or data=1, fsdp=2, tensor=2'
    """
    if count % slices:
        return f"{count} devices do not make {slices} slices of one size"
    within = count // slices
    splits = [(1, 1), (2, 1), (1, 2)] if within % 2 == 0 else [(1, 1)]
    return "try " + " or ".join(
        f"data={data * slices}, fsdp={within // data // tensor}, tensor={tensor}"
        for data, tensor in splits
    )


def _slices(devices: list[jax.Device], count: int) -> list[list[jax.Device]]:
    """Groups the devices by slice: by `slice_index`, by process, or else in their order."""
    slices = len({*map(slice_of, devices)})
    if slices > 1 and slices != count and devices[0].platform == "tpu":
        raise ValueError(
            f"slices={count}, but these {len(devices)} devices lie in {slices} slices; "
            f"set train.mesh.slices to {slices}"
        )
    if count == 1:
        return [devices]
    location = slice_of if slices > 1 else operator.attrgetter("process_index")
    ordered = sorted(devices, key=location)  # stable: the order within a group does not change
    size = len(devices) // count
    groups = [ordered[i * size : (i + 1) * size] for i in range(count)]
    places = len({*map(location, devices)})
    if places > 1 and places != sum(len({*map(location, group)}) for group in groups):
        raise ValueError(
            f"slices={count} would cut through the {places} hosts or slices that the "
            f"{len(devices)} devices lie in; use a number that divides {places}"
        )
    return groups


def slice_of(device: jax.Device) -> int:
    """Returns the slice of a device; 0 if there is a single slice, as devices then do not say."""
    return getattr(device, "slice_index", None) or 0


def _laid_out(shape: tuple[int, int, int], devices: list[jax.Device]) -> np.ndarray:
    """Returns devices in an array of this shape, in which neighbours are neighbours on the network.

    Between steps weights are split over fsdp and data together. In a slice of whole cubes (v4, v5p)
    these two axes are laid out as one; otherwise the TPU compiler finds no ring through both and
    replaces gathers by slower sums.
    """
    data, fsdp, tensor = shape
    coords = np.array([getattr(device, "coords", (0, 0, 0)) for device in devices])
    together = bool(np.all((np.ptp(coords, axis=0) + 1) % 4 == 0))
    wanted = (fsdp * data, tensor) if together else shape
    try:
        mesh = mesh_utils.create_device_mesh(wanted, devices, allow_split_physical_axes=True)
    except NotImplementedError as e:
        raise ValueError(
            f"data, fsdp, tensor = {shape} within a slice cannot be laid over the network of these "
            f"{len(devices)} {devices[0].device_kind} chips; {_suggest(len(devices))} ({e})"
        ) from None
    return mesh.reshape(fsdp, data, tensor).swapaxes(0, 1) if together else mesh


# ---------------------------------------------------------------------------- parameters, rows
def param_shardings(cfg: llama.LlamaConfig, mesh: Mesh) -> dict[str, NamedSharding]:
    """Returns the sharding of each parameter between steps; refuses a mesh as `check_model`."""
    check_model(cfg, mesh.shape)
    return {
        name: NamedSharding(mesh, sharding.resting(name, leaf.shape, mesh.shape))
        for name, leaf in llama.abstract(cfg).items()
    }


def check_model(cfg: llama.LlamaConfig, axes: Mapping[str, int]) -> None:
    """Refuses a mesh (axis -> devices along it) that does not divide the model; says what would."""
    for letter, axis in sharding.DIMENSIONS.items():
        size = cfg.sizes[letter]
        if size % axes[axis]:
            fit = [str(n) for n in range(1, axes[axis]) if size % n == 0]
            raise ValueError(
                f"mesh axis {axis}={axes[axis]} does not divide {NAMES[letter]} ({size}); "
                f"use {axis}={' or '.join(fit[-3:])}, or a multiple of them that divides it"
            )


NAMES = {
    "D": "width (hidden_size)",
    "F": "mlp_width (intermediate_size)",
    "V": "the padded vocabulary",
    "N": "num_heads (num_attention_heads)",
    "K": "num_kv_heads (num_key_value_heads)",
}


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of batches [B, ...]: rows over slices, data and fsdp."""
    return NamedSharding(mesh, P(sharding.BATCH))


def check_batch(axes: Mapping[str, int], batch_size: int, accumulate: int = 1) -> None:
    """Refuses a batch, read in parts, that a mesh cannot split evenly; says which sizes fit."""
    shards = sharding.rows_split(axes)
    ways = shards * accumulate
    if batch_size % ways:
        parts = f" in accumulate={accumulate} parts" if accumulate > 1 else ""
        raise ValueError(
            f"batch_size={batch_size} cannot be split over data x fsdp = {shards} devices{parts}; "
            f"use a multiple of {ways} ({multiples(batch_size, ways)}), or move devices to the "
            "tensor axis"
        )


def multiples(number: int, of: int) -> str:
    """Returns the multiples next to a number, as text.

    >>> multiples(12, of=8), multiples(3, of=8)
    ('8 or 16', '8')
    """
    above = -(-number // of) * of
    return " or ".join(str(n) for n in dict.fromkeys((number // of * of or above, above)))


@functools.cache
def rows_here(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Returns the positions in a batch of the rows that this process must read, ascending.

    On a TPU these rows are seldom consecutive, because the mesh follows the network and each host
    is a block of it. Processes that share a tensor axis read the same rows.
    """
    check_batch(mesh.shape, batch_size)
    slices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique([row for (rows,) in filter(None, slices) for row in range(batch_size)[rows]])


def place(rows_BX: np.ndarray, mesh: Mesh, batch_size: int) -> jax.Array:
    """Returns an array of `batch_size` rows, to which this process adds the rows of `rows_here`."""
    here = rows_here(mesh, batch_size)

    def local_rows(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index is not None
        first, stop = np.searchsorted(here, index[0].indices(batch_size)[:2])
        return rows_BX[first:stop]

    shape = (batch_size, *rows_BX.shape[1:])
    return jax.make_array_from_callback(shape, batch_sharding(mesh), local_rows)


def said_by_each(mesh: Mesh, word: int) -> jax.Array:
    """Returns an array with an int32 for every device, which is the `word` of its process."""
    own = np.full(1, word, np.int32)
    return jax.make_array_from_callback((mesh.size,), for_each(mesh), lambda _: own)


def said_by_all(mesh: Mesh, number: float) -> jax.Array:
    """Returns a float32 on every device, the `number` that all processes say."""
    own = np.float32(number)
    return jax.make_array_from_callback((), replicated(mesh), lambda _: own)


def for_each(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array [X] that has an item for every device."""
    return NamedSharding(mesh, P(sharding.AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that puts a whole copy on every device."""
    return NamedSharding(mesh, P())


def lead() -> bool:
    """Tells whether this process writes what only a single process may write.

    A process that has not joined others leads, and does not take devices to know that: they may be
    those of another process on this machine, or, on a host of a TPU slice, wait for the others.
    """
    return not jax.distributed.is_initialized() or jax.process_index() == 0
