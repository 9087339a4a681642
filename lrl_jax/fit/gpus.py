"""NVIDIA GPUs described without having them.

XLA's CUDA compiler needs no GPU, only its description; it comes with JAX's CUDA plugin:
pip install --no-deps jax-cuda13-plugin jax-cuda13-pjrt, in JAX's version. It gives bytes, no time.
"""

from collections.abc import Sequence
import importlib.util
import os
from typing import Any

from jax.experimental import topologies

# What differs between cards, in XLA's words (stream_executor DeviceDescription): name, bytes of
# memory, bytes/s of memory, cores, GHz, compute capability.
CARDS = {
    "h100": ("NVIDIA H100 80GB HBM3", 84929347584, 3352320000000, 132, 1.98, (9, 0)),
    "h200": ("NVIDIA H200", 150108766208, 4800000000000, 132, 1.98, (9, 0)),
    "a100": ("NVIDIA A100-SXM4-80GB", 85024112640, 2039000000000, 108, 1.41, (8, 0)),
    "a100-40gb": ("NVIDIA A100-SXM4-40GB", 42298834944, 1555000000000, 108, 1.41, (8, 0)),
}
PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")


def describe(kind: str, nodes: int, count: int) -> Sequence[Any]:
    """Devices of `nodes` nodes of `count` GPUs each.

    Raises:
      ValueError: no CUDA plugin here.
    """
    if not plugin():
        raise ValueError(
            f"{kind}: compiling for a GPU needs JAX's CUDA plugin, but no GPU: pip install "
            "--no-deps jax-cuda13-plugin jax-cuda13-pjrt, in the version of jax"
        )
    # Autotuning would run kernels on the card.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"
    described = topologies.get_topology_desc(
        platform="cuda",
        topology_name=kind,
        topology=f"1x{nodes}x{count}",
        target_config=_text(*CARDS[kind]),
    )
    return described.devices


def plugin() -> bool:
    """Whether XLA's CUDA compiler is here."""
    return any(importlib.util.find_spec(name) for name in PLUGINS)


def _text(name: str, memory: int, bandwidth: int, cores: int, clock: float, version) -> str:
    """A card as XLA's GpuTargetConfigProto, in text."""
    old = version < (9, 0)
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {167936 if old else 233472}
  threads_per_core_limit: 2048
  core_count: {cores}
  fpus_per_core: {64 if old else 128}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: {41943040 if old else 52428800}
  clock_rate_ghz: {clock}
  device_memory_size: {memory}
  shared_memory_per_block_optin: {166912 if old else 232448}
  cuda_compute_capability {{ major: {version[0]} minor: {version[1]} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""
