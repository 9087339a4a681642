"""Other settings of a recipe: the nearest that fits, and the best of many.

Everything is found by compiling; each setting takes from seconds to minutes.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import itertools
from typing import Any, TypeVar

from lrl_jax.devices import mesh as meshes
from lrl_jax.fit import topology
from lrl_jax.fit.compile import Fitted, Job, TooLargeError, compile_step, whole_state
from lrl_jax.fit.topology import Target
from lrl_jax.model import llama
from lrl_jax.storage import GIB
from lrl_jax.train import learn

# Of llama.LADDER, from least memory to most; "offload" is beside it: it costs the host's.
RUNGS: tuple[llama.Remat, ...] = ("nothing", "qk", "qkv", "projections", "dots", "full")
BLOCKS = 8  # vocabulary blocks of the loss, where the logits are what does not fit
MOST_ROWS = 8  # on a device at once
Changes = dict[str, Any]  # fields of `train` and their new values
Told = Callable[[str], None]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Trial:
    """One setting: what came of it, or how much more than a chip it wants."""

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
        """Of the whole machine."""
        return self.fitted.seconds / self.fitted.tokens if self.fitted else float("inf")


def said(changes: Changes) -> str:
    """As overrides of a recipe.

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


def compile_phases(job: Job, target: Target, told: Told) -> list[Fitted]:
    """Each phase, compiled once; those with the same program share it.

    Raises:
      ValueError: it cannot be on these chips.
      TooLargeError: one does not fit.
    """
    known: dict[tuple, Fitted] = {}
    for phase in programs(job):
        told(f"compiling {phase.name} for {target.name} ({target.count} chips)")
        known[_program(phase)] = compile_step(job, phase, target)
    return [dataclasses.replace(known[_program(p)], phase=p.name) for p in job.phases]


def programs(job: Job) -> list[learn.Phase]:
    """A phase of each program; that which learns most, the first not to fit, comes first."""
    params = llama.abstract(job.cfg)

    def size(phase: learn.Phase) -> int:
        learns = learn.trainable(learn.groups(phase.learn, [*params]))
        return sum(params[path].size for path in learns)

    different = {_program(phase): phase for phase in reversed(job.phases)}
    return sorted(reversed(different.values()), key=size, reverse=True)


def _program(phase: learn.Phase) -> tuple:
    """What decides a phase's program; rates and steps do not."""
    return tuple((rule.match, rule.rows, rule.schedule == "frozen") for rule in phase.learn)


def most(job: Job, compiled: Callable[[Job], T], told: Told) -> T:
    """What comes of the highest rung that fits, which is what `remat: auto` means.

    Halves the ladder: what fits on one rung fits on all below it.

    Args:
      compiled: compiles a job, or raises TooLargeError.

    Raises:
      TooLargeError: not even the least fits.
    """
    best: list[T] = []  # of one: T may be None
    low, high = 0, len(RUNGS)
    while low < high:
        middle = (low + high) // 2
        try:
            best = [compiled(job.but(remat=RUNGS[middle]))]
            low = middle + 1
        except TooLargeError as e:
            told(f"remat {RUNGS[middle]}: {e}")
            if middle == 0:
                raise
            high = middle
    return best[0]


def attempt(job: Job, changes: Changes, target: Target, told: Told) -> Trial:
    """Compiles every phase of a job with other settings, and keeps the one that needs most."""
    try:
        fitted = compile_phases(job.but(**changes), target, told)
    except TooLargeError as e:
        return Trial(changes, None, e.needed)
    return Trial(changes, max(fitted, key=lambda one: one.memory.total))


# ---------------------------------------------------------------------------- the nearest
def nearest(job: Job, target: Target, told: Told) -> Trial | None:
    """The first setting that fits, going from what costs least time to what costs most.

    Each change comes on top of those before it. None if even all of them are not enough.
    """
    changes: Changes = {}
    for change in _savings(job, target):
        changes = changes | change
        told(f"trying {said(changes)}")
        try:
            trial = attempt(job, changes, target, told)
        except ValueError as e:  # this one cannot be had here; the next may
            told(str(e))
            continue
        if trial.fitted:
            return trial
    return None


def _savings(job: Job, target: Target) -> Iterator[Changes]:
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


def larger(job: Job, target: Target) -> str:
    """The smallest machine of these chips that holds the state and as much again; or no name."""
    whole = whole_state(job, target.devices[0])
    for name in topology.names():
        other = topology.read(name)
        if other.kind == target.kind and other.count * target.chip.memory > 2 * whole:
            return name
    return ""


# ---------------------------------------------------------------------------- the best
def plan(job: Job, target: Target) -> list[list[Changes]]:
    """What to compile: for each mesh and number of rows at once, rungs from least memory up."""
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


def walk(job: Job, target: Target, told: Told) -> list[Trial]:
    """Compiles the plan; a rung that does not fit spares those above it."""
    ways, out = plan(job, target), []
    told(f"at most {sum(map(len, ways))} settings; each is compiled")
    for way in ways:
        for changes in way:
            try:
                trial = attempt(job, changes, target, _silent)
            except ValueError as e:
                told(f"{said(changes)}: {e}")
                break
            out.append(trial)
            told(f"{trial.words}: {_verdict(trial)}")
            if trial.fitted is None:
                break
    return out


def frontier(trials: Sequence[Trial]) -> list[Trial]:
    """Those that no other beats in both memory and time, fastest first."""
    fitting = sorted((t for t in trials if t.fitted), key=lambda t: (t.seconds_per_token, t.memory))
    out: list[Trial] = []
    for trial in fitting:
        if not out or trial.memory < out[-1].memory:
            out.append(trial)
    return out


def _silent(line: str) -> None:
    """The plan says each setting itself."""


def _verdict(trial: Trial) -> str:
    if trial.fitted is None:
        return f"needs {trial.needed / GIB:.2f} GiB a chip"
    return f"{trial.memory / GIB:.2f} GiB, {trial.fitted.seconds:.3f} s"


def _halvings(most: int) -> list[int]:
    """
    >>> _halvings(8)
    [8, 4, 2, 1]
    """
    return [most >> i for i in range(most.bit_length())]
