"""Estimates how long a chip runs a compiled program: arithmetic, kernels and communication.

    cost = of(compiled.as_text(), chips.CHIPS["v5e"])
    cost.seconds, cost.compute, cost.kernels, cost.exposed

XLA's own cost analysis counts the body of a loop once and Pallas kernels not at all. This module
goes through the instructions in order, with a clock. Arithmetic takes its `estimated_cycles`. The
body of a loop is counted as often as it runs. An attention kernel takes the FLOPs of its unmasked
blocks at the chip's peak. A collective takes its bytes over all links of the chip. Asynchronous
collectives and copies to the host run beside arithmetic; the time for which their result is waited
for is called exposed, the rest hidden. Stalls, contention, latency and kernels below peak are not
modelled; `published` says how far published runs are from the estimate.
"""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import math
import re
from typing import Any

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
    """Holds the totals of one kind of collective over a step."""

    op: str
    group: int  # how many chips take part
    hidden: bool  # whether it runs beside arithmetic
    count: int  # how often it runs in a step
    bytes: float  # the size of the whole arrays, summed over runs


@dataclasses.dataclass(frozen=True)
class Cost:
    """Holds the estimated seconds of one step on one chip, by what they are spent on."""

    compute: float  # arithmetic and copies, as the compiler estimates them
    kernels: float  # Pallas kernels at the chip's peak
    exposed: float  # waiting for collectives
    host: float  # waiting for copies to and from the host's memory
    host_bytes: float  # how many bytes are copied to and from the host
    kinds: Mapping[str, float]  # seconds of `compute` by kind
    flops: Mapping[str, float]  # FLOPs of kernels by name
    collectives: tuple[Collective, ...]
    unknown: tuple[str, ...]  # kernels and loops not counted, so that the estimate is too low

    @property
    def seconds(self) -> float:
        return self.compute + self.kernels + self.exposed + self.host


def of(text: str, chip: Chip) -> Cost:
    """Returns the cost of an optimised program; refuses text that is no HLO module."""
    program = hlo.parse(text)
    tally = _Walk(program, chip, program.entry).tally
    kinds, flops, sizes = (_totals(tally, what) for what in ("kinds", "flops", "bytes"))
    return Cost(
        compute=sum(kinds.values()),
        kernels=sum(flops.values()) / chip.peak,
        exposed=tally["exposed", ""],
        host=tally["host", ""],
        host_bytes=tally["host bytes", ""],
        kinds=kinds,
        flops=flops,
        collectives=tuple(
            Collective(op, group, hidden, round(count), sizes[op, group, hidden])
            for (op, group, hidden), count in sorted(_totals(tally, "counts").items())
        ),
        unknown=tuple(sorted(_totals(tally, "unknown"))),
    )


# The costs of a computation, including its loops and calls: (field of `Cost`, key) -> total. Keys
# of "counts" and "bytes" are op, group and hidden of a `Collective`.
_Tally = collections.defaultdict[tuple[str, Any], float]


def _totals(tally: _Tally, what: str) -> dict[Any, float]:
    return {key: total for (field, key), total in tally.items() if field == what}


