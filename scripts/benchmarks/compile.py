"""Training steps compiled for pods by us and by MaxText, both programs through one cost walker.

    python scripts/benchmarks/compile.py --maxtext .venv-maxtext/bin/python [--only llama2-7b]

No TPU is needed: libtpu compiles on any Linux machine (`pip install -e ".[fit]"`; MaxText wants
a Python 3.12 of its own with maxtext, jax and the same libtpu: another one is refused, as two
versions of the compiler say nothing about two programs). Both get the compiler options of
lrl_jax/devices/chips.py. A compile takes one to five CPU minutes; what FOLDER (--folder) holds
already is not made again unless --fresh is given. Prints a line a setting: estimated milliseconds
for 4,096 tokens of one chip, all included, what they go to, and GiB a chip; then the ratio of the
best of both, ours being held to no more memory than theirs.
"""

import argparse
import dataclasses
import json
from pathlib import Path
import shutil
import subprocess
import sys

from lrl_jax.devices import chips
from lrl_jax.fit import cost, topology

HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Pair:
    """A model on a machine.

    Attributes:
      ours: settings of ours: mesh, remat, rows a chip, and fields of `train`.
      theirs: those of MaxText: remat policy, rows a chip, words for its command line, and a mesh
        where it is not one ring of all chips.
    """

    topology: str
    shape: dict
    ours: tuple[dict, ...]
    theirs: tuple[dict, ...]


def shape(width, depth, mlp_width, heads, kv_heads, vocab_size=46080, length=4096) -> dict:
    """A model by our names; the benchmark's vocabularies are extended ones."""
    return dict(
        width=width, depth=depth, mlp_width=mlp_width, num_heads=heads, num_kv_heads=kv_heads,
        head_width=128, vocab_size=vocab_size, length=length,
    )  # fmt: skip


def mesh(data: int, fsdp: int, remat: str, batch: int, **train) -> dict:
    """One of our settings."""
    return dict(data=data, fsdp=fsdp, remat=remat, batch=batch, train=train)


def policies(*settings: str, more: tuple[str, ...] = ()) -> tuple[dict, ...]:
    """MaxText's: "full 4" is its policy `full` at four rows a chip."""
    pairs = [setting.split() for setting in settings]
    return tuple(dict(remat=name, batch=int(rows), more=more) for name, rows in pairs)


def copies(*settings: str, fsdp: int, more: tuple[str, ...] = ()) -> tuple[dict, ...]:
    """MaxText's policies on two copies of the model, the mesh of ours."""
    apart = dict(data=2, fsdp=fsdp)
    return tuple(apart | policy for policy in policies(*settings, more=(*more, SPLIT)))


