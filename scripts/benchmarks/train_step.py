"""Tokens a second of a training step, beside transformers and torch in the same run.

    python scripts/benchmarks/train_step.py                            # CPU: 15m and 60m
    python scripts/benchmarks/train_step.py --model 1b 3b 8b --dtype bfloat16     # one GPU

The same shapes on both sides, AdamW, gradients clipped, no packing, parameters in the compute
dtype; moments are in it too with torch, ours stay in float32. Each contestant has a process of its
own. On a CPU they take turns, so that whatever else the machine does slows all of them; a turn is
one step that does not count, as caches and pages are the others' by then, and two that do. A ratio
is the median over rounds; the least and the most of a round stand behind it, and the worst median
is named at the end. Tokens per CPU second do not count time spent waiting for a core. On a busy
machine start it with `taskset -c 0`: torch's threads spend CPU time waiting for each other. On a
GPU, which would not hold several models, one contestant comes after the other, and torch has flash
attention if it is installed.
"""

import argparse
import dataclasses
import importlib.util
import multiprocessing
import os
import shutil
import statistics
import subprocess
import time

PEERS = {"eager": "transformers + torch eager", "compiled": "transformers + torch.compile"}


@dataclasses.dataclass(frozen=True)
class Shape:
    vocab: int
    width: int
    depth: int
    mlp: int
    heads: int
    kv: int
    batch: int
    length: int
    gpu: bool = False


SHAPES = {
    "1m": Shape(1664, 128, 4, 384, 4, 2, 32, 128),
    "15m": Shape(32000, 288, 6, 768, 6, 6, 8, 256),
    "60m": Shape(32000, 512, 8, 1376, 8, 8, 8, 256),
    "1b": Shape(128256, 2048, 16, 8192, 32, 8, 4, 4096, gpu=True),  # Llama 3.2
    "3b": Shape(128256, 3072, 28, 8192, 24, 8, 2, 4096, gpu=True),
    "8b": Shape(128256, 4096, 32, 14336, 32, 8, 1, 4096, gpu=True),  # Llama 3.1
}


def main() -> None:
    """Prints a table a model and dtype."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=SHAPES, default=["15m", "60m"])
    parser.add_argument(
        "--dtype", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"]
    )
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    names = {"ours": "lrl_jax"}
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        names |= {peer: PEERS[peer] for peer in args.peers}
    else:
        print("torch and transformers: not measured, not installed")
    medians: dict[str, float] = {}
    for model in args.model:
        if SHAPES[model].gpu and not has_gpu():
            print(f"{model}: not measured: no GPU")
            continue
        for dtype in args.dtype:
            medians |= table(model, dtype, names, args.rounds)
    if medians:
        worst = min(medians, key=medians.__getitem__)
        print(f"\n{min(medians.values()):.2f} to {max(medians.values()):.2f} times; worst: {worst}")


def table(model: str, dtype: str, names: dict[str, str], rounds: int) -> dict[str, float]:
    """Measures all contestants of one model and dtype, and prints a line each; peer -> median."""
    shape = SHAPES[model]
    turns = [list(names)] if not shape.gpu else [[name] for name in names]
    times: dict[str, list[tuple[float, float]]] = {}
    for present in turns:
        workers = {name: Worker(name, shape, dtype) for name in present}
        for i in range(rounds):
            turn = i % len(present)
            for name in present[turn:] + present[:turn]:
                times.setdefault(name, []).append(workers[name].step())
        for worker in workers.values():
            worker.end()
    tokens = shape.batch * shape.length
    print(f"\n{model} {dtype}, {shape.batch} x {shape.length}, {rounds} rounds")
    print(f"{'':30}{'tokens/s':>10}{'per CPU s':>11}{'ours is':>9}{'by CPU':>9}{'MFU':>6}  rounds")
    medians = {}
    for name, title in names.items():
        walls, cpus = zip(*times[name], strict=True)
        pairs = list(zip(times["ours"], times[name], strict=True))
        rates = [[theirs[i] / ours[i] for ours, theirs in pairs] for i in (0, 1)]
        ratios = [*map(statistics.median, rates)]
        if name != "ours":
            medians[f"{model} {dtype} beside {title}"] = ratios[0]
        rate, per_cpu = (tokens / statistics.median(seconds) for seconds in (walls, cpus))
        print(
            f"{title:30}{rate:10,.0f}{per_cpu:11,.0f}{ratios[0]:8.2f}x{ratios[1]:8.2f}x"
            f"{mfu(shape, rate):>6}  {min(rates[0]):.2f} to {max(rates[0]):.2f}"
        )
    return medians


def mfu(shape: Shape, tokens_per_second: float) -> str:
    """Share of the GPU's peak, counted as `lrl train` counts it; nothing on a CPU."""
    if not shape.gpu:
        return ""
    import jax

    from lrl_jax.train import learn, log

    peak = log.peak_flops(jax.devices()[0])
    flops = learn.flops_per_token(config(shape, "bfloat16"), shape.length)
    return f"{tokens_per_second * flops / peak:.0%}" if peak else "?"


