"""Tokens a second of generation on a CPU, beside transformers in the same run.

    python scripts/benchmarks/generate.py                    # all tables, some twenty minutes
    python scripts/benchmarks/generate.py --only peers --dtype float32
    python scripts/benchmarks/generate.py --only depth refill

Random Llamas, so every answer has its full length unless the table says otherwise, and both sides
are greedy with the same weights' shapes. Contestants have a process each and take turns, so that
whatever else the machine does slows all of them. A figure is the median over turns, a ratio the
median of the ratios of turns; the least and the most stand behind it, and the ratio of CPU time,
which does not count waiting for a core. Compiling and warming up are
not counted: the first turn is thrown away.

| table | what |
| --- | --- |
| peers | batches of 16 prompts of 8 to 256 tokens; one prompt; 16 prompts of 480 tokens |
| depth | milliseconds a step of 16 rows at depth 4, 8 and 16 |
| refill | answers of 4 to 128 tokens, rows refilled, beside batches that wait for their last row |
"""

import argparse
import collections
import dataclasses
import importlib.util
import multiprocessing
import statistics
import time

DTYPES = ("float32", "bfloat16")
NEW = 128  # tokens of an answer


@dataclasses.dataclass(frozen=True)
class Shape:
    vocab: int = 32000
    width: int = 288
    depth: int = 6
    mlp: int = 768
    heads: int = 6
    kv: int = 6
    context: int = 1024


@dataclasses.dataclass(frozen=True)
class Work:
    """What a turn generates: prompts of these lengths, in batches of a size."""

    title: str
    lengths: tuple[int, ...]
    batch: int
    shape: Shape = Shape()


