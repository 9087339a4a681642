"""Parses the text of an optimised HLO program into instructions in the order they run."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import re

WIDTHS = {
    "pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "f8e4m3fn": 1, "f8e5m2": 1, "s16": 2,
    "u16": 2, "f16": 2, "bf16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8,
}  # fmt: skip
COLLECTIVES = ("all-gather", "reduce-scatter", "all-reduce", "collective-permute", "all-to-all")
HOST = "S(5)"  # how a layout marks arrays in the host's pinned memory

_INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*->.*\{$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")


@dataclasses.dataclass(frozen=True)
class Array:
    """Holds the shape of an array in HLO, such as f32[2,3]{1,0}."""

    dtype: str
    sizes: tuple[int, ...]
    on_host: bool = False

    @property
    def bytes(self) -> float:
        return WIDTHS.get(self.dtype, 0) * math.prod(self.sizes)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """Holds one line `name = shape op(rest`; `rest` is the text of operands and attributes."""

    name: str
    shape: str
    op: str
    rest: str
    root: bool = False

    def attribute(self, pattern: str) -> str | None:
        """Returns the first group of a pattern searched in operands and attributes, or None."""
        match = re.search(pattern, self.rest)
        return match.group(1) if match else None

    @property
    def arrays(self) -> tuple[Array, ...]:
        """Returns the arrays of the result, which are several if it is a tuple."""
        return arrays(self.shape)

    @property
    def cycles(self) -> int:
        """Returns the cycles that the compiler estimates; 0 if it gives none."""
        return int(self.attribute(r'"estimated_cycles":"(\d+)"') or 0)

    @property
    def collective(self) -> str:
        """Returns the op's name without "-start" if it is in COLLECTIVES, else ""."""
        base = self.op.removesuffix("-start")
        return base if base in COLLECTIVES else ""

    @property
    def called(self) -> str | None:
        """Returns the name of the computation that a fusion, call or async start runs, or None."""
        return self.attribute(r"(?:calls|to_apply|called_computations)=\{?%?([\w.\-]+)")

    @property
    def group(self) -> int:
        """Returns how many devices take part in one group of a collective.

        >>> Instruction("a", "f32[8]", "all-reduce", "%b), replica_groups=[4,16]<=[64]").group
        16
        """
        mesh = re.search(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}", self.rest)
        if mesh:
            sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh.group(1))}
            parts = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", mesh.group(2))
            return math.prod(int(size) if size else sizes[name] for name, size in parts)
        if listed := self.attribute(r"replica_groups=\{\{([\d,]+)\}"):
            return listed.count(",") + 1
        return int(self.attribute(r"replica_groups=\[\d+,(\d+)\]") or 1)


@dataclasses.dataclass(frozen=True)
class Program:
    """Holds the computations of a program by name, each with its instructions in order."""

    computations: Mapping[str, Sequence[Instruction]]
    entry: str


def arrays(shape: str) -> tuple[Array, ...]:
    """Returns the arrays of a shape written in HLO.

    >>> arrays("(bf16[2,3]{1,0:T(8,128)}, s32[]{:S(5)})")
    (Array(dtype='bf16', sizes=(2, 3), on_host=False), Array(dtype='s32', sizes=(), on_host=True))
    """
    return tuple(
        Array(dtype, tuple(int(size) for size in sizes.split(",") if size), HOST in (layout or ""))
        for dtype, sizes, layout in _ARRAY.findall(shape)
    )


def parse(text: str) -> Program:
    """Parses a program from the text that XLA prints; refuses text without an entry computation."""
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        line = re.sub(r"/\*index=\d+\*/", "", line)
        if head := _COMPUTATION.match(line):
            current = computations.setdefault(head.group(2), [])
            entry = head.group(2) if head.group(1) else entry
        elif line.rstrip() == "}":
            current = None
        elif current is not None and (match := _INSTRUCTION.match(line)):
            root, name, shape, op, rest = match.groups()
            current.append(Instruction(name, shape, op, rest, bool(root)))
    if not entry:
        raise ValueError("no ENTRY computation: this is not the text of an HLO module")
    return Program(computations, entry)


def operands(instruction: Instruction) -> list[str]:
    """Returns the names of an instruction's operands.

    >>> operands(Instruction("a", "f32[]", "add", "f32[] %b, %c.1), metadata={}"))
    ['b', 'c.1']
    """
    depth, out, word = 1, [], ""
    for char in instruction.rest:
        depth += (char in "({[") - (char in ")}]")
        if depth == 0:
            break
        if char == "," and depth == 1:
            out.append(word)
            word = ""
        else:
            word += char
    return [name.rpartition("%")[2].strip() for name in [*out, word] if name.strip()]


def trips(program: Program, loop: Instruction) -> int | None:
    """Returns how often a while loop runs; None when its text does not say."""
    if count := loop.attribute(r'"known_trip_count":\{"n":"(\d+)"'):
        return int(count)
    condition = {i.name: i for i in program.computations[computation(loop, "condition")]}
    root = next(i for i in condition.values() if i.root)
    if root.op != "compare":
        return None
    sides = [condition[name] for name in operands(root) if name in condition]
    limit = next((_constant(i) for i in sides if i.op == "constant"), None)
    index = next((i.attribute(r"index=(\d+)") for i in sides if i.op == "get-tuple-element"), None)
    if limit is None or index is None:
        return None
    return -(-limit // _stride(program.computations[computation(loop, "body")], int(index)))


def _stride(body: Sequence[Instruction], index: int) -> int:
    """Returns what a loop adds to its counter, the value with this index among those it carries."""
    by_name = {i.name: i for i in body}
    root = next(i for i in body if i.root)
    step = by_name.get(operands(root)[index])
    while step is not None and step.op in ("copy", "bitcast"):
        step = by_name.get(operands(step)[0])
    if step is None or step.op != "add":
        return 1
    constants = [by_name[n] for n in operands(step) if n in by_name and by_name[n].op == "constant"]
    return max(1, _constant(constants[0])) if constants else 1


def _constant(instruction: Instruction) -> int:
    return int(instruction.attribute(r"^(-?\d+)") or 0)


def computation(loop: Instruction, role: str) -> str:
    """Returns the name of the "condition" or the "body" of a while loop."""
    name = loop.attribute(role + r"=%?([\w.\-]+)")
    assert name is not None, loop
    return name


def branches(choice: Instruction) -> list[str]:
    """Returns the names of the computations that a conditional chooses from."""
    listed = choice.attribute(r"branch_computations=\{([^}]*)\}")
    if listed is None:
        return re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", choice.rest)
    return [name.strip().lstrip("%") for name in listed.split(",")]
