"""Describes machines by name ("v5e-64", "2xv4-128", "h100-8"), to compile for without having them.

    target = describe("v5e-64")
    mesh = lrl_jax.devices.mesh.make(recipe.train.mesh, target.devices)

libtpu compiles for a TPU on any Linux machine (the extra `fit`). XLA's CUDA compiler needs only a
description of the GPU. It comes with JAX's CUDA plugin: pip install --no-deps jax-cuda13-plugin
jax-cuda13-pjrt, in JAX's version. For a GPU memory is reported, but no time.
"""

from collections.abc import Sequence
import dataclasses
import difflib
import importlib.metadata
import importlib.util
import math
import os
import re
from typing import Any

import jax
from jax.experimental import topologies

from lrl_jax.devices import chips
from lrl_jax.recipe.extras import how_to_install

# The number in a machine's name -> chips along each side of a slice (cloud.google.com/tpu/docs).
SQUARES = {
    1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16",
}  # fmt: skip
CUBES = {  # these are named by cores, two for each chip: v4-64 has 32 chips
    8: "2x2x1", 16: "2x2x2", 32: "2x2x4", 64: "2x4x4", 128: "4x4x4", 256: "4x4x8", 512: "4x8x8",
    1024: "8x8x8", 2048: "8x8x16", 4096: "8x16x16",
}  # fmt: skip
NODES = {1: "1", 2: "2", 4: "4", 8: "8"}  # of GPUs
# What differs between cards in XLA's DeviceDescription: name, bytes of memory, bytes/s of memory,
# cores, GHz, compute capability.
CARDS = {
    "h100": ("NVIDIA H100 80GB HBM3", 84929347584, 3352320000000, 132, 1.98, (9, 0)),
    "h200": ("NVIDIA H200", 150108766208, 4800000000000, 132, 1.98, (9, 0)),
    "a100": ("NVIDIA A100-SXM4-80GB", 85024112640, 2039000000000, 108, 1.41, (8, 0)),
    "a100-40gb": ("NVIDIA A100-SXM4-40GB", 42298834944, 1555000000000, 108, 1.41, (8, 0)),
}
SIZES = {"v4": CUBES, "v5p": CUBES, "v5e": SQUARES, "v6e": SQUARES, **dict.fromkeys(CARDS, NODES)}
PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
# When libtpu loads, it looks for a TPU and locks it for one process. Compiling needs neither.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """Describes a machine to compile for."""

    name: str
    kind: str  # of its chips, a key of `chips.CHIPS`
    slices: int  # groups of chips with a slower network between them
    shape: str  # chips along each side of a slice, in libtpu's form; for GPUs, how many there are
    count: int  # how many chips all slices have together
    devices: Sequence[Any] = dataclasses.field(default=(), repr=False)

    @property
    def chip(self) -> chips.Chip:
        return chips.CHIPS[self.kind]

    @property
    def is_tpu(self) -> bool:
        return self.kind.startswith("v")


def names() -> list[str]:
    """Returns the names of all machines with a single slice."""
    return [f"{kind}-{size}" for kind in chips.CHIPS for size in SIZES[kind]]


def read(name: str) -> Machine:
    """Returns the machine with this name, without devices, or suggests similar names.

    >>> read("2xv4-64").shape, read("2xv4-64").count
    ('2x4x4', 64)
    """
    match = re.fullmatch(r"(?:(\d+)x)?([a-z0-9]+(?:-40gb)?)-(\d+)", name.lower())
    slices, kind, size = match.groups(default="1") if match else ("", "", "")
    if kind not in SIZES or int(size) not in SIZES[kind]:
        raise ValueError(_unknown(name, kind))
    shape = SIZES[kind][int(size)]
    return Machine(name, kind, int(slices), shape, int(slices) * math.prod(_sides(shape)))


def _sides(shape: str) -> list[int]:
    return [int(side) for side in shape.split("x")]


def describe(name: str) -> Machine:
    """Returns the machine with devices to build a mesh of, which can be compiled for but not used.

    Where there is no such machine, or no compiler for it, says which there are or what to install.
    """
    target = read(name)
    devices = _tpus(target) if target.is_tpu else _gpus(target)
    assert len(devices) == target.count, (target, len(devices))
    return dataclasses.replace(target, devices=devices)