MIXED = tuple(8 + 248 * i // 15 for i in range(16))
PEERS = (
    Work("16 prompts of 8 to 256", MIXED, 16),
    Work("1 prompt of 64", (64,), 1),
    Work("16 prompts of 480", (480,) * 16, 16),
)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tables = {"peers": peers, "depth": depth, "refill": refill}
    parser.add_argument("--only", nargs="+", choices=tables, default=list(tables))
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--new", type=int, default=NEW, help="tokens of an answer")
    args = parser.parse_args()
    for name in args.only:
        tables[name](args)


def peers(args: argparse.Namespace) -> None:
    """Prints our tokens a second beside those of transformers."""
    present = all(map(importlib.util.find_spec, ("torch", "transformers")))
    if not present:
        print("transformers: not measured, torch or transformers is not installed")
    for dtype in args.dtype:
        print(f"\n{dtype}, {args.new} new tokens, tokens/s, {args.turns} turns")
        for work in PEERS:
            contestants = {"lrl_jax": ("ours", work, dtype, args.new)}
            if present:
                contestants["transformers"] = ("transformers", work, dtype, args.new)
            seconds = measure(contestants, args.turns)
            tokens = len(work.lengths) * args.new
            rates = ", ".join(f"{n} {tokens / _median(s):,.0f}" for n, s in seconds.items())
            print(f"{work.title:26}{rates}{_ratio(seconds, 'transformers')}")


def depth(args: argparse.Namespace) -> None:
    """Prints milliseconds a step at several depths, of both dtypes in turns."""
    depths = (4, 8, 16)
    contestants = {
        f"{dtype} {count}": (
            "ours", Work("", (64,) * 16, 16, dataclasses.replace(Shape(), depth=count)), dtype,
            args.new,
        )
        for count in depths
        for dtype in args.dtype
    }  # fmt: skip
    seconds = measure(contestants, args.turns)
    steps = {name: 1000 * _median(s) / args.new for name, s in seconds.items()}
    print(f"\nms a step, 16 rows, prompts of 64, {args.turns} turns")
    for dtype in args.dtype:
        row = ", ".join(f"depth {count} {steps[f'{dtype} {count}']:.1f}" for count in depths)
        print(f"{dtype:10}{row}; 16 is {steps[f'{dtype} 16'] / steps[f'{dtype} 8']:.2f} times 8")
        cpus = {c: statistics.median(cpu for _, cpu in seconds[f"{dtype} {c}"]) for c in depths}
        print(f"{'':10}by CPU, 16 is {cpus[16] / cpus[8]:.2f} times 8")
    if len(args.dtype) > 1:
        print(f"bfloat16 of float32, depth 16: {steps['bfloat16 16'] / steps['float32 16']:.2f}")


def refill(args: argparse.Namespace) -> None:
    """Prints tokens a second where answers end at different times."""
    work = Work("", (32,) * 64, 16)
    for dtype in args.dtype:
        contestants = {kind: (kind, work, dtype, args.new) for kind in ("refilled", "fixed")}
        seconds = measure(contestants, args.turns)
        tokens = sum(answer_lengths(len(work.lengths), args.new))
        print(f"\n{dtype}, 64 answers of 4 to {args.new} tokens, 16 rows, {args.turns} turns")
        rates = ", ".join(f"{n} {tokens / _median(s):,.0f}" for n, s in seconds.items())
        print(f"tokens/s: {rates}{_ratio(seconds, 'fixed')}")


def answer_lengths(count: int, longest: int) -> list[int]:
    """Lengths of answers, most of them short, as answers are; the same for all contestants."""
    import numpy as np

    drawn = np.random.default_rng(0).exponential(longest / 4, count)
    return np.clip(drawn, 4, longest).astype(int).tolist()


def _ratio(seconds: "dict[str, Seconds]", peer: str) -> str:
    if peer not in seconds:
        return ""
    pairs = [*zip(next(iter(seconds.values())), seconds[peer], strict=True)]
    walls, cpus = ([theirs[i] / ours[i] for ours, theirs in pairs] for i in (0, 1))
    least, most = min(walls), max(walls)
    by_cpu = statistics.median(cpus)
    return (
        f"; {statistics.median(walls):.2f} times ({least:.2f} to {most:.2f}), by CPU {by_cpu:.2f}"
    )


def _median(seconds: "Seconds") -> float:
    return statistics.median(wall for wall, _ in seconds)


# ---------------------------------------------------------------------------- turns
Seconds = list[tuple[float, float]]  # of each turn: on the clock, and of CPU time over all cores


def measure(contestants: dict[str, tuple], turns: int) -> dict[str, Seconds]:
    """Seconds of each contestant in each turn."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name, arguments in contestants.items():
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(theirs, *arguments)))
        processes[-1].start()
        theirs.close()
        pipes[name].recv()
    seconds: dict[str, Seconds] = {name: [] for name in contestants}
    for turn in range(turns):
        order = [*pipes]
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            pipes[name].send(True)
            seconds[name].append(pipes[name].recv())
    for pipe in pipes.values():
        pipe.send(False)
    for process in processes:
        process.join()
    return seconds


def serve(pipe, kind: str, work: Work, dtype: str, new: int) -> None:
    """Generates whenever the pipe says True, and sends the seconds it took, and those of CPUs."""
    run = theirs(work, dtype, new) if kind == "transformers" else ours(kind, work, dtype, new)
    run()
    pipe.send(None)
    while pipe.recv():
        clock, cpu = time.perf_counter(), time.process_time()
        run()
        pipe.send((time.perf_counter() - clock, time.process_time() - cpu))


def token_rows(work: Work) -> list[list[int]]:
    import numpy as np

    rng = np.random.default_rng(0)
    return [[1, *rng.integers(3, 30000, n - 1).tolist()] for n in work.lengths]


def ours(kind: str, work: Work, dtype: str, new: int):
    """A function that generates with our model: all at once, or in batches that wait."""
    import jax

    from lrl_jax.devices import mesh as meshes
    from lrl_jax.evaluate.decoding import engine
    from lrl_jax.evaluate.generate import Settings
    from lrl_jax.evaluate.kinds import MeasuredModel
    from lrl_jax.model import llama
    from lrl_jax.recipe import train as recipe_train

    shape = work.shape
    cfg = llama.LlamaConfig(
        vocab_size=shape.vocab, width=shape.width, depth=shape.depth, mlp_width=shape.mlp,
        num_heads=shape.heads, num_kv_heads=shape.kv, head_width=shape.width // shape.heads,
        norm_eps=1e-5, rope_theta=1e4, dtype=dtype,
    )  # fmt: skip
    grid = meshes.make(recipe_train.Mesh())
    with jax.set_mesh(grid):
        params = jax.jit(llama.init, static_argnums=(0, 2))(cfg, jax.random.key(0), dtype)

    class Numbers:
        """Stands for a tokenizer: what is measured needs no text."""

        bos_id, pad_id, size = 1, 0, shape.vocab

        def decode(self, ids) -> str:
            return ""

    model = MeasuredModel(cfg, params, Numbers(), grid, 0, 1)
    decoder = engine.Engine(model, work.batch)
    prompts = token_rows(work)
    if kind == "ours":
        return lambda: [*decoder.run(prompts, Settings(max_new_tokens=new, ends=()))]
    # Answers of given lengths: each row has as many steps as its answer is long.
    lengths = answer_lengths(len(prompts), new)
    steps_of = dict(zip(map(tuple, prompts), lengths, strict=True))

    def generate(some) -> None:
        batch = engine.Batch(
            decoder, some, Settings(max_new_tokens=new, ends=()), engine.Counters()
        )
        batch.queue = collections.deque(
            dataclasses.replace(prompt, left=steps_of[prompt.ids]) for prompt in batch.queue
        )
        assert sum(a.done is not None for a in batch.answers(engine.CHUNK)) == len(some)

    if kind == "refilled":
        return lambda: generate(prompts)
    size = work.batch
    return lambda: [generate(prompts[i : i + size]) for i in range(0, len(prompts), size)]


def theirs(work: Work, dtype: str, new: int):
    """A function that generates with transformers, prompts padded on the left."""
    import torch
    import transformers

    shape = work.shape
    settings = transformers.LlamaConfig(
        vocab_size=shape.vocab, hidden_size=shape.width, num_hidden_layers=shape.depth,
        intermediate_size=shape.mlp, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv, max_position_embeddings=shape.context,
        attn_implementation="sdpa", eos_token_id=None, bos_token_id=1,
    )  # fmt: skip
    torch.set_default_dtype(getattr(torch, dtype))
    model = transformers.LlamaForCausalLM(settings).eval()
    longest = max(work.lengths)
    ids = torch.zeros((len(work.lengths), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, mask_row, prompt in zip(ids, mask, token_rows(work), strict=True):
        row[longest - len(prompt) :] = torch.tensor(prompt)
        mask_row[longest - len(prompt) :] = 1

    def run() -> None:
        out = model.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=new, min_new_tokens=new,
            pad_token_id=0,
        )  # fmt: skip
        assert out.shape[1] == longest + new

    return run


if __name__ == "__main__":
    main()
