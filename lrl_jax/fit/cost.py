"""Estimates how long a chip runs a compiled program: arithmetic, kernels and communication.

    cost = of(compiled.as_text(), chips.CHIPS["v5e"])
    cost.seconds, cost.compute, cost.kernels, cost.exposed

XLA's own cost analysis counts the body of a loop once and Pallas kernels not at all. This module
goes through the instructions in order, with a clock. Arithmetic takes its `estimated_cycles`. The
body of a loop is counted as often as it runs. An attention kernel takes the FLOPs of its unmasked
blocks at the chip's peak. A collective takes its bytes over all links of the chip. Asynchronous
collectives and copies to the host run beside arithmetic; the time for which their result is waited
for is called exposed, the rest hidden. Stalls, contention, latency and kernels below peak are not
modelled, so the estimate is optimistic.
"""

import collections
from collections.abc import Mapping
import dataclasses
import math
import re

from lrl_jax.devices.chips import Chip
from lrl_jax.fit import hlo

# Part of an attention kernel's name -> how many matrix products it computes for each block of
# queries and keys. Forward: scores and output. Backward: scores, dP and dQ in one kernel, and
# scores, dP, dV and dK in the other.
PRODUCTS = {"_fwd": 2, "_dq": 3, "_dkv": 4}
ATTENTION = ("splash", "flash")
COPIES = ("copy-start", "slice-start", "dynamic-slice-start", "dynamic-update-slice-start")
BETWEEN_SLICES = "xla_megascale_runtime"  # the handler named in a send or recv between slices


@dataclasses.dataclass(frozen=True)
class Collective:
    """Holds the totals of one kind of collective over a step.

    Attributes:
      group: how many chips take part.
      count: how often it runs in a step.
      bytes: the size of the whole arrays, summed over runs.
      hidden: whether it runs beside arithmetic.
    """

    op: str
    group: int
    hidden: bool
    count: int
    bytes: float


@dataclasses.dataclass(frozen=True)
class Cost:
    """Holds the estimated seconds of one step on one chip, by what they are spent on.

    Attributes:
      compute: arithmetic and copies, as the compiler estimates them; `kinds` has them by kind.
      kernels: Pallas kernels at the chip's peak; `flops` has their FLOPs by name.
      exposed: waiting for collectives.
      host: waiting for copies to and from the host's memory.
      host_bytes: how many bytes are copied to and from the host.
      unknown: kernels and loops that could not be counted, so that the estimate is too low.
    """

    compute: float
    kernels: float
    exposed: float
    host: float
    host_bytes: float
    kinds: Mapping[str, float]
    flops: Mapping[str, float]
    collectives: tuple[Collective, ...]
    unknown: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return self.compute + self.kernels + self.exposed + self.host


def of(text: str, chip: Chip) -> Cost:
    """Returns the cost of an optimised program.

    Raises:
      ValueError: not the text of an HLO module.
    """
    program = hlo.parse(text)
    tally = _Walk(program, chip).run(program.entry)
    return Cost(
        compute=sum(tally.kinds.values()),
        kernels=sum(tally.flops.values()) / chip.peak,
        exposed=tally.exposed,
        host=tally.host,
        host_bytes=tally.host_bytes,
        kinds=dict(tally.kinds),
        flops=dict(tally.flops),
        collectives=tuple(
            Collective(*key, round(count), tally.bytes[key])
            for key, count in sorted(tally.counts.items())
        ),
        unknown=tuple(sorted(tally.unknown)),
    )


Row = tuple[str, int, bool]  # op, group, hidden: collectives that agree in these are added up


def _zeros() -> dict:
    return collections.defaultdict(float)


@dataclasses.dataclass
class _Tally:
    """Holds the costs of a computation, including its loops and calls."""

    kinds: dict[str, float] = dataclasses.field(default_factory=_zeros)
    flops: dict[str, float] = dataclasses.field(default_factory=_zeros)
    counts: dict[Row, float] = dataclasses.field(default_factory=_zeros)
    bytes: dict[Row, float] = dataclasses.field(default_factory=_zeros)
    unknown: set[str] = dataclasses.field(default_factory=set)
    exposed: float = 0.0
    host: float = 0.0
    host_bytes: float = 0.0

    def add(self, other: "_Tally", times: int) -> None:
        for name in ("kinds", "flops", "counts", "bytes"):
            totals = getattr(self, name)
            for key, value in getattr(other, name).items():
                totals[key] += times * value
        self.unknown |= other.unknown
        self.exposed += times * other.exposed
        self.host += times * other.host
        self.host_bytes += times * other.host_bytes


