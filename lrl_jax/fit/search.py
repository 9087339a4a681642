"""Searches a recipe's settings by compiling: the first change that fits, and the fastest settings.

Compiling one setting takes from seconds to minutes.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import itertools
from typing import Any, TypeVar

from lrl_jax.devices import mesh as meshes
from lrl_jax.fit import topology
from lrl_jax.fit.compile import CompileJob, Fitted, TooLargeError, compile_step, whole_state
from lrl_jax.fit.topology import Machine
from lrl_jax.model import llama
from lrl_jax.storage import GIB
from lrl_jax.train import learn

# Rungs of remat.LADDER from the least memory to the most. "offload" is not among them, because it
# uses memory of the host.
RUNGS: tuple[llama.Remat, ...] = ("nothing", "qk", "qkv", "projections", "dots", "full")
BLOCKS = 8  # vocabulary blocks of the loss to try when a step does not fit
MOST_ROWS = 8  # rows on a device at once that a search tries at most
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
        """Returns the seconds that the whole machine takes per token."""
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
    """Compiles each phase; phases with the same program are compiled once.

    Raises:
      ValueError: these chips cannot run the job.
      TooLargeError: a phase does not fit.
    """
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
    """Returns a key that is equal for phases with the same program.

    Learning rates and numbers of steps do not change the program.
    """
    return tuple((rule.match, rule.rows, rule.schedule == "frozen") for rule in phase.learn)


def most(job: CompileJob, compiled: Callable[[CompileJob], T], tell: Told) -> T:
    """Returns the result of `compiled` on the highest rung that fits, which `remat: auto` chooses.

    It searches by bisection: a job that fits on one rung also fits on all rungs below.

    Args:
      compiled: compiles a job, or raises TooLargeError.

    Raises:
      TooLargeError: not even the lowest rung fits.
    """
    best: list[T] = []  # a list of one item, because T may be None
    low, high = 0, len(RUNGS)
    while low < high:
        middle = (low + high) // 2
        try:
            best = [compiled(job.but(remat=RUNGS[middle]))]
            low = middle + 1
        except TooLargeError as e:
            tell(f"remat {RUNGS[middle]}: {e}")
            if middle == 0:
                raise
            high = middle
    return best[0]


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
    """Returns the name of the smallest machine of these chips with room for twice the state.

    Returns '' if none is large enough.
    """
    whole = whole_state(job, target.devices[0])
    for name in topology.names():
        other = topology.read(name)
        if other.kind == target.kind and other.count * target.chip.memory > 2 * whole:
            return name
    return ""


# ---------------------------------------------------------------------------- the best settings
def plan(job: CompileJob, target: Machine) -> list[list[Changes]]:
    """Returns settings to compile: for each mesh and number of rows, all rungs from the lowest."""
    settings, slices = job.settings, job.settings.axes.slices
    out: list[list[Changes]] = []
    within = target.count // slices
    meshes_ = [
        (slices * copies, within // copies // tensor, tensor)
        for tensor, copies in ((1, 1), (1, 2), (2, 1))
        if within % (copies * tensor) == 0
    ]
    for (data, fsdp, tensor), rows in itertools.product(meshes_, _halvings(MOST_ROWS)):
        parts, rest = divmod(settings.batch_size, data * fsdp * rows)
        if rest or parts < 1 or job.cfg.num_kv_heads % tensor:
            continue
        shape = settings.axes.model_copy(update=dict(data=data, fsdp=fsdp, tensor=tensor))
        same = {"mesh": shape, "accumulate": parts}
        out.append([same | {"remat": rung} for rung in RUNGS])
    return out


def walk(job: CompileJob, target: Machine, tell: Told) -> list[FitTrial]:
    """Compiles the plan. When a rung does not fit, the rungs above it are skipped."""
    ways, out = plan(job, target), []
    tell(f"at most {sum(map(len, ways))} settings; each is compiled")
    for way in ways:
        for changes in way:
            try:
                trial = attempt(job, changes, target, _silent)
            except ValueError as e:
                tell(f"{said(changes)}: {e}")
                break
            out.append(trial)
            tell(f"{trial.words}: {_verdict(trial)}")
            if trial.fitted is None:
                break
    return out


def frontier(trials: Sequence[FitTrial]) -> list[FitTrial]:
    """Returns the trials that no other beats in both memory and time, the fastest first."""
    fitting = sorted((t for t in trials if t.fitted), key=lambda t: (t.seconds_per_token, t.memory))
    out: list[FitTrial] = []
    for trial in fitting:
        if not out or trial.memory < out[-1].memory:
            out.append(trial)
    return out


def _silent(line: str) -> None:
    """Discards progress messages: `walk` reports each setting itself."""


def _verdict(trial: FitTrial) -> str:
    if trial.fitted is None:
        return f"needs {trial.needed / GIB:.2f} GiB a chip"
    return f"{trial.memory / GIB:.2f} GiB, {trial.fitted.seconds:.3f} s"


def _halvings(most: int) -> list[int]:
    """Returns `count` and its halves down to 1.

    >>> _halvings(8)
    [8, 4, 2, 1]
    """
    return [most >> i for i in range(most.bit_length())]
