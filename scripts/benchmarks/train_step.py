"""Tokens a second of a training step on this machine, beside transformers and torch if installed.

    python scripts/benchmarks/train_step.py [--model 1m|15m] [--seconds 20]

One process after the other, the same shapes, float32, AdamW, no packing, all cores.
"""

import argparse
import importlib.util
import statistics
import time

SHAPES = {  # vocabulary, width, layers, feed-forward, heads, kv heads, batch, length
    "1m": (1664, 128, 4, 384, 4, 2, 32, 128),
    "15m": (32000, 288, 6, 768, 6, 6, 8, 256),
}


def main() -> None:
    """Prints one line a contestant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SHAPES, default="1m")
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    ours = measure(lrl_step(*SHAPES[args.model]), args)
    print(f"{args.model}: lrl_jax {ours:,.0f} tokens/s")
    if importlib.util.find_spec("torch") is None:
        print("torch: not measured, not installed")
        return
    theirs = measure(torch_step(*SHAPES[args.model]), args)
    print(f"{args.model}: transformers + torch eager {theirs:,.0f} tokens/s")
    print(f"ratio {ours / theirs:.2f}")


def measure(step, args) -> float:
    """Median tokens a second."""
    *_, batch, length = SHAPES[args.model]
    step()
    times, end = [], time.perf_counter() + args.seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return batch * length / statistics.median(times)


def lrl_step(vocab, width, depth, mlp, heads, kv, batch, length):
    """A function that runs one step of ours to its end."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from lrl_jax import mesh, recipe_train
    from lrl_jax.model import llama
    from lrl_jax.train import optimizer, step

    cfg = llama.LlamaConfig(
        vocab_size=vocab, width=width, depth=depth, mlp_width=mlp, num_heads=heads,
        num_kv_heads=kv, head_width=width // heads, norm_eps=1e-5, rope_theta=1e4,
        dtype="float32", remat="dots", unroll=depth,
    )  # fmt: skip
    rule = recipe_train.Rule(match=".*", schedule=recipe_train.Schedule(peak=1e-3))
    stage = recipe_train.Stage(name="a", steps=10**6, mixture={"a": 1}, learn=(rule,))
    devices = mesh.make(recipe_train.Mesh())
    shapes = llama.abstract(cfg)
    learner = optimizer.learner(
        optimizer.phases([stage])[0], recipe_train.Optimizer(), list(shapes),
        np.zeros(cfg.padded_vocab_size, bool),
    )  # fmt: skip
    compiled = step.make_step(cfg, learner, shapes, mesh.param_shardings(cfg, devices), devices, 1)
    tokens = np.random.default_rng(0).integers(3, vocab, (batch, length)).astype(np.int32)
    rows = {
        "decoder_target_tokens": tokens,
        "decoder_input_tokens": tokens,
        "decoder_loss_weights": np.ones_like(tokens),
        "decoder_segment_ids": np.ones_like(tokens),
        "decoder_positions": np.tile(np.arange(length, dtype=np.int32), (batch, 1)),
    }
    with jax.set_mesh(devices):
        params = llama.init(cfg, jax.random.key(0))
        state = compiled.begin(params, jnp.int32(0), jnp.int32(0))
    placed = {name: step.place(part, devices, batch) for name, part in rows.items()}
    asked = step.place(np.zeros(batch, np.int32), devices, batch)

    def run():
        nonlocal state
        with jax.set_mesh(devices):
            state, metrics = compiled.run(state, placed, asked)
        jax.block_until_ready(metrics)

    return run


def torch_step(vocab, width, depth, mlp, heads, kv, batch, length):
    """A function that runs one step of theirs to its end."""
    import torch
    import transformers

    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=vocab, hidden_size=width, num_hidden_layers=depth, intermediate_size=mlp,
            num_attention_heads=heads, num_key_value_heads=kv,
        )
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95))
    tokens = torch.randint(3, vocab, (batch, length))

    def run():
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return run


if __name__ == "__main__":
    main()
