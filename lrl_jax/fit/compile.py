"""Compiles the training step of a recipe for a machine that need not be here, and measures it.

    job = CompileJob(cfg, recipe.train, length=4096)
    fitted = compile_step(job, job.phases[0], topology.describe("v5e-64"))

No arrays are allocated: states and batches are shapes with shardings.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from pathlib import Path
import re
import tempfile
import time
from typing import Any

import jax
from jax.sharding import Mesh
import numpy as np

from lrl_jax.data.pack import rows
from lrl_jax.devices import mesh as meshes
from lrl_jax.devices import presets
from lrl_jax.fit import cost, published
from lrl_jax.fit.topology import Machine
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train
from lrl_jax.storage import GIB
from lrl_jax.train import learn, step

UNKNOWN = 10**9  # steps: more than any schedule's warm-up
LANES = 128  # splash attention reads rows in blocks of this many tokens


class TooLargeError(ValueError):
    """Reports a step that does not fit into memory; `needed` is in bytes per chip."""

    def __init__(self, needed: float, available: float, what: str):
        super().__init__(f"{what} needs {needed / GIB:.2f} GiB a chip of {available / GIB:.2f} GiB")
        self.needed = needed


@dataclasses.dataclass(frozen=True)
class CompileJob:
    """Describes a training step to compile.

    Rows have `length` tokens; the last `new_tokens` rows of the vocabulary are new.
    """

    cfg: llama.LlamaConfig
    settings: recipe_train.Train
    length: int
    param_dtype: str = "float32"
    new_tokens: int = 0

    def but(self, **changes: Any) -> "CompileJob":
        """Returns the job with changed fields of `train`; `remat` is changed in the model too."""
        settings = self.settings.model_copy(update=changes)
        cfg = dataclasses.replace(self.cfg, remat=changes.get("remat", self.cfg.remat))
        return dataclasses.replace(self, settings=settings, cfg=cfg)

    @property
    def phases(self) -> tuple[learn.Phase, ...]:
        return learn.phases(self.settings.stages)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Holds the bytes that a step needs on one chip, by kind."""

    parameters: float
    optimizer: float
    other: float  # the batch, and the padding of arrays
    temporaries: float  # activations, gradients, gathered weights, as the compiler allocates them
    host: float  # of the host's memory, for this chip
    total: float
    limit: float  # how many bytes a program may use on the chip


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Holds the memory and time of one compiled step."""

    phase: str  # the names of its stages
    chips: int
    remat: str
    tokens: int  # how many one step reads, on all chips together
    memory: Memory
    cost: cost.Cost | None
    mfu: float  # share of the chips' peak at the estimated time; 0 when time was not estimated
    compiling: float  # how many seconds it took to compile
    band: published.Band  # how many times the estimate a measured step may take

    @property
    def seconds(self) -> float:
        return self.cost.seconds if self.cost else 0.0

    @property
    def tokens_per_second_per_chip(self) -> float:
        return self.tokens / self.seconds / self.chips if self.seconds else 0.0

    def days(self, steps: int) -> tuple[float, float]:
        """Returns how many days `steps` steps take, at least and at most."""
        days = steps * self.seconds / 86400
        return days * self.band.low, days * self.band.high


def settled(job: CompileJob, devices: Sequence[jax.Device], memory: float) -> CompileJob:
    """Returns the job with `train.mesh: auto` replaced by a mesh for these devices.

    A program may use `memory` bytes on each. If no mesh works, says how many rows or chips would.
    """
    slices = len({*map(meshes.slice_of, devices)})
    return planned(job, len(devices), slices, memory, devices[0])


def planned(
    job: CompileJob, count: int, slices: int, memory: float, like: jax.Device
) -> CompileJob:
    """Returns what `settled` would for `count` devices that need not exist; `like` may be any."""
    if job.settings.mesh != "auto":
        return job
    rows = job.settings.batch_size // job.settings.accumulate
    return job.but(
        mesh=presets.preset(count, rows, job.cfg, memory, slices, whole_state(job, like))
    )


def whole_state(job: CompileJob, like: jax.Device) -> float:
    """Returns the bytes of parameters and optimizer state on all devices, in the largest phase."""
    alone = meshes.make(recipe_train.Mesh(), [like])
    plain = job.but(mesh=recipe_train.Mesh())
    return max(state_bytes(make(plain, phase, alone))["device"] for phase in job.phases)


def refuse(job: CompileJob, count: int, tpu: bool) -> None:
    """Refuses a job that cannot run on `count` chips, as its sizes alone show; says what would.

    The mesh must divide the model and the batch, and the attention kernel's block the rows.
    """
    settings, length = job.settings, job.length
    data, fsdp, tensor = meshes.sizes(settings.axes, count)
    axes = dict(slices=1, data=data, fsdp=fsdp, tensor=tensor)
    meshes.check_model(job.cfg, axes)
    meshes.check_batch(axes, settings.batch_size, settings.accumulate)
    if settings.axes.sequence and length % tensor:
        raise ValueError(
            f"mesh.sequence splits data.sequence_length={length} over tensor={tensor}, which does "
            f"not divide it; use {-(-length // tensor) * tensor}, or sequence: false"
        )
    if tpu and length % LANES:
        raise ValueError(
            f"data.sequence_length={length}: attention on a TPU reads {LANES} tokens at a "
            f"time; use {meshes.multiples(length, LANES)}"
        )


def check(job: CompileJob, target: Machine) -> Mesh:
    """Returns the mesh of a job on the target, after refusing jobs that need not be compiled.

    Raises:
      ValueError: as in `refuse`, or the network of the target does not allow the mesh.
      TooLargeError: the state alone is larger than the memory of a chip.
    """
    refuse(job, target.count, target.is_tpu)
    mesh = meshes.make(job.settings.axes, target.devices)
    state = state_bytes(make(job, job.phases[0], mesh))["device"]
    memory = target.chip.memory
    if state > memory:
        raise TooLargeError(state, memory, "the state alone (parameters and optimizer)")
    return mesh


def compile_step(
    job: CompileJob,
    phase: learn.Phase,
    target: Machine,
    options: Mapping[str, Any] | None = None,
    text_to: Path | None = None,
) -> Fitted:
    """Compiles the step of a phase as `lrl train` would on the target.

    The compiler gets `options` in addition to the chip's own. The optimised program is written to
    the file `text_to`. Raises as `check`, and TooLargeError if the step does not fit.
    """
    job = settled(job, target.devices, target.chip.memory)
    mesh = check(job, target)
    made = make(job, phase, mesh)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as dump:
        more = {"xla_dump_to": dump, "xla_dump_hlo_as_text": True} if target.is_tpu else {}
        compiled = compile_made(made, job, mesh, target.chip.memory, more | dict(options or {}))
        text = program(compiled, Path(dump)) if target.is_tpu else ""
    compiling = time.perf_counter() - started
    memory = _memory(compiled, made, target)
    if memory.total > memory.limit:  # XLA compiles for GPUs even what does not fit
        raise TooLargeError(memory.total, memory.limit, "the step")
    if text_to is not None:
        text_to.write_text(text)
    estimate = cost.of(text, target.chip) if text else None
    learns = learn.trainable(learn.groups(phase.learn, [*llama.abstract(job.cfg)]))
    tokens = job.settings.batch_size * job.length
    flops = learn.flops_per_token(job.cfg, job.length, learns) * tokens / target.count
    mfu = flops / target.chip.peak / estimate.seconds if estimate else 0.0
    return Fitted(
        phase.name, target.count, job.cfg.remat, tokens, memory, estimate, mfu, compiling,
        published.band(target.kind),
    )  # fmt: skip


def make(job: CompileJob, phase: learn.Phase, mesh: Mesh) -> step.Step:
    """Returns the training step of a phase on a mesh."""
    if not phase.steps:  # the length is in epochs: unknown until the data is packed
        phase = dataclasses.replace(phase, steps=UNKNOWN)
    new_rows = np.zeros(job.cfg.padded_vocab_size, bool)
    new_rows[job.cfg.vocab_size - job.new_tokens : job.cfg.vocab_size] = True
    return step.make_step(job.cfg, phase, job.settings, mesh, job.param_dtype, new_rows)


def compile_made(
    made: step.Step, job: CompileJob, mesh: Mesh, limit: float, options: Mapping[str, Any]
) -> jax.stages.Compiled:
    """Compiles a step for devices with `limit` bytes; TooLargeError if the compiler notices one."""
    shape = (job.settings.batch_size, job.length)
    array = jax.ShapeDtypeStruct(shape, np.int32, sharding=meshes.batch_sharding(mesh))
    batch = dict.fromkeys(rows.features([], job.length, bos_id=0, pad_id=0), array)
    asked = jax.ShapeDtypeStruct((mesh.size,), np.int32, sharding=meshes.for_each(mesh))
    done = jax.ShapeDtypeStruct((), np.float32, sharding=meshes.replicated(mesh))
    with jax.set_mesh(mesh):
        lowered = made.run.lower(made.abstract, batch, asked, done)
        try:
            return lowered.compile(compiler_options=dict(options) or None)
        except jax.errors.JaxRuntimeError as e:
            raise refusal(e, limit) from None


def state_bytes(made: step.Step) -> dict[str, float]:
    """Returns the bytes per chip of parameters and of other state, on device and on host."""
    out = dict(parameters=0.0, optimizer=0.0, device=0.0, host=0.0)
    for kind, tree in made.abstract.items():
        for leaf in jax.tree.leaves(tree):
            items = math.prod(leaf.sharding.shard_shape(leaf.shape))
            size = items * jax.dtypes.itemsize_bits(leaf.dtype) / 8
            where = "host" if leaf.sharding.memory_kind == "pinned_host" else "device"
            out[where] += size
            if where == "device":
                out["parameters" if kind == "params" else "optimizer"] += size
    return out


def needed(compiled: jax.stages.Compiled) -> tuple[Any, float]:
    """Returns the sizes of buffers that XLA reports, and the bytes needed besides arguments.

    A buffer that an argument and a result share counts once.
    """
    sizes = compiled.memory_analysis()
    assert sizes is not None  # every backend of JAX reports the size of its buffers
    more = max(0, sizes.output_size_in_bytes - sizes.alias_size_in_bytes)
    return sizes, sizes.temp_size_in_bytes + more


def _memory(compiled: jax.stages.Compiled, made: step.Step, target: Machine) -> Memory:
    (sizes, more), state = needed(compiled), state_bytes(made)
    given = sizes.argument_size_in_bytes
    return Memory(
        parameters=state["parameters"],
        optimizer=state["optimizer"],
        other=max(0.0, given - state["device"]),
        temporaries=more,
        host=sizes.host_temp_size_in_bytes + state["host"],
        total=given + more,
        limit=target.chip.memory,
    )


def program(compiled: Any, dump: Path) -> str:
    """Returns the optimised program with the compiler's estimates, as text."""
    try:
        return compiled.as_text()
    except Exception:  # jaxlib may be too old to read libtpu's programs
        texts = dump.rglob("*after_codegen.txt")
        return max(texts, key=lambda path: path.stat().st_size).read_text()


def refusal(error: Exception, limit: float) -> Exception:
    """Returns a TooLargeError for the compiler's "out of memory", and any other error unchanged.

    >>> words = "RESOURCE_EXHAUSTED: temporaries (34.00G) exceeds available HBM (15.75G)."
    >>> str(refusal(RuntimeError(words), 15.75 * GIB))
    'the step needs 34.00 GiB a chip of 15.75 GiB'
    """
    text = str(error)
    if "RESOURCE_EXHAUSTED" not in text or "Vmem" in text:
        return error
    sizes = re.search(r"\(([\d.]+[KMGT])\) exceeds available HBM \(([\d.]+[KMGT])\)", text)
    sizes = sizes or re.search(r"Used ([\d.]+[KMGT]) of ([\d.]+[KMGT]) hbm", text)
    needed, available = map(_bytes, sizes.groups()) if sizes else (math.inf, limit)
    return TooLargeError(needed, available, "the step")


def _bytes(text: str) -> float:
    return float(text[:-1]) * 1024 ** ("KMGT".index(text[-1]) + 1)
