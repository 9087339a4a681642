"""Checkpoints of real width in and out: seconds and memory, beside transformers and MaxText.

    python scripts/benchmarks/convert.py [--shape 7b] [--layers 4] [--maxtext .venv-mt/bin/python]

Writes a synthetic bfloat16 checkpoint (Hugging Face layout), then each contestant reads it and
writes it again, in a process of its own, one after the other; everything is removed at the end.
Seconds are wall and CPU time of the call alone, imports excluded. Memory is the most that the
process held beyond what it held before the call: anonymous pages, and all resident pages, which
for a mapped file count the page cache too. MaxText only reads here (to_maxtext, which writes its
own Orbax checkpoint), knows no other Llama than 8b, and wants an environment of its own.
"""

import argparse
import json
import os
from pathlib import Path
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time

SHAPES = {  # width, feed-forward, heads, key/value heads, vocabulary, layers of the whole model
    "1b": (2048, 8192, 32, 8, 128_256, 16),
    "7b": (4096, 11_008, 32, 32, 32_000, 32),
    "8b": (4096, 14_336, 32, 8, 128_256, 32),
    "33b": (6656, 17_920, 52, 52, 32_000, 60),
}


def main() -> None:
    """Prints one line a contestant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--folder", default="", help="where to write (default: a temporary one)")
    parser.add_argument("--python", default=sys.executable, help="of ours and of transformers")
    parser.add_argument("--maxtext", default="", help="a Python that has MaxText")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contestant:
        print(json.dumps(CONTESTANTS[args.contestant](args)))
        return
    folder = Path(args.folder or tempfile.mkdtemp(prefix="convert_"))
    try:
        size, largest = write(folder / "base", args.shape, args.layers)
        print(f"{args.shape}, {args.layers} layers: {size / 1e9:.2f} GB, ", end="")
        print(f"largest tensor {largest / 1e9:.2f} GB; beyond what was held before, GB")
        for name in CONTESTANTS:
            print(f"{name:14}{run(name, args, folder)}", flush=True)
    finally:
        shutil.rmtree(folder)


def run(name: str, args: argparse.Namespace, folder: Path) -> str:
    """One contestant in a process of its own; what it measured, as a line."""
    python = args.maxtext if name == "maxtext" else args.python
    if not python:
        return "not measured: no --maxtext"
    if name == "maxtext" and args.shape != "8b":
        return f"not measured: its converter has no {args.shape}"
    command = [python, __file__, "--contestant", name, "--folder", str(folder)]
    command += ["--shape", args.shape, "--layers", str(args.layers)]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}
    )
    for made in folder.glob("out*"):
        shutil.rmtree(made)
    if done.returncode:
        return f"not measured: {done.stderr.strip().splitlines()[-1][:200]}"
    found = json.loads(done.stdout.splitlines()[-1])
    return "   ".join(
        f"{what} {m['wall']:.1f} s ({m['cpu']:.1f} CPU), anonymous {m['anonymous'] / 1e9:.2f}, "
        f"resident {m['resident'] / 1e9:.2f}"
        for what, m in found.items()
    )


# ---------------------------------------------------------------------------- contestants
def ours(args: argparse.Namespace) -> dict:
    """lrl_jax on one CPU device, bfloat16 throughout."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    from etils import epath

    from lrl_jax.devices import mesh
    from lrl_jax.hf import families, load, save
    from lrl_jax.recipe import train as recipe_train

    folder = epath.Path(args.folder)
    config = load.read_config(folder / "base")
    cfg = families.config_from_hf(config)
    placed = mesh.param_shardings(cfg, mesh.make(recipe_train.Mesh(), jax.devices()[:1]))
    with Measured() as read:
        params = jax.block_until_ready(load.load(folder / "base", cfg, placed, "bfloat16"))
    with Measured() as write:
        save.save(folder / "out", params, cfg, config, "bfloat16", 10**9)
    same(Path(args.folder))
    return {"import": read.found, "export": write.found}


