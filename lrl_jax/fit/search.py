"""Searches a recipe's settings by compiling: what `auto` means, what fits, and what is fastest.

Compiling one setting takes from seconds to minutes.
"""

import bisect
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import itertools
import logging
from typing import Any, TypeVar

import jax

from lrl_jax.devices import chips
from lrl_jax.devices import mesh as meshes
from lrl_jax.fit import compile as compiling
from lrl_jax.fit import topology
from lrl_jax.fit.compile import CompileJob, Fitted, TooLargeError, compile_step
from lrl_jax.fit.topology import Machine
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train
from lrl_jax.storage import GIB
from lrl_jax.train import learn

log = logging.getLogger(__name__)

# Rungs of remat.LADDER from the least memory to the most. "offload" is not among them, because it
# uses memory of the host.
RUNGS: tuple[llama.Remat, ...] = ("nothing", "qk", "qkv", "projections", "dots", "full")
BLOCKS = 8  # vocabulary blocks of the loss to try when a step does not fit
ROWS = (8, 4, 2, 1)  # rows on a device at once that a search tries
Changes = dict[str, Any]  # fields of `train` and their new values
Told = Callable[[str], None]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class FitTrial:
    """Holds changed settings and their compiled step, or the bytes needed if it does not fit."""

    changes: Changes
    fitted: Fitted | None
    needed: float = 0.0

    @property
    def words(self) -> str:
        return said(self.changes)

    @property
    def memory(self) -> float:
        return self.fitted.memory.total if self.fitted else self.needed

    @property
    def seconds_per_token(self) -> float:
        return self.fitted.seconds / self.fitted.tokens if self.fitted else float("inf")


def said(changes: Changes) -> str:
    """Returns the changes written as overrides of a recipe.

    >>> said({"remat": "qkv", "accumulate": 2})
    'train.remat=qkv train.accumulate=2'
    """
    out = []
    for field, value in changes.items():
        if field == "mesh":
            out += [f"train.mesh.{a}={getattr(value, a)}" for a in ("data", "fsdp", "tensor")]
        elif field == "optimizer":
            out.append(f"train.optimizer.moments_on={value.moments_on}")
        else:
            out.append(f"train.{field}={value}")
    return " ".join(out)


def compile_phases(job: CompileJob, target: Machine, tell: Told) -> list[Fitted]:
    """Compiles every phase, or once those with the same program; refuses as `compile_step`."""
    fitted: dict[tuple, Fitted] = {}
    for phase in programs(job):
        tell(f"compiling {phase.name} for {target.name} ({target.count} chips)")
        fitted[_program(phase)] = compile_step(job, phase, target)
    return [dataclasses.replace(fitted[_program(p)], phase=p.name) for p in job.phases]


def programs(job: CompileJob) -> list[learn.Phase]:
    """Returns one phase for each distinct program, the one that trains most parameters first."""
    params = llama.abstract(job.cfg)

    def size(phase: learn.Phase) -> int:
        learns = learn.trainable(learn.groups(phase.learn, [*params]))
        return sum(params[path].size for path in learns)

    different = {_program(phase): phase for phase in reversed(job.phases)}
    return sorted(reversed(different.values()), key=size, reverse=True)


def _program(phase: learn.Phase) -> tuple:
    """Returns a key of a phase's program, which rates and numbers of steps do not change."""
    return tuple((rule.match, rule.rows, rule.schedule == "frozen") for rule in phase.learn)


def most(job: CompileJob, compiled: Callable[[CompileJob], T], tell: Told) -> T:
    """Returns the result of `compiled` on the highest rung that fits, which `remat: auto` chooses.

    It searches by bisection: a job that fits on one rung also fits on all rungs below. Raises the
    TooLargeError of the lowest rung if not even that fits.
    """
    results: dict[llama.Remat, T] = {}

    def is_too_large(rung: llama.Remat) -> bool:
        try:
            results[rung] = compiled(job.but(remat=rung))
        except TooLargeError as e:
            tell(f"remat {rung}: {e}")
            if rung == RUNGS[0]:
                raise
            return True
        return False

    return results[RUNGS[bisect.bisect_left(RUNGS, True, key=is_too_large) - 1]]


def attempt(job: CompileJob, changes: Changes, target: Machine, tell: Told) -> FitTrial:
    """Compiles every phase of a job with changed settings; keeps the one with the most memory."""
    try:
        fitted = compile_phases(job.but(**changes), target, tell)
    except TooLargeError as e:
        return FitTrial(changes, None, e.needed)
    return FitTrial(changes, max(fitted, key=lambda phase: phase.memory.total))


# ---------------------------------------------------------------------------- the nearest setting
def nearest(job: CompileJob, target: Machine, tell: Told) -> FitTrial | None:
    """Returns the first setting that fits; the changes that cost the least time are tried first.

    Each change is added to those before it. Returns None if all of them together do not fit.
    """
    changes: Changes = {}
    for change in _savings(job, target):
        changes = changes | change
        tell(f"trying {said(changes)}")
        try:
            trial = attempt(job, changes, target, tell)
        except ValueError as e:  # this change is impossible here; the next may not be
            tell(str(e))
            continue
        if trial.fitted:
            return trial
    return None