class Worker:
    """A contestant in a process of its own, compiled and warm."""

    def __init__(self, name: str, shape: Shape, dtype: str):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, name, shape, dtype))
        self.process.start()
        theirs.close()
        self.pipe.recv()

    def step(self) -> tuple[float, float]:
        """A turn; seconds of one of its steps: on the clock, and of CPU time over all cores."""
        self.pipe.send(True)
        return self.pipe.recv()

    def end(self) -> None:
        """Stops the process."""
        self.pipe.send(False)
        self.process.join()


def serve(pipe, name: str, shape: Shape, dtype: str) -> None:
    """Runs a step whenever the pipe says True."""
    os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = "0.95"
    step = lrl_step(shape, dtype) if name == "ours" else torch_step(shape, dtype, name)
    for _ in range(2):
        step()
    pipe.send(None)
    while pipe.recv():
        step()
        clock, cpu = time.perf_counter(), time.process_time()
        step()
        step()
        pipe.send(((time.perf_counter() - clock) / 2, (time.process_time() - cpu) / 2))


def has_gpu() -> bool:
    return bool(shutil.which("nvidia-smi")) and not subprocess.call(
        ["nvidia-smi", "-L"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def config(shape: Shape, dtype):
    """Our model: small ones keep what a layer computes, large ones only its products."""
    from lrl_jax.model import llama

    return llama.LlamaConfig(
        vocab_size=shape.vocab, width=shape.width, depth=shape.depth, mlp_width=shape.mlp,
        num_heads=shape.heads, num_kv_heads=shape.kv, head_width=shape.width // shape.heads,
        norm_eps=1e-5, rope_theta=1e4, dtype=dtype, remat="qkv" if shape.gpu else "full",
        unroll=1 if shape.gpu else shape.depth,
    )  # fmt: skip


def lrl_step(shape: Shape, dtype):
    """A function that runs one step of ours to its end."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from lrl_jax.devices import mesh
    from lrl_jax.model import llama
    from lrl_jax.recipe import train as recipe_train
    from lrl_jax.train import learn, step

    cfg = config(shape, dtype)
    rule = recipe_train.Rule(match=".*", schedule=recipe_train.Schedule(peak=1e-3))
    stage = recipe_train.Stage(name="a", steps=10**6, mixture={"a": 1}, learn=(rule,))
    settings = recipe_train.Train(
        batch_size=shape.batch, stages=(stage,), loss_blocks=8 if shape.gpu else 1
    )  # fmt: skip
    devices = mesh.make(recipe_train.Mesh())
    (phase,), new_rows = learn.phases([stage]), np.zeros(cfg.padded_vocab_size, bool)
    compiled = step.make_step(cfg, phase, settings, devices, dtype, new_rows)
    size = (shape.batch, shape.length)
    tokens = np.random.default_rng(0).integers(3, shape.vocab, size).astype(np.int32)
    rows = {
        "decoder_target_tokens": tokens,
        "decoder_input_tokens": tokens,
        "decoder_loss_weights": np.ones_like(tokens),
        "decoder_segment_ids": np.ones_like(tokens),
        "decoder_positions": np.tile(np.arange(shape.length, dtype=np.int32), (shape.batch, 1)),
    }
    with jax.set_mesh(devices):
        params = jax.jit(llama.init, static_argnums=(0, 2))(cfg, jax.random.key(0), dtype)
        state = compiled.begin(params, jnp.int32(0), jnp.int32(0))
    batch = {name: mesh.place(part, devices, shape.batch) for name, part in rows.items()}
    said = mesh.said_by_each(devices, 0), mesh.said_by_all(devices, 0)

    def run():
        nonlocal state
        with jax.set_mesh(devices):
            state, metrics = compiled.run(state, batch, *said)
        jax.block_until_ready(metrics)

    def program() -> str:
        with jax.set_mesh(devices):
            return compiled.run.lower(state, batch, *said).compile().as_text()

    run.program = program
    return run


def torch_step(shape: Shape, dtype, kind: str):
    """A function that runs one step of theirs to its end."""
    import torch
    import transformers

    device = "cuda" if shape.gpu else "cpu"
    flash = shape.gpu and importlib.util.find_spec("flash_attn")
    settings = transformers.LlamaConfig(
        vocab_size=shape.vocab, hidden_size=shape.width, num_hidden_layers=shape.depth,
        intermediate_size=shape.mlp, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv, max_position_embeddings=shape.length,
        attn_implementation="flash_attention_2" if flash else "sdpa",
    )  # fmt: skip
    torch.set_default_dtype(getattr(torch, dtype))
    with torch.device(device):
        model = transformers.LlamaForCausalLM(settings)
    if shape.gpu:
        model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95))
    tokens = torch.randint(3, shape.vocab, (shape.batch, shape.length), device=device)
    forward = torch.compile(model) if kind == "compiled" else model

    def run():
        optimizer.zero_grad()
        forward(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if shape.gpu:
            torch.cuda.synchronize()

    return run


if __name__ == "__main__":
    main()
