"""Devices: starting the processes that share them, and the mesh that names them.

start()
mesh = make(recipe.train.mesh)
with jax.set_mesh(mesh): ...
"""

from collections.abc import Sequence
import math
import socket
import warnings

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lrl_jax import recipe
from lrl_jax.model import llama, sharding

HEARTBEAT_SECONDS = 100  # a process silent for this long ends the others; JAX's own default


def start(coordinator: str = "", processes: int = 0, process_id: int = 0) -> None:
    """Joins this process to its peers; with none, makes it a group of one.

    Always called, one process included: without it JAX passes no preemption notice on and
    SIGTERM saves nothing. Call it before anything else touches JAX; again, it does nothing.

    Args:
      coordinator: host:port of process 0. Empty: what the cluster says (TPU pods, Slurm, MPI);
        outside any cluster this process is alone.
      processes: how many processes there are, with `coordinator`.
      process_id: which of them this is, from 0.
    """
    if jax.distributed.is_initialized():
        return
    if coordinator:
        _check(coordinator, processes, process_id)
        _initialize(coordinator, processes, process_id)
    elif processes > 1:
        raise ValueError(f"processes={processes} needs a coordinator, such as 10.0.0.1:8476")
    else:
        _start_alone()


def _check(coordinator: str, processes: int, process_id: int) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"coordinator={coordinator!r}; want host:port, such as 10.0.0.1:8476")
    if not 0 <= process_id < processes:
        raise ValueError(
            f"process_id={process_id} with processes={processes}; ids run from 0 to processes - 1"
        )


def _start_alone() -> None:
    try:
        _initialize()  # the cluster names the peers
        return
    except ValueError:  # no cluster
        pass
    except RuntimeError as e:
        if "before" not in str(e):
            raise
        warnings.warn(
            "JAX was in use before mesh.start(); preemption notices will not be seen. "
            "Call mesh.start() first.",
            stacklevel=3,
        )
        return
    with socket.socket() as s:
        s.bind(("localhost", 0))
        address = f"localhost:{s.getsockname()[1]}"
    _initialize(address, 1, 0, coordinator_bind_address=address)


def _initialize(*args, **kwargs) -> None:
    alone = args[1:2] == (1,)  # then CPU devices need no network between them
    jax.config.update("jax_cpu_collectives_implementation", None if alone else "gloo")
    jax.distributed.initialize(*args, heartbeat_timeout_seconds=HEARTBEAT_SECONDS, **kwargs)


def make(shape: recipe.Mesh, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh (data, fsdp, tensor) over all devices, or over those given.

    Raises:
      ValueError: the axes do not multiply to the number of devices; suggests ones that do.
    """
    devices = list(devices) if devices is not None else jax.devices()
    sizes = [shape.data, shape.fsdp, shape.tensor]
    text = f"mesh data={shape.data}, fsdp={shape.fsdp}, tensor={shape.tensor}"
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise ValueError(f"{text}: axes are 1 or more, and one of them may be -1 (what is left)")
    known = math.prod(size for size in sizes if size != -1)
    if -1 in sizes and len(devices) % known == 0:
        sizes[sizes.index(-1)] = len(devices) // known
    if math.prod(sizes) != len(devices):
        raise ValueError(f"{text} does not fit {len(devices)} devices; {_suggest(len(devices))}")
    types = (AxisType.Auto,) * 3
    return jax.make_mesh(tuple(sizes), sharding.AXES, types, devices=devices)


def _suggest(count: int) -> str:
    """Meshes of `count` devices, sharding parameters first and splitting tensors last.

    >>> _suggest(4)
    'try data=1, fsdp=4, tensor=1 or data=2, fsdp=2, tensor=1 or data=1, fsdp=2, tensor=2'
    """
    pairs = [(1, count, 1), (2, count // 2, 1), (1, count // 2, 2)]
    fitting = [p for p in pairs if math.prod(p) == count and min(p) > 0]
    return "try " + " or ".join(f"data={d}, fsdp={f}, tensor={t}" for d, f, t in fitting)


def param_shardings(cfg: llama.LlamaConfig, mesh: Mesh) -> dict[str, NamedSharding]:
    """Where each parameter lives.

    Raises:
      ValueError: a mesh axis does not divide a dimension of the model; names both.
    """
    for letter, axis in sharding.DIMENSIONS.items():
        if cfg.sizes[letter] % mesh.shape[axis]:
            raise ValueError(
                f"mesh axis {axis}={mesh.shape[axis]} does not divide {NAMES[letter]} "
                f"({cfg.sizes[letter]}); choose a {axis} that does"
            )
    return {name: NamedSharding(mesh, sharding.spec(name)) for name in llama.abstract(cfg)}


NAMES = {
    "D": "width (hidden_size)",
    "F": "mlp_width (intermediate_size)",
    "V": "the padded vocabulary",
    "N": "num_heads (num_attention_heads)",
    "K": "num_kv_heads (num_key_value_heads)",
}


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over (data, fsdp), for arrays [B, ...]."""
    return NamedSharding(mesh, P(sharding.BATCH))


def batch_shards(mesh: Mesh) -> int:
    """How many pieces a batch is cut into; its size must be a multiple."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, P())


def lead() -> bool:
    """Whether this process writes what only one may write."""
    return jax.process_index() == 0


def meet(name: str) -> None:
    """Waits until every process has come here; at once when there is only one."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