@dataclasses.dataclass
class _Wire:
    """Models a link that carries one transfer after another while the chip computes."""

    free: float = 0.0
    ends: dict[str, float] = dataclasses.field(default_factory=dict)

    def start(self, name: str, now: float, seconds: float) -> None:
        self.free = max(self.free, now) + seconds
        self.ends[name] = self.free

    def wait(self, name: str, now: float) -> float:
        """Returns the seconds until a transfer is done; 0 if it began in an earlier loop round."""
        return max(0.0, self.ends.pop(name, now) - now)


class _Walk:
    """Estimates the computations of a program."""

    def __init__(self, program: hlo.Program, chip: Chip):
        self.program, self.chip = program, chip

    def run(self, name: str) -> _Tally:
        return _Round(self, name).tally

    def seconds(self, tally: _Tally) -> float:
        arithmetic = sum(tally.kinds.values()) + sum(tally.flops.values()) / self.chip.peak
        return arithmetic + tally.exposed + tally.host


class _Round:
    """Goes through a computation once, and keeps a clock, the links in use, and the totals."""

    def __init__(self, walk: _Walk, name: str):
        self.walk, self.chip, self.program = walk, walk.chip, walk.program
        self.tally, self.now = _Tally(), 0.0
        self.links, self.pcie, self.network = _Wire(), _Wire(), _Wire()
        self.met: dict[str, str] = {}  # a recv between slices -> the send it belongs to
        for instruction in self.program.computations.get(name, ()):
            self.step(instruction)
        # A transfer may begin in this round of a loop and end in the next. Then the round takes at
        # least as long as the transfer.
        late = max(self.links.free, self.network.free)
        self.tally.exposed += max(0.0, late - self.now)
        self.now = max(self.now, late)
        self.tally.host += max(0.0, self.pcie.free - self.now)

    def step(self, i: hlo.Instruction) -> None:
        if i.op == "while":
            self.loop(i)
        elif i.op == "conditional":
            tallies = [self.walk.run(name) for name in hlo.branches(i)]
            self.enter(max(tallies, key=self.walk.seconds), 1)  # the longest, to be safe
        elif i.op == "call" and i.called:
            self.enter(self.walk.run(i.called), 1)
        elif i.op.endswith("-done"):
            self.done(i)
        elif i.collective:
            self.collective(i, i.name, starts=i.op.endswith("-start"))
        elif i.op in ("fusion", "async-start") and (inner := self.inside(i)):
            self.fused(i, inner)
        elif i.op in COPIES:
            self.copy(i)
        elif i.op in ("send", "recv") and BETWEEN_SLICES in i.rest:
            self.between_slices(i)
        elif "tpu_custom_call" in i.rest:
            self.kernel(i)
        else:
            self.arithmetic(i)

    def loop(self, i: hlo.Instruction) -> None:
        times = hlo.trips(self.program, i)
        tally = self.walk.run(hlo.body(i))
        if times is None:
            tally.unknown.add(f"loop {i.name}: counted once")
        self.enter(tally, 1 if times is None else times)

    def enter(self, tally: _Tally, times: int) -> None:
        self.tally.add(tally, times)
        self.now += times * self.walk.seconds(tally)

    def arithmetic(self, i: hlo.Instruction) -> None:
        if i.cycles and self.chip.clock:
            kind = "matmul" if "convolution_algorithm_config" in i.rest else i.op
            self.spend(kind, i.cycles / self.chip.clock)

    def spend(self, kind: str, seconds: float) -> None:
        self.tally.kinds[kind] += seconds
        self.now += seconds

    def kernel(self, i: hlo.Instruction) -> None:
        flops = attention_flops(i)
        name = re.sub(r"\.\d+$", "", i.name)
        if flops is None:
            self.tally.unknown.add(f"kernel {name}: counted as nothing")
            return
        self.tally.flops[name] += flops
        self.now += flops / self.chip.peak

    # ------------------------------------------------------------------------ wires
    def inside(self, i: hlo.Instruction) -> list[hlo.Instruction]:
        """Returns the collectives in the computation that an instruction calls."""
        body = self.program.computations.get(i.called or "", ())
        return [instruction for instruction in body if instruction.collective]

    def fused(self, i: hlo.Instruction, inner: list[hlo.Instruction]) -> None:
        """Counts the collectives in a fusion, which may be a start, a middle, an end, or whole."""
        body = self.program.computations[i.called or ""]
        ends = any("AsyncCollectiveDone" in instruction.rest for instruction in body)
        starts = i.op == "async-start" or any(
            "AsyncCollectiveStart" in instruction.rest for instruction in body
        )
        scattered = any(instruction.op == "dynamic-slice" for instruction in body)
        for instruction in inner:
            key = (
                i.name
                if i.op == "async-start"
                else instruction.attribute(r"channel_id=(\d+)") or i.name
            )
            if starts or (not ends and key not in self.links.ends):
                self.collective(instruction, key, starts=starts, scattered=scattered)
            elif ends:
                self.expose(self.links.wait(key, self.now))
        self.arithmetic(i)

    def collective(
        self, i: hlo.Instruction, key: str, *, starts: bool, scattered: bool = False
    ) -> None:
        op, size, group = i.collective, _whole(i), i.group
        if op == "all-reduce" and scattered:  # a sum of which each device keeps only a slice
            op = "reduce-scatter"
        row = op, group, starts
        self.tally.counts[row] += 1
        self.tally.bytes[row] += size
        self.links.start(key, self.now, _on_the_wire(op, size, group) / self.chip.ici)
        if not starts:
            self.expose(self.links.wait(key, self.now))

    def expose(self, seconds: float) -> None:
        self.tally.exposed += seconds
        self.now += seconds

    def copy(self, i: hlo.Instruction) -> None:
        """Counts the bytes of a copy to or from the host; a copied slice counts as a slice."""
        here = [a for a in i.arrays if a.sizes and not a.on_host]
        if here and any(a.on_host for a in i.arrays):
            self.tally.host_bytes += here[0].bytes
            self.pcie.start(i.name, self.now, here[0].bytes / self.chip.host)

    def between_slices(self, i: hlo.Instruction) -> None:
        """Counts a send as a collective between slices, and notes to which send a recv belongs."""
        key = i.attribute(r'rendezvous="([^"]*)"') or i.name
        if i.op == "recv":
            self.met[i.name] = key
            return
        op = (i.attribute(r'transfer_type="([^"]*)"') or "transfer").lower().replace("_", "-")
        slices = (i.attribute(r'megascale_target="\{([^}]*)\}') or "0,1").count(",") + 1
        size = i.arrays[0].bytes
        row = f"{op} between slices", slices, True
        self.tally.counts[row] += 1
        self.tally.bytes[row] += size
        self.network.start(key, self.now, _on_the_wire(op, size, slices) / self.chip.network)

    def done(self, i: hlo.Instruction) -> None:
        name = (hlo.operands(i) or [""])[0]
        if name in self.links.ends:
            self.expose(self.links.wait(name, self.now))
        elif name in self.met:
            self.expose(self.network.wait(self.met[name], self.now))
        elif name in self.pcie.ends:
            seconds = self.pcie.wait(name, self.now)
            self.tally.host += seconds
            self.now += seconds