def _savings(job: CompileJob, target: Machine) -> Iterator[Changes]:
    settings = job.settings
    if job.cfg.remat in (*RUNGS[1:], "offload"):
        yield {"remat": RUNGS[0]}
    if settings.loss_blocks < BLOCKS:
        yield {"loss_blocks": BLOCKS}
    data, fsdp, tensor = meshes.sizes(settings.axes, target.count)
    slices = settings.axes.slices
    at_once = settings.batch_size // (data * fsdp) // settings.accumulate
    if at_once > 1:
        yield {"accumulate": settings.accumulate * at_once}
    if settings.optimizer.moments_on == "device":
        yield {"optimizer": settings.optimizer.model_copy(update=dict(moments_on="host"))}
    yield {"remat": "offload"}
    if tensor == 1:
        split = dict(data=slices, fsdp=target.count // slices // 2, tensor=2)
        yield {"mesh": settings.axes.model_copy(update=split)}


def larger(job: CompileJob, target: Machine) -> str:
    """Returns the smallest machine of these chips with room for twice the state; '' if none has."""
    twice, memory = 2 * compiling.whole_state(job, target.devices[0]), target.chip.memory
    machines = (m for m in map(topology.read, topology.names()) if m.kind == target.kind)
    return next((m.name for m in machines if m.count * memory > twice), "")


# ---------------------------------------------------------------------------- on these devices
def mesh(job: CompileJob, devices: Sequence[jax.Device]) -> recipe_train.Mesh:
    """Returns the mesh of the recipe, or the mesh that `auto` chooses for these devices."""
    return compiling.settled(job, devices, _limit(devices[0])).settings.axes


def remat(job: CompileJob, mesh: jax.sharding.Mesh) -> llama.Remat:
    """Returns the rung that `remat: auto` chooses for these devices; TooLargeError if none fits.

    On a CPU everything is kept, because memory is not scarce there.
    """
    device = mesh.devices.flat[0]
    return RUNGS[-1] if device.platform == "cpu" else remat_within(job, mesh, _limit(device))


def remat_within(job: CompileJob, mesh: jax.sharding.Mesh, limit: float) -> llama.Remat:
    """Returns the highest rung on which all phases need at most `limit` bytes on a device."""

    def fitting(tried: CompileJob) -> llama.Remat:
        rung, largest = tried.cfg.remat, 0.0
        for phase in programs(tried):
            made = compiling.make(tried, phase, mesh)
            compiled = compiling.compile_made(made, tried, mesh, limit, {})
            sizes, more = compiling.needed(compiled)
            largest = max(largest, sizes.argument_size_in_bytes + more)
            if largest > limit:
                raise TooLargeError(largest, limit, f"remat {rung}")
        log.info("remat: auto is %s: %.2f GiB of %.2f", rung, largest / GIB, limit / GIB)
        return rung

    return most(job, fitting, log.debug)


def _limit(device: jax.Device) -> float:
    """Returns the bytes that a chip says it has, or else what `chips.CHIPS` says."""
    chip = chips.of(device)
    stats = device.memory_stats() or {}
    return stats.get("bytes_limit") or (chip.memory if chip else float("inf"))


# ---------------------------------------------------------------------------- the best settings
def plan(job: CompileJob, target: Machine) -> list[list[Changes]]:
    """Returns settings to compile: for each mesh and number of rows, all rungs from the lowest."""
    settings, slices = job.settings, job.settings.axes.slices
    within = target.count // slices
    out: list[list[Changes]] = []
    for (copies, tensor), rows in itertools.product(((1, 1), (2, 1), (1, 2)), ROWS):
        if within % (copies * tensor) or job.cfg.num_kv_heads % tensor:
            continue
        split = dict(data=slices * copies, fsdp=within // copies // tensor, tensor=tensor)
        parts, rest = divmod(settings.batch_size, split["data"] * split["fsdp"] * rows)
        if rest:
            continue
        same = {"mesh": settings.axes.model_copy(update=split), "accumulate": parts}
        out.append([same | {"remat": rung} for rung in RUNGS])
    return out


def walk(job: CompileJob, target: Machine, tell: Told) -> list[FitTrial]:
    """Compiles the plan. When a rung does not fit, the rungs above it are skipped."""
    ways, out = plan(job, target), []
    tell(f"at most {sum(map(len, ways))} settings; each is compiled")
    for way in ways:
        for changes in way:
            try:
                trial = attempt(job, changes, target, lambda line: None)
            except ValueError as e:
                tell(f"{said(changes)}: {e}")
                break
            out.append(trial)
            size = f"{trial.memory / GIB:.2f} GiB"
            if trial.fitted is None:
                tell(f"{trial.words}: needs {size} a chip")
                break
            tell(f"{trial.words}: {size}, {trial.fitted.seconds:.3f} s")
    return out


def frontier(trials: Sequence[FitTrial]) -> list[FitTrial]:
    """Returns the trials that no other beats in both memory and time, the fastest first."""
    fitting = sorted((t for t in trials if t.fitted), key=lambda t: (t.seconds_per_token, t.memory))
    out: list[FitTrial] = []
    for trial in fitting:
        if not out or trial.memory < out[-1].memory:
            out.append(trial)
    return out
