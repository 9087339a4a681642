"""Compares estimates with published runs, and says from them how far an estimate may be off.

    low, high = band("v5e").low, band("v5e").high    # a measured step takes low to high times it

Each run was measured and published by others, with a program of their own. Its model, rows and mesh
are compiled here as `lrl fit` compiles a recipe; `scripts/benchmarks/published.py` does it again.
"""

from collections.abc import Iterable
import dataclasses
import functools
import math
from typing import Any

from lrl_jax.fit import topology
from lrl_jax.model import llama
from lrl_jax.train import learn

# What a band is at least: from the estimate, which knows no stalls, to a quarter more.
LEAST, MOST = 1.0, 1.25
STEP = 0.05  # bands end at multiples of this
LIBTPU = "0.0.51"  # the compiler that made the estimates; another one makes others
WHEEL = "MaxText 0.2.5, configs/tpu"
RECIPES = "AI-Hypercomputer/tpu-recipes, training/trillium"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """Describes a run that was measured elsewhere, and what its step is estimated to take.

    Attributes:
      rows: of `length` tokens, on each chip or, where `tensor` is above 1, on so many chips.
      tflops: what was published, a second and chip; 0 where `seconds` of a step were.
      estimate: seconds of our step of the same model, rows and mesh, by LIBTPU.
    """

    name: str
    machine: str
    source: str
    width: int
    depth: int
    mlp_width: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int = 32000
    length: int = 2048
    rows: int
    data: int = 1
    fsdp: int
    tensor: int = 1
    remat: llama.Remat = "nothing"
    loss_blocks: int = 1
    tflops: float = 0.0
    seconds: float = 0.0
    estimate: float

    @property
    def kind(self) -> str:
        """Returns the kind of its chips."""
        return topology.read(self.machine).kind

    @property
    def shape(self) -> dict[str, Any]:
        """Returns the fields of the model's config."""
        names = ("width", "depth", "mlp_width", "num_heads", "num_kv_heads", "vocab_size")
        return {name: getattr(self, name) for name in names} | {"head_width": 128}

    @property
    def measured(self) -> tuple[float, float]:
        """Returns the seconds of a measured step, at least and at most.

        FLOPs of a second become seconds by the FLOPs of a step. MaxText counted the whole square of
        attention's scores until 2025, and half of it since; the figures do not say when they are
        from, so both are given.
        """
        if self.seconds:
            return self.seconds, self.seconds
        cfg = llama.LlamaConfig(**self.shape, norm_eps=1e-5, rope_theta=1e4)
        half = 12 * cfg.seen(self.length) * cfg.num_heads * cfg.head_width
        tokens = self.rows * self.length / self.tensor
        counted = learn.flops_per_token(cfg, self.length)
        low, high = (tokens * flops / self.tflops / 1e12 for flops in (counted, counted + half))
        return low, high

    @property
    def ratios(self) -> tuple[float, float]:
        """Returns how many times the estimate the measured step took, at least and at most."""
        low, high = self.measured
        return low / self.estimate, high / self.estimate


@dataclasses.dataclass(frozen=True)
class Band:
    """Says how many times an estimate a measured step may take; `runs` were compared on the chip.

    Where none was, the band holds those of all other chips.
    """

    low: float
    high: float
    runs: int


RUNS = (
    PublishedRun(
        name="16B", machine="v5e-256", source=f"{WHEEL}/v5e/16b.sh", width=4096, depth=32,
        mlp_width=28672, num_heads=64, num_kv_heads=64, rows=6, fsdp=256, tflops=120,
        estimate=8.85,
    ),
    PublishedRun(
        name="32B", machine="v5e-256", source=f"{WHEEL}/v5e/32b.sh", width=8192, depth=32,
        mlp_width=28672, num_heads=64, num_kv_heads=64, rows=4, fsdp=256, tflops=132,
        estimate=11.70,
    ),
    PublishedRun(
        name="22B", machine="v4-128", source=f"{WHEEL}/v4/22b.sh", width=6144, depth=48,
        mlp_width=24576, num_heads=24, num_kv_heads=24, rows=10, fsdp=64, loss_blocks=8,
        tflops=156, estimate=17.56,
    ),
    PublishedRun(
        name="Llama-2-70B", machine="v6e-256", source=f"{RECIPES}/Llama2-70B-MaxText", width=8192,
        depth=80, mlp_width=28672, num_heads=64, num_kv_heads=8, length=4096, rows=2, fsdp=256,
        remat="offload", seconds=9.052, estimate=7.77,
    ),
    PublishedRun(
        name="Llama-3.1-8B", machine="v6e-64", source=f"{RECIPES}/Llama3.1-8B-MaxText/v6e-64",
        width=4096, depth=32, mlp_width=14336, num_heads=32, num_kv_heads=8, vocab_size=128256,
        length=8192, rows=5, fsdp=64, remat="offload", loss_blocks=8, seconds=5.652, estimate=4.03,
    ),
)  # fmt: skip


@functools.cache
def band(kind: str) -> Band:
    """Returns the band of a kind of chip, widened until it covers every run published for it."""
    runs = [run for run in RUNS if run.kind == kind]
    return _covering(runs or RUNS, len(runs))


def _covering(runs: Iterable[PublishedRun], count: int) -> Band:
    ratios = [ratio for run in runs for ratio in run.ratios]
    low = math.floor(min(LEAST, *ratios) / STEP + 1e-9) * STEP
    high = math.ceil(max(MOST, *ratios) / STEP - 1e-9) * STEP
    return Band(round(low, 2), round(high, 2), count)