class _Walk:
    """Goes through a computation once, and keeps a clock, the wires in use, and the totals.

    A wire carries one transfer after another while the chip computes.
    """

    def __init__(self, program: hlo.Program, chip: Chip, name: str):
        self.program, self.chip = program, chip
        self.tally, self.now = _Tally(float), 0.0
        self.free = {"links": 0.0, "network": 0.0, "host": 0.0}  # wire -> when it is free again
        self.ends: dict[tuple[str, str], float] = {}  # wire, transfer -> when the transfer ends
        self.met: dict[str, str] = {}  # a recv between slices -> the send it belongs to
        for instruction in program.computations.get(name, ()):
            self.step(instruction)
        # A transfer may begin in this round of a loop and end in the next. Then the round takes at
        # least as long as the transfer.
        late = max(self.free["links"], self.free["network"])
        self.tally["exposed", ""] += max(0.0, late - self.now)
        self.now = max(self.now, late)
        self.tally["host", ""] += max(0.0, self.free["host"] - self.now)

    def step(self, i: hlo.Instruction) -> None:
        if i.op == "while":
            self.loop(i)
        elif i.op == "conditional":
            tallies = [self.inside(name) for name in hlo.branches(i)]
            self.enter(max(tallies, key=self.seconds), 1)  # the longest, to be safe
        elif i.op == "call" and i.called:
            self.enter(self.inside(i.called), 1)
        elif i.op.endswith("-done"):
            self.done(i)
        elif i.collective:
            self.collective(i, i.name, starts=i.op.endswith("-start"))
        elif i.op in ("fusion", "async-start") and any(each.collective for each in self.body(i)):
            self.fused(i)
        elif i.op in COPIES:
            self.copy(i)
        elif i.op in ("send", "recv") and BETWEEN_SLICES in i.rest:
            self.between_slices(i)
        elif "tpu_custom_call" in i.rest:
            self.kernel(i)
        else:
            self.arithmetic(i)

    def body(self, i: hlo.Instruction) -> Sequence[hlo.Instruction]:
        return self.program.computations.get(i.called or "", ())

    def inside(self, name: str) -> _Tally:
        return _Walk(self.program, self.chip, name).tally

    def seconds(self, tally: _Tally) -> float:
        arithmetic, flops = (sum(_totals(tally, what).values()) for what in ("kinds", "flops"))
        return arithmetic + flops / self.chip.peak + tally["exposed", ""] + tally["host", ""]

    def loop(self, i: hlo.Instruction) -> None:
        times = hlo.trips(self.program, i)
        tally = self.inside(hlo.computation(i, "body"))
        if times is None:
            tally["unknown", f"loop {i.name}: counted once"] = 1
        self.enter(tally, 1 if times is None else times)

    def enter(self, tally: _Tally, times: int) -> None:
        self.now += times * self.seconds(tally)
        for key, total in tally.items():
            self.tally[key] += times * total

    def spend(self, what: str, seconds: float, kind: str = "") -> None:
        self.tally[what, kind] += seconds
        self.now += seconds

    def arithmetic(self, i: hlo.Instruction) -> None:
        if i.cycles and self.chip.clock:
            kind = "matmul" if "convolution_algorithm_config" in i.rest else i.op
            self.spend("kinds", i.cycles / self.chip.clock, kind)

    def kernel(self, i: hlo.Instruction) -> None:
        flops = attention_flops(i)
        name = re.sub(r"\.\d+$", "", i.name)
        if flops is None:
            self.tally["unknown", f"kernel {name}: counted as nothing"] = 1
            return
        self.tally["flops", name] += flops
        self.now += flops / self.chip.peak

    # ------------------------------------------------------------------------ wires
    def start(self, wire: str, name: str, seconds: float) -> None:
        self.free[wire] = max(self.free[wire], self.now) + seconds
        self.ends[wire, name] = self.free[wire]

    def wait(self, wire: str, name: str) -> None:
        """Waits until a transfer is done; not at all if it began in an earlier round of a loop."""
        end = self.ends.pop((wire, name), self.now)
        self.spend("host" if wire == "host" else "exposed", max(0.0, end - self.now))

    def done(self, i: hlo.Instruction) -> None:
        name = (hlo.operands(i) or [""])[0]
        self.wait("links", name)
        self.wait("network", self.met.get(name, ""))
        self.wait("host", name)

    def fused(self, i: hlo.Instruction) -> None:
        """Counts the collectives in a fusion, which may be a start, a middle, an end, or whole."""
        attributes = " ".join(each.rest for each in self.body(i))
        ends = "AsyncCollectiveDone" in attributes
        starts = i.op == "async-start" or "AsyncCollectiveStart" in attributes
        scattered = any(each.op == "dynamic-slice" for each in self.body(i))
        for each in self.body(i):
            if not each.collective:
                continue
            channel = None if i.op == "async-start" else each.attribute(r"channel_id=(\d+)")
            key = channel or i.name
            if starts or (not ends and ("links", key) not in self.ends):
                self.collective(each, key, starts=starts, scattered=scattered)
            elif ends:
                self.wait("links", key)
        self.arithmetic(i)

    def collective(
        self, i: hlo.Instruction, key: str, *, starts: bool, scattered: bool = False
    ) -> None:
        op, size, group = i.collective, _whole(i), i.group
        if op == "all-reduce" and scattered:  # a sum of which each device keeps only a slice
            op = "reduce-scatter"
        self.count((op, group, starts), size)
        speed = self.chip.link * self.chip.links  # over all links at once
        self.start("links", key, _on_the_wire(op, size, group) / speed)
        if not starts:
            self.wait("links", key)

    def count(self, row: tuple[str, int, bool], size: float) -> None:
        self.tally["counts", row] += 1
        self.tally["bytes", row] += size

    def copy(self, i: hlo.Instruction) -> None:
        """Counts the bytes of a copy to or from the host; a copied slice counts as a slice."""
        here = [a for a in i.arrays if a.sizes and not a.on_host]
        if here and any(a.on_host for a in i.arrays):
            self.tally["host bytes", ""] += here[0].bytes
            self.start("host", i.name, here[0].bytes / self.chip.host)

    def between_slices(self, i: hlo.Instruction) -> None:
        """Counts a send as a collective between slices, and notes to which send a recv belongs."""
        key = i.attribute(r'rendezvous="([^"]*)"') or i.name
        if i.op == "recv":
            self.met[i.name] = key
            return
        op = (i.attribute(r'transfer_type="([^"]*)"') or "transfer").lower().replace("_", "-")
        slices = (i.attribute(r'megascale_target="\{([^}]*)\}') or "0,1").count(",") + 1
        size = i.arrays[0].bytes
        self.count((f"{op} between slices", slices, True), size)
        self.start("network", key, _on_the_wire(op, size, slices) / self.chip.network)


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
    products = next((n for name, n in PRODUCTS.items() if name in kernel.name), None)
    listed = kernel.attribute(r"operand_layout_constraints=\{(.*?\})\}")
    if not any(word in kernel.name for word in ATTENTION) or products is None or listed is None:
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