def _unknown(name: str, kind: str) -> str:
    if kind in chips.CHIPS:
        note = " (named by cores, two a chip)" if SIZES[kind] is CUBES else ""
        allowed = ", ".join(f"{kind}-{size}" for size in SIZES[kind])
        more = "slices" if kind.startswith("v") else "nodes"
        return f"no machine {name!r}: {kind} comes as {allowed}{note}; 2x{kind}-... is two {more}"
    near = difflib.get_close_matches(name.lower(), names(), n=4, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "such as v5e-64, v4-128 or 2xv6e-256"
    return f"no machine {name!r}; chips are {', '.join(chips.CHIPS)}: {hint}"


def libtpu() -> str:
    """Returns the version of the TPU compiler that is installed; "" if none is."""
    try:
        return importlib.metadata.version("libtpu")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _tpus(target: Machine) -> Sequence[Any]:
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(
            f"{target.name}: compiling for a TPU needs libtpu, which needs no TPU: "
            f"{how_to_install('fit')} (Linux)"
        )
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    more: dict[str, Any] = {"wrap": wraps(target.shape)}
    if target.kind == "v4":  # JAX uses both cores of a chip as one device
        more["chip_config_name"] = "megacore"
    if target.shape == SQUARES[1]:
        more["chips_per_host_bounds"] = (1, 1, 1)
    if target.slices > 1:
        more["num_slices"] = target.slices
    name = f"{target.kind}:{target.shape}"
    return topologies.get_topology_desc(platform="tpu", topology_name=name, **more).devices


def wraps(shape: str) -> tuple[bool, ...]:
    """Tells along which sides of a slice the network closes to a ring.

    v4 and v5p consist of cubes joined by optical switches, and have rings if every side is a whole
    number of cubes. v5e and v6e have rings along sides of 16 (cloud.google.com/tpu/docs, system
    architecture). Without rings the compiler replaces gathers by slower sums.

    >>> wraps("4x4x8"), wraps("2x4x4"), wraps("8x16")
    ((True, True, True), (False, False, False), (False, True, False))
    """
    sides = _sides(shape)
    if len(sides) == 3:
        return (all(side % 4 == 0 for side in sides),) * 3
    return (*(side == 16 for side in sides), False)


def _gpus(target: Machine) -> Sequence[Any]:
    if not has_gpu_compiler():
        raise ValueError(
            f"{target.name}: compiling for a GPU needs JAX's CUDA plugin, but no GPU: pip install "
            "--no-deps jax-cuda13-plugin jax-cuda13-pjrt, in the version of jax"
        )
    # Autotuning would need to run kernels on a GPU.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"
    return topologies.get_topology_desc(
        platform="cuda", topology_name=target.kind, topology=f"1x{target.slices}x{target.shape}",
        target_config=_card(*CARDS[target.kind]),
    ).devices  # fmt: skip


def _card(name: str, memory: int, bandwidth: int, cores: int, clock: float, version) -> str:
    """Returns the description of a GPU as the text of XLA's GpuTargetConfigProto."""
    old = version < (9, 0)
    return f"""
gpu_device_info {{
  cuda_compute_capability {{ major: {version[0]} minor: {version[1]} }}
  core_count: {cores} clock_rate_ghz: {clock} fpus_per_core: {64 if old else 128}
  device_memory_size: {memory} memory_bandwidth: {bandwidth}
  l2_cache_size: {41943040 if old else 52428800}
  shared_memory_per_core: {167936 if old else 233472}
  shared_memory_per_block: 49152 shared_memory_per_block_optin: {166912 if old else 232448}
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""


def has_gpu_compiler() -> bool:
    """Tells whether XLA's CUDA compiler is installed."""
    return any(importlib.util.find_spec(name) for name in PLUGINS)


def unused_backend() -> None:
    """Makes this process compile without a device; to be called before JAX is asked for devices.

    Otherwise, on a machine with a TPU, describing another machine would lock the real TPU.
    """
    jax.config.update("jax_platforms", "cpu")
