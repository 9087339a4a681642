"""Lists the chips: their memory, their speed, and the compiler options that are used for them.

Sources of the columns: peaks from cloud.google.com/tpu/docs (v4, v5e, v5p, v6e) and NVIDIA's
datasheets of the A100, H100 SXM and H200. Memory of a TPU is what its compiler (libtpu 0.0.51)
allows a program, read from its error messages; of a GPU, what XLA uses by default (three quarters).
The clock is the peak over cores x MXUs x 2 x MXU size**2. Links, one way:
jax-ml.github.io/scaling-book; they are also the source of PCIe and of the network between slices.
"""

from collections.abc import Mapping
import dataclasses

import jax

from lrl_jax.storage import GIB

VMEM = "xla_tpu_scoped_vmem_limit_kib"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """Describes one kind of accelerator; bytes/s are those of one chip in each direction."""

    kinds: tuple[str, ...]  # all spellings of its `device_kind`
    memory: float  # bytes that one program may use
    peak: float  # dense bfloat16 FLOP/s
    clock: float  # cycles per second, the unit of the compiler's estimates; 0 if it gives none
    link: float  # bytes/s of one link of the network within a slice or node
    links: int  # how many of these a chip has
    network: float  # bytes/s between slices or nodes
    host: float  # bytes/s to the host's memory
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)  # as `jax.jit` takes them


# Collective matmul (a matrix product in a loop over what its neighbours send) is slower where FSDP
# gathers over few devices: a step of a 7B on 16 v4 chips takes 3.04 s with it and 2.49 s without
# (estimated).
_WHOLE_PRODUCTS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}

# Without this option a v4 waits for every gather; MaxText's script for 2 x v4-128 (2023) sets it
# too. v5e gathers asynchronously by default; on v5p it changed nothing (tried on a small model).
_BESIDE_ARITHMETIC = {"xla_enable_async_all_gather": "true"}


# With more than 16 MiB of fast memory for a fusion a step is 12 to 20% shorter. Cores of v4 have
# no more; v5p 64 MiB; v5e, v6e 128 MiB (jax tpu_info.py).
CHIPS: Mapping[str, Chip] = {
    "v4": Chip(
        kinds=("TPU v4",), memory=30.75 * GIB, peak=275e12, clock=1.05e9,
        link=4.5e10, links=6, network=6.25e9, host=1.6e10,
        options=_WHOLE_PRODUCTS | _BESIDE_ARITHMETIC,
    ),
    "v5e": Chip(
        kinds=("TPU v5 lite", "TPU v5e"), memory=15.75 * GIB, peak=197e12, clock=1.5e9,
        link=4.5e10, links=4, network=3.125e9, host=1.6e10,
        options=_WHOLE_PRODUCTS | {VMEM: "65536"},
    ),
    "v5p": Chip(
        kinds=("TPU v5", "TPU v5p"), memory=95.73 * GIB, peak=459e12, clock=1.75e9,
        link=9e10, links=6, network=6.25e9, host=1.6e10,
        options=_WHOLE_PRODUCTS | {VMEM: "49152"},
    ),
    "v6e": Chip(
        kinds=("TPU v6 lite", "TPU v6e"), memory=31.24 * GIB, peak=918e12, clock=1.75e9,
        link=9e10, links=4, network=1.25e10, host=3.2e10,
        options=_WHOLE_PRODUCTS | {VMEM: "98304"},
    ),
    "a100": Chip(
        kinds=("NVIDIA A100-SXM4-80GB",), memory=0.75 * 79.2 * GIB, peak=312e12, clock=0,
        link=3e11, links=1, network=2.5e10, host=3.2e10,
    ),
    "a100-40gb": Chip(
        kinds=("NVIDIA A100-SXM4-40GB",), memory=0.75 * 39.4 * GIB, peak=312e12, clock=0,
        link=3e11, links=1, network=2.5e10, host=3.2e10,
    ),
    "h100": Chip(
        kinds=("NVIDIA H100 80GB HBM3",), memory=0.75 * 79.1 * GIB, peak=989e12, clock=0,
        link=4.5e11, links=1, network=5e10, host=6.4e10,
    ),
    "h200": Chip(
        kinds=("NVIDIA H200",), memory=0.75 * 139.8 * GIB, peak=989e12, clock=0,
        link=4.5e11, links=1, network=5e10, host=6.4e10,
    ),
}  # fmt: skip


def of(device: jax.Device) -> Chip | None:
    """Returns the chip of a device; None if it is not in the table, as for a CPU."""
    return next((chip for chip in CHIPS.values() if device.device_kind in chip.kinds), None)


def options(device: jax.Device) -> dict[str, str]:
    """Returns the compiler options for a device; no options if it is not in the table."""
    chip = of(device)
    return dict(chip.options) if chip else {}
