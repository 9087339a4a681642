"""Loads or saves a checkpoint in a process of its own, and says what it read and held.

python worker_weights.py '{"folder": "base", "dtype": "bfloat16"}'
"""

import dataclasses
import hashlib
import json
from pathlib import Path
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from lrl_jax.devices import mesh as meshes
from lrl_jax.hf import load, save
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train

IDS = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 64}
# 346 MB in float32; the largest tensor is 262 MB, beside which a compiler's memory is small
CFG = llama.LlamaConfig(
    vocab_size=64_000, width=1024, depth=2, mlp_width=2048, num_heads=8, num_kv_heads=8,
    head_width=128, norm_eps=1e-5, rope_theta=1e4, tie_embeddings=True, dtype="float32",
)  # fmt: skip


def spawn(**options) -> subprocess.Popen:
    """Starts `main` in a process of its own; it prints one JSON object."""
    return subprocess.Popen(
        [sys.executable, __file__, json.dumps(options)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def said(child: subprocess.Popen) -> dict:
    out, _ = child.communicate(timeout=300)
    assert child.returncode == 0
    return json.loads(out.splitlines()[-1])


def main(options: dict) -> dict:
    """Loads `folder` (and saves to `out`) on the mesh; bytes of memory and of files."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", options.get("devices", 1))
    meshes.start(
        options.get("coordinator", ""), options.get("processes", 0), options.get("process_id", 0)
    )
    cfg = dataclasses.replace(CFG, **options.get("cfg", {}))
    on = meshes.make(recipe_train.Mesh(**options.get("mesh", {})))
    placed = meshes.param_shardings(cfg, on)
    if "make" in options:
        params = {
            name: jax.device_put(np.full(leaf.shape, 0.5, np.float32), placed[name])
            for name, leaf in llama.abstract(cfg).items()
        }
        save.save(options["make"], params, cfg, IDS, "float32", 10**8)
        return {}
    jax.block_until_ready(jnp.zeros(4) + 1)  # whatever that brings into memory
    before, read = memory("VmRSS"), bytes_read()
    params = jax.block_until_ready(load.load(options["folder"], cfg, placed, options["dtype"]))
    held = sum(s.data.nbytes for w in params.values() for s in w.addressable_shards)
    found = {"held": held, "read": bytes_read() - read, "load": memory("VmHWM") - before - held}
    found["digest"] = digest(params)
    if "out" in options:
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        save.save(options["out"], params, cfg, IDS, options["dtype"], 10**8)
        found["save"] = memory("VmHWM") - before
    return found


def digest(params: llama.Params) -> dict[str, str]:
    """Of what this process holds of each parameter, by where it lies."""
    return {
        f"{name} {shard.index}": hashlib.sha256(np.asarray(shard.data).tobytes()).hexdigest()
        for name, w in params.items()
        for shard in w.addressable_shards
    }


def memory(what: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise AssertionError(what)


def bytes_read() -> int:
    """Bytes that this process has asked files for."""
    return int(Path("/proc/self/io").read_text().split()[1])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