def _whole(i: hlo.Instruction) -> float:
    """Returns the bytes of the whole arrays of a collective, gathered or not yet scattered."""
    sizes = [array.bytes for array in i.arrays]
    if i.op.endswith("-start") and len(sizes) > 1:  # (operands, results, ...)
        return max(sizes)
    return sum(sizes) * (i.group if i.collective == "reduce-scatter" else 1)


def _on_the_wire(op: str, size: float, group: int) -> float:
    """Returns how many bytes each chip sends in a collective on arrays of `size` bytes.

    >>> _on_the_wire("all-reduce", 64.0, 4), _on_the_wire("all-gather", 64.0, 4)
    (96.0, 48.0)
    """
    if op == "collective-permute":
        return size
    return (2 if op == "all-reduce" else 1) * size * (group - 1) / group


def attention_flops(kernel: hlo.Instruction) -> float | None:
    """Returns the FLOPs of an attention kernel, without the blocks that its mask skips.

    Returns None for other kernels. The operands begin with a table of the mask's blocks,
    [heads, query blocks, key blocks], followed by queries [..., heads, T, H]. In a table with fewer
    key blocks than query blocks the mask is a window, and the first queries see fewer blocks.
    """
    if not any(word in kernel.name for word in ATTENTION):
        return None
    products = next((n for name, n in PRODUCTS.items() if name in kernel.name), None)
    listed = kernel.attribute(r"operand_layout_constraints=\{(.*?\})\}")
    if products is None or listed is None:
        return None
    shapes = hlo.arrays(listed)
    tables = [a for a in shapes if a.dtype in ("s8", "s32") and len(a.sizes) >= 3]
    floats = [a for a in shapes if a.dtype in ("bf16", "f32", "f16") and len(a.sizes) >= 3]
    if not floats:
        return None
    *heads, length, width = floats[0].sizes
    keys = floats[1].sizes[-2] if len(floats) > 1 else length
    if products == 4 and any(len(a.sizes) > len(floats[0].sizes) for a in kernel.arrays):
        products = 5  # the fused backward kernel also computes dQ for each block of keys
    return products * 2.0 * math.prod(heads) * length * keys * width * _visited(tables)


def _visited(tables: list[hlo.Array]) -> float:
    """Returns the share of blocks that the mask does not skip; 1 when there is no table."""
    if not tables:
        return 1.0
    rows, columns = tables[0].sizes[-2:]
    short = min(rows, columns)
    return (rows * columns - short * (short - 1) / 2) / max(rows, columns) ** 2
