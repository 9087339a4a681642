"""Published runs compiled again: what they were measured to take beside what is estimated.

    python scripts/benchmarks/published.py [--only 16B] [--machine v5e-256] [--fresh]

Compiles the model, rows and mesh of each run in lrl_jax/fit/published.py as `lrl fit` compiles a
recipe, one after the other; one takes minutes. Prints the table of docs/fit.md, what each estimate
is made of, and ends with 1 where an estimate is not the one in that file (to 1 %).
"""

import argparse
from pathlib import Path
import sys

import compile as compiling

from lrl_jax.fit import published, topology
from lrl_jax.fit.published import PublishedRun

HEAD = (
    "| model, machine | published | a step of it, s | estimate, s | measured / estimate | source |"
)
SAME = 0.01  # the compiler is the same each time; another version of it is not


def main() -> None:
    """Compiles what is asked for, and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="names of runs")
    parser.add_argument("--machine", help="runs on this machine")
    parser.add_argument("--folder", type=Path, default=Path("runs/compile"))
    parser.add_argument("--fresh", action="store_true", help="compile what is there once more")
    args = parser.parse_args()
    chosen = [
        run for run in published.RUNS
        if run.name in (args.only or [run.name]) and run.machine == (args.machine or run.machine)
    ]  # fmt: skip
    print(f"libtpu {topology.libtpu()}; arithmetic + kernels + between chips")
    others = 0
    for run in chosen:
        compiled = compiling.run(sys.executable, "ours", folder_of(run), setting(run), args)
        if compiled is None:
            others += 1
            continue
        seconds = compiled.cost.seconds
        same = abs(seconds / run.estimate - 1) <= SAME
        print(f"  {run.name} on {run.machine}: {seconds:.2f} s, {run.estimate:g} in the table")
        others += not same
    print("\n".join(["", HEAD, "|---" * 6 + "|", *map(line, published.RUNS)]))
    sys.exit(bool(others))


def folder_of(run: PublishedRun) -> str:
    """Where the program of a run is left."""
    return f"published-{run.name}-{run.machine}".lower()


def setting(run: PublishedRun) -> dict:
    """What the child compiles, with the options of the chip."""
    options = dict(topology.read(run.machine).chip.options)
    return {
        "topology": run.machine, **run.shape, "length": run.length, "data": run.data,
        "fsdp": run.fsdp, "tensor": run.tensor, "remat": run.remat, "batch": run.rows,
        "train": {"loss_blocks": run.loss_blocks}, "flags": options,
        "libtpu": topology.libtpu(),
    }  # fmt: skip


def line(run: PublishedRun) -> str:
    """A row of the table in docs/fit.md."""
    says = f"{run.tflops:g} TFLOP/s a chip" if run.tflops else f"{run.seconds:g} s"
    cells = (
        f"{run.name}, {run.machine}", says, span(run.measured), f"{run.estimate:.2f}",
        span(run.ratios), run.source,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def span(pair: tuple[float, float]) -> str:
    """Two figures, or one where they are the same.

    >>> span((9.98, 10.31)), span((9.052, 9.052))
    ('9.98 to 10.31', '9.05')
    """
    low, high = (f"{number:.2f}" for number in pair)
    return low if low == high else f"{low} to {high}"


if __name__ == "__main__":
    main()
