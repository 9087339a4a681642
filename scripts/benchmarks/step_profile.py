"""Where the time of a training step on a CPU goes: ours, torch eager, torch.compile.

    python scripts/benchmarks/step_profile.py --model 15m --dtype bfloat16

The steps of `train_step.py`, under the profiler of each framework and on one core, as what other
threads of an operation do is seen by neither; by what the work is for. An operation counts without
those it calls.
"""

import argparse
import collections
from collections.abc import Iterator
import glob
import multiprocessing
import os
import re
import tempfile

import train_step

STEPS = 3
# By what an operation is called, in this order; ours by the name JAX gave it, torch's by its own.
KINDS = {
    "head and loss: products": "the three products of [B, T, D] and [D, V]",
    "head and loss: the rest": "passes over [B, T, V]",
    "layers: products": "projections and the feed-forward",
    "attention": "scores, softmax, and their gradients",
    "optimizer": "clipping and AdamW",
    "layers: the rest": "norms, rotations, activations, casts, sums of gradients",
    "without a name": "copies and fusions the compiler made, of any of these; ours alone",
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shapes = [name for name, shape in train_step.SHAPES.items() if not shape.gpu]
    parser.add_argument("--model", choices=shapes, default="15m")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--peers", nargs="*", choices=train_step.PEERS, default=["eager"])
    args = parser.parse_args()
    shape = train_step.SHAPES[args.model]
    context = multiprocessing.get_context("spawn")
    found = {}
    for name in ["ours", *args.peers]:
        with context.Pool(1) as alone:  # each in a process of its own
            found[name] = alone.apply(profiled, (name, shape, args.dtype))
    print(f"{args.model} {args.dtype}: milliseconds a step on one core")
    print(f"{'':28}" + "".join(f"{name:>10}" for name in found))
    for kind, what in {**KINDS, "sum": ""}.items():
        row = "".join(
            f"{took[kind] if kind in KINDS else sum(took.values()):10.0f}"
            for took in found.values()
        )
        print(f"{kind:28}{row}  {what}")


def profiled(name: str, shape: train_step.Shape, dtype: str) -> dict[str, float]:
    """Milliseconds a step, by kind."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the pools of both look at it
    if name == "ours":
        step, seen = train_step.lrl_step(shape, dtype), of_ours
    else:
        step, seen = train_step.torch_step(shape, dtype, name), of_torch
    for _ in range(2):
        step()
    out = collections.Counter(dict.fromkeys(KINDS, 0.0))
    for kind, ns in seen(step, shape):
        out[kind] += ns / 1e6 / STEPS
    return dict(out)


def of_ours(step, shape: train_step.Shape) -> Iterator[tuple[str, float]]:
    """(kind, nanoseconds) of each operation the profiler of XLA saw."""
    import jax

    kinds = kinds_of_ours(step.program(), shape)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(STEPS):
                step()
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        planes = [*jax.profiler.ProfileData.from_file(path).planes]
    for plane in planes:
        for line in plane.lines:
            events = [(e.start_ns, e.duration_ns, dict(e.stats).get("hlo_op")) for e in line.events]
            for op, ns in own([event for event in events if event[2]]):
                yield kinds.get(op, "without a name"), ns


def own(events: list[tuple[float, float, str]]) -> list[tuple[str, float]]:
    """(name, duration) of nested events (start, duration, name), without what lies in them.

    >>> own([(0, 10, "loop"), (1, 3, "dot"), (5, 2, "exp"), (20, 1, "dot")])
    [('loop', 5), ('dot', 3), ('exp', 2), ('dot', 1)]
    """
    out, open_ = [], []
    for start, duration, name in sorted(events, key=lambda event: (event[0], -event[1])):
        while open_ and open_[-1][0] <= start:
            open_.pop()
        if open_:
            parent = open_[-1][1]
            out[parent] = (out[parent][0], out[parent][1] - duration)
        open_.append((start + duration, len(out)))
        out.append((name, duration))
    return out


def kinds_of_ours(program: str, shape: train_step.Shape) -> dict[str, str]:
    """Of each instruction, by the name JAX gave it, its shape and those of its operands."""
    from lrl_jax.fit import hlo

    out = {}
    for instructions in hlo.parse(program).computations.values():
        shapes = {instruction.name: instruction.shape for instruction in instructions}
        for instruction in instructions:
            said = [instruction.shape, *(shapes.get(o, "") for o in hlo.operands(instruction))]
            wide = any(shape.vocab in array.sizes for one in said for array in hlo.arrays(one))
            out[instruction.name] = kind_of_ours(instruction.attribute(r'op_name="([^"]*)"'), wide)
    return out


def kind_of_ours(name: str | None, wide: bool) -> str:
    """By the name JAX gave an instruction, and whether it reads or makes what has a vocabulary."""
    if name is None:
        return "without a name"
    if "jvp" not in name:
        return "optimizer"
    if wide and "dot_general" in name:
        return "head and loss: products"
    if wide:
        return "head and loss: the rest"
    if "/while/" in name:  # layers are unrolled: the loop is over blocks of a row
        return "attention"
    return "layers: products" if "dot_general" in name else "layers: the rest"


def of_torch(step, shape: train_step.Shape) -> Iterator[tuple[str, float]]:
    """(kind, nanoseconds) of each operation torch's profiler saw."""
    from torch import profiler

    with profiler.profile(activities=[profiler.ProfilerActivity.CPU], record_shapes=True) as seen:
        for _ in range(STEPS):
            step()
    for event in seen.events():
        yield kind_of_torch(event, shape), 1e3 * event.self_cpu_time_total


def kind_of_torch(event, shape: train_step.Shape) -> str:
    """By an event's name, its shapes, and what called it."""
    callers, parent = [], event
    while parent is not None:
        callers.append(parent.name)
        parent = parent.cpu_parent
    wide = any(shape.vocab in sizes for sizes in event.input_shapes if sizes)
    wide |= bool(re.search("log_softmax|nll_loss", event.name))  # compiled kernels have no shapes
    product = re.search(r"\b(mm|addmm|bmm|matmul|linear|_linear_pointwise)\b", event.name)
    if any("Optimizer" in name or "_foreach" in name for name in callers):
        return "optimizer"
    if any("scaled_dot_product" in name for name in callers):
        return "attention"
    if wide:
        return "head and loss: products" if product else "head and loss: the rest"
    return "layers: products" if product else "layers: the rest"


if __name__ == "__main__":
    main()
