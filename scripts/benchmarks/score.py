"""Scoring text on a CPU, beside transformers in the same run: bits per byte, and choices.

    python scripts/benchmarks/score.py [--model 1m 15m] [--rounds 5]

Three workloads: 100 lines of 3 to 100 tokens, of which every token is scored, as for bits per
byte; 100 questions of 100 tokens with four choices of one token; the same with choices of three
tokens. transformers reads batches of 16, sorted by length, as lm-evaluation-harness does; of
choices of one token it reads the question once, as the harness does too. Contestants take turns in
processes of their own; the first turn, in which programs are compiled, does not count. Figures are
seconds of CPU time over all cores; a ratio is the median over rounds, theirs to ours. On a busy
machine start it with `taskset -c 0`: torch's threads spend CPU time waiting for each other.
"""

import argparse
import multiprocessing
import statistics
import time

import numpy as np
from train_step import SHAPES, Shape, config

BATCH, LENGTH, BOS = 16, 512, 1
NAMES = {"ours": "lrl_jax", "theirs": "transformers + torch"}
Pairs = list[tuple[list[int], list[int]]]


def main() -> None:
    """Prints a line for every model and workload."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=SHAPES, default=["1m", "15m"])
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=[*WORKLOADS])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"{'CPU seconds':24}{'lrl_jax':>9}{'theirs':>9}{'ratio':>8}  rounds")
    for model in args.model:
        workers = {name: Worker(name, model) for name in NAMES}
        for work in args.only:
            turns: dict[str, list[float]] = {name: [] for name in NAMES}
            for n in range(args.rounds + 1):
                for name in sorted(NAMES, reverse=n % 2 == 1):
                    turns[name].append(workers[name].turn(work))
            ours, theirs = (turns[name][1:] for name in NAMES)
            ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
            print(
                f"{model + ' ' + work:24}{statistics.median(ours):9.3f}"
                f"{statistics.median(theirs):9.3f}{statistics.median(ratios):7.2f}x"
                f"  {min(ratios):.2f} to {max(ratios):.2f}; first turn {turns['ours'][0]:.1f}, "
                f"{turns['theirs'][0]:.1f}"
            )
        for worker in workers.values():
            worker.end()


# ---------------------------------------------------------------------------- workloads
def lines(vocab: int) -> Pairs:
    """100 lines, 34 tokens each on average."""
    rng = np.random.default_rng(0)
    sizes = np.clip(np.exp(rng.normal(3.3, 0.6, 100)), 3, 100).astype(int)
    return [([BOS], rng.integers(3, vocab, size).tolist()) for size in sizes]


def choices(vocab: int, tokens: int) -> Pairs:
    """100 questions with four choices of so many tokens."""
    rng = np.random.default_rng(1)
    pairs: Pairs = []
    for _ in range(100):
        question = rng.integers(3, vocab, 100).tolist()
        pairs += [(question, rng.integers(3, vocab, tokens).tolist()) for _ in range(4)]
    return pairs


WORKLOADS = {
    "lines": lines,
    "choices of 1": lambda vocab: choices(vocab, 1),
    "choices of 3": lambda vocab: choices(vocab, 3),
}


# ---------------------------------------------------------------------------- contestants
class Worker:
    """A contestant in a process of its own."""

    def __init__(self, name: str, model: str):
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.process = context.Process(target=serve, args=(far, name, SHAPES[model]))
        self.process.start()

    def turn(self, work: str) -> float:
        """Returns the CPU seconds in which it does the work."""
        self.pipe.send(work)
        return self.pipe.recv()

    def end(self) -> None:
        """Ends the process."""
        self.pipe.send("")
        self.process.join()


def serve(pipe, name: str, shape: Shape) -> None:
    """Does the work that the pipe names, until it names none."""
    score = (our_scores if name == "ours" else their_scores)(shape)
    while work := pipe.recv():
        pairs = WORKLOADS[work](shape.vocab)
        start = time.process_time()
        score(pairs, work != "lines")
        pipe.send(time.process_time() - start)


def our_scores(shape: Shape):
    """Returns a function that scores pairs with lrl_jax."""
    import types

    import jax

    from lrl_jax.devices import mesh as meshes
    from lrl_jax.evaluate import likelihood
    from lrl_jax.evaluate.kinds import MeasuredModel
    from lrl_jax.model import llama
    from lrl_jax.recipe import train as recipe_train

    cfg = config(shape, "float32")
    grid = meshes.make(recipe_train.Mesh())
    params = jax.device_put(llama.init(cfg, jax.random.key(0)), meshes.param_shardings(cfg, grid))
    ids = types.SimpleNamespace(bos_id=BOS, pad_id=0)
    model = MeasuredModel(cfg, params, ids, grid, LENGTH, 1)

    def score(pairs: Pairs, greedy: bool):
        readings = likelihood.shared(pairs, LENGTH, BOS)
        return [*likelihood.score(model, readings, BATCH, greedy=greedy)]

    return score


def their_scores(shape: Shape):
    """Returns a function that scores pairs with transformers, as lm-evaluation-harness does."""
    import torch
    import transformers

    settings = transformers.LlamaConfig(
        vocab_size=shape.vocab, hidden_size=shape.width, num_hidden_layers=shape.depth,
        intermediate_size=shape.mlp, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv, max_position_embeddings=LENGTH, attn_implementation="sdpa",
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(settings).eval()

    def score(pairs: Pairs, greedy: bool) -> list[tuple]:
        alike: dict[tuple[int, ...], list[list[int]]] = {}
        for context, continuation in pairs:
            alike.setdefault((*context, *continuation[:-1]), []).append(continuation)
        inputs = sorted(alike, key=len, reverse=True)
        out = []
        for start in range(0, len(inputs), BATCH):
            rows = inputs[start : start + BATCH]
            padded = torch.zeros((len(rows), len(rows[0])), dtype=torch.long)
            for n, row in enumerate(rows):
                padded[n, : len(row)] = torch.tensor(row)
            logs = torch.log_softmax(model(input_ids=padded).logits, dim=-1)
            for n, row in enumerate(rows):
                for continuation in alike[row]:
                    last = logs[n, len(row) - len(continuation) : len(row)]
                    wanted = torch.tensor(continuation)
                    picked = last.gather(1, wanted[:, None]).sum().item()
                    out.append((picked, greedy and bool((last.argmax(-1) == wanted).all())))
        return out

    def run(pairs: Pairs, greedy: bool):
        with torch.inference_mode():
            return score(pairs, greedy)

    return run


if __name__ == "__main__":
    main()