SPLIT = "allow_split_physical_axes=true"  # without it MaxText refuses 2 x 32 on 8 x 8
LLAMA3_8B = shape(4096, 32, 14336, 32, 8, vocab_size=142336)
TILED = ("num_vocab_tiling=8",)  # its loss in blocks, of tokens
PAIRS = {
    "llama2-7b": Pair(
        "v5e-64", shape(4096, 32, 11008, 32, 32),
        ours=(mesh(2, 32, "dots", 1, loss_blocks=8), mesh(2, 32, "qk", 2, loss_blocks=8)),
        theirs=policies(
            "minimal_with_context 1", "save_dot_with_context_except_mlp 2", "save_qkv_proj 2",
            "full 4", "qkv_proj_offloaded 4",
        ) + copies("minimal_with_context 1", "save_qkv_proj 2", "full 4", fsdp=32),
    ),
    "llama2-13b": Pair(
        "v4-64", shape(5120, 40, 13824, 40, 40),
        ours=(mesh(2, 16, "dots", 1, loss_blocks=8),),
        theirs=policies(
            "minimal_with_context 1", "save_dot_with_context_except_mlp 2", "save_qkv_proj 3",
            "full 4",
        ) + copies("minimal_with_context 1", "save_qkv_proj 3", fsdp=16),
    ),
    "llama3-8b": Pair(
        "v5p-16", LLAMA3_8B,
        ours=(mesh(2, 4, "dots", 4, loss_blocks=8), mesh(2, 4, "dots", 6, loss_blocks=8)),
        theirs=policies("minimal_with_context 2") + policies(
            "minimal_with_context 4", "minimal_with_context 6",
            "save_dot_with_context_except_mlp 4", "save_qkv_proj 4", more=TILED,
        ) + copies("minimal_with_context 4", "save_qkv_proj 4", fsdp=4, more=TILED),
    ),
    "llama-33b": Pair(
        "v4-128", shape(6656, 60, 17920, 52, 52, length=2048),
        ours=(mesh(2, 32, "qk", 2, loss_blocks=8), mesh(2, 32, "dots", 1, loss_blocks=8)),
        theirs=policies(
            "minimal_with_context 1", "save_qkv_proj 2", "save_qkv_proj 3", "full 4", "full 8"
        ) + copies("save_qkv_proj 2", "full 8", fsdp=32),
    ),
    "llama3-8b-v6e": Pair(
        "v6e-64", LLAMA3_8B,
        ours=(
            mesh(2, 32, "qk", 4, loss_blocks=8), mesh(2, 32, "nothing", 4, loss_blocks=8),
            mesh(2, 32, "nothing", 8, loss_blocks=8),
        ),
        theirs=policies(
            "minimal_with_context 2", "save_dot_with_context_except_mlp 4", "save_qkv_proj 4",
            "save_qkv_proj 8", "full 4", more=TILED,
        ) + copies("save_qkv_proj 8", fsdp=32, more=TILED),
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Row:
    """One setting, compiled: seconds are for 4,096 tokens of one chip."""

    name: str
    cost: cost.Cost
    share: float
    memory: float
    host: float

    @property
    def seconds(self) -> float:
        return self.cost.seconds * self.share

    @property
    def line(self) -> str:
        parts = (self.cost.compute, self.cost.kernels, self.cost.exposed, self.cost.host)
        words = " + ".join(f"{1000 * part * self.share:6.0f}" for part in parts)
        return (
            f"  {self.name:<46} {1000 * self.seconds:7.0f} ms = {words}   "
            f"{self.memory / chips.GIB:6.2f} GiB, host {self.host / chips.GIB:5.2f}"
        )


def main() -> None:
    """Compiles what is asked for, and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--maxtext", default="", help="a Python that has maxtext")
    parser.add_argument("--only", nargs="*", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--folder", type=Path, default=Path("runs/compile"))
    parser.add_argument("--fresh", action="store_true", help="compile what is there once more")
    args = parser.parse_args()
    if args.maxtext and not shutil.which(args.maxtext):
        print(f"maxtext: not installed: no file {args.maxtext}")
        args.maxtext = ""
    if args.maxtext:
        same_compiler(args.maxtext)
    print(f"libtpu {topology.libtpu()}")
    print("milliseconds for 4,096 tokens a chip = arithmetic + kernels + between chips + host")
    ratios = {name: compare(name, PAIRS[name], args) for name in args.only}
    known = [ratio for ratio in ratios.values() if ratio]
    if known:
        print(f"at most 0.95 on {sum(ratio <= 0.95 for ratio in known)} of {len(known)} pairs")


def same_compiler(python: str) -> None:
    """Refuses another Python whose libtpu is not the one here; says how to install that."""
    code = "import importlib.metadata as m; print(m.version('libtpu'))"
    asked = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    theirs = asked.stdout.strip() or "none"
    ours = topology.libtpu()
    if theirs != ours:
        sys.exit(
            f"{python} has libtpu {theirs}, this Python {ours or 'none'}: two versions of the "
            f"compiler cannot be compared; {python} -m pip install libtpu=={ours or theirs}"
        )


def compare(name: str, pair: Pair, args) -> float | None:
    """Prints one pair; the ratio of our best to theirs, None where either is missing."""
    options = dict(topology.read(pair.topology).chip.options)
    print(f"\n{name} on {pair.topology}, {pair.shape['length']:,} tokens a row; {options}")
    ours = [
        row for one in pair.ours
        if (row := run(sys.executable, "ours", name, settings(pair, options, one), args))
    ]  # fmt: skip
    theirs = []
    count = topology.read(pair.topology).count
    for policy in pair.theirs if args.maxtext else ():
        one = settings(pair, options, {"fsdp": count} | policy)
        if row := run(args.maxtext, "maxtext", name, one, args):
            theirs.append(row)
    if not theirs:
        print("  maxtext: not measured" if not args.maxtext else "  maxtext: nothing compiled")
        return None
    best = min(theirs, key=lambda row: row.seconds)
    held = [row for row in ours if row.memory <= best.memory]
    if not ours:
        print("  ours: nothing compiled")
        return None
    mine = min(held or ours, key=lambda row: row.seconds)
    ratio = mine.seconds / best.seconds
    more = "" if held else f", but at more memory than its {best.memory / chips.GIB:.2f} GiB"
    print(f"  ratio {ratio:.3f}: {mine.name} to {best.name}{more}")
    if not held:
        return None
    return ratio


def settings(pair: Pair, options: dict, more: dict) -> dict:
    """What one child compiles."""
    common = {"topology": pair.topology, **pair.shape, "flags": options}
    return common | more | {"libtpu": topology.libtpu()}


def run(python: str, side: str, pair: str, setting: dict, args) -> Row | None:
    """Compiles in a child process, or reads what one has left; prints what it is or why not."""
    train = setting.get("train", {})
    axes = "x".join(str(setting.get(axis, 1)) for axis in ("data", "fsdp", "tensor"))
    words = [f"b{setting['batch']}", setting["remat"], axes]
    words += [f"{key}={value}" for key, value in train.items()]
    words += setting.get("more", ())
    name = f"{side} {' '.join(words)}"
    folder = (args.folder / pair / name.replace(" ", "_").replace("/", "_")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    noted, result = folder / "setting.json", folder / "result.json"
    setting = json.loads(json.dumps(setting))
    same = noted.exists() and json.loads(noted.read_text()) == setting
    if args.fresh or not same or not result.exists():
        result.unlink(missing_ok=True)
        noted.write_text(json.dumps(setting, indent=1))
        child = [python, str(HERE / f"compile_{side}.py"), str(noted), str(folder)]
        with open(folder / "log.txt", "w") as log:
            subprocess.run(child, stdout=log, stderr=log, check=False)
    if not result.exists():
        print(f"  {name}: failed; see {folder / 'log.txt'}")
        return None
    found = json.loads(result.read_text())
    if "error" in found:
        print(f"  {name}: {found['error'].splitlines()[0][:150]}")
        return None
    row = read(name, setting, found, (folder / "hlo.txt").read_text())
    print(row.line, flush=True)
    for unknown in row.cost.unknown:
        print(f"    {unknown}")
    return row


def read(name: str, setting: dict, found: dict, text: str) -> Row:
    """One compiled program as a line of the table."""
    chip = topology.read(setting["topology"]).chip
    tokens = setting["batch"] * setting["length"] / setting.get("tensor", 1)
    memory = found["arguments"] + found["temporaries"] + found["outputs"] - found["aliased"]
    return Row(name, cost.of(text, chip), 4096 / tokens, memory, found["host"])


if __name__ == "__main__":
    main()