def transformers(args: argparse.Namespace) -> dict:
    """from_pretrained and save_pretrained, bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = Path(args.folder)
    with Measured() as read:
        model = AutoModelForCausalLM.from_pretrained(
            folder / "base", dtype=torch.bfloat16, local_files_only=True
        )
        total = sum(float(w.flatten()[::2048].sum()) for w in model.parameters())  # maps are lazy
    with Measured() as write:
        model.save_pretrained(folder / "out", max_shard_size="1GB")
    assert total == total
    return {"import": read.found, "export": write.found}


def maxtext(args: argparse.Namespace) -> dict:
    """Its to_maxtext, reading lazily, with as many layers as the folder has."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    from maxtext.checkpoint_conversion import to_maxtext
    from maxtext.checkpoint_conversion.utils.hf_model_configs import HF_MODEL_CONFIGS

    HF_MODEL_CONFIGS["llama3.1-8b"].num_hidden_layers = args.layers
    base = Path(to_maxtext.__file__).parents[1] / "configs" / "base.yml"
    with Measured() as read:
        to_maxtext.main(
            ["to_maxtext", str(base), "model_name=llama3.1-8b", "override_model_config=True",
             f"base_num_decoder_layers={args.layers}", f"base_output_directory={args.folder}/out",
             "scan_layers=True", "hardware=cpu", "skip_jax_distributed_system=True"],
            lazy_load_tensors=True, hf_model_path=f"{args.folder}/base",
        )  # fmt: skip
    return {"import": read.found}


CONTESTANTS = {"lrl_jax": ours, "transformers": transformers, "maxtext": maxtext}


class Measured:
    """Seconds and memory of what happens inside; a context manager."""

    def __enter__(self) -> "Measured":
        self._before, self._most, self._done = memory(), (0, 0), threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        self._start = time.perf_counter(), cpu()
        return self

    def __exit__(self, *error) -> None:
        wall, used = time.perf_counter() - self._start[0], cpu() - self._start[1]
        self._done.set()
        self._watcher.join()
        anonymous, resident = (most - b for most, b in zip(self._most, self._before, strict=True))
        self.found = dict(wall=wall, cpu=used, anonymous=anonymous, resident=resident)

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self._most = tuple(map(max, self._most, memory()))


def memory() -> tuple[int, int]:
    """Anonymous and all resident bytes of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {key: int(rest.split()[0]) for key, _, rest in (x.partition(":") for x in lines)
             if key in ("RssAnon", "VmRSS")}  # fmt: skip
    return found["RssAnon"] * 1024, found["VmRSS"] * 1024


def cpu() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# ---------------------------------------------------------------------------- the checkpoint
def write(folder: Path, shape: str, layers: int) -> tuple[int, int]:
    """A synthetic checkpoint, a file a layer; its size and that of its largest tensor."""
    import ml_dtypes
    import numpy as np
    from safetensors.numpy import save_file

    width, inner, heads, kv_heads, vocabulary, _ = SHAPES[shape]
    head = width // heads
    block = np.random.default_rng(0).standard_normal(1 << 20).astype(ml_dtypes.bfloat16)
    layer = {
        "input_layernorm": (width,), "post_attention_layernorm": (width,),
        "self_attn.q_proj": (width, width), "self_attn.o_proj": (width, width),
        "self_attn.k_proj": (kv_heads * head, width), "self_attn.v_proj": (kv_heads * head, width),
        "mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }  # fmt: skip
    groups = [{f"model.layers.{l}.{name}.weight": s for name, s in layer.items()}
              for l in range(layers)]  # fmt: skip
    groups += [{"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,)}]
    groups += [{"lm_head.weight": (vocabulary, width)}]
    folder.mkdir(parents=True)
    places, sizes = {}, []
    for i, group in enumerate(groups):
        file = f"model-{i + 1:05}-of-{len(groups):05}.safetensors"
        arrays = {name: np.resize(block, s) for name, s in group.items()}
        save_file(arrays, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(group, file)
        sizes += [a.nbytes for a in arrays.values()]
    index = {"metadata": {"total_size": sum(sizes)}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = dict(
        architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu",
        hidden_size=width, intermediate_size=inner, num_attention_heads=heads,
        num_key_value_heads=kv_heads, num_hidden_layers=layers, vocab_size=vocabulary,
        rms_norm_eps=1e-5, rope_theta=1e4, max_position_embeddings=4096, dtype="bfloat16",
        bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return sum(sizes), max(sizes)


def same(folder: Path) -> None:
    """Every tensor of the export is, bit for bit, the one that was imported."""
    from safetensors import safe_open

    held = [
        {name: (file, name) for file in sorted((folder / part).glob("*.safetensors"))
         for name in safe_open(file, "np").offset_keys()}
        for part in ("base", "out")
    ]  # fmt: skip
    assert held[0].keys() == held[1].keys()
    for name in held[0]:
        one, other = (safe_open(h[name][0], "np").get_tensor(name) for h in held)
        assert one.tobytes() == other.tobytes(), name


if __name__ == "__main__":
    main()
