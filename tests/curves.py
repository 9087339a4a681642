"""Loss curves of the tiny run of `worker_train`, on any mesh: what must not depend on it."""

import jax
import jax.numpy as jnp
import numpy as np
import worker_train as tiny

from lrl_jax.devices import mesh as meshes
from lrl_jax.devices import presets
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import learn
from lrl_jax.train.step import make_step

STEPS = 50
# 12 tokens a row: a tensor axis of 8 would not divide them, and the tiny model has 4 heads.
MESHES = {
    "data 2": dict(data=2, fsdp=1),
    "fsdp 2": dict(fsdp=2),
    "tensor 2": dict(fsdp=1, tensor=2),
    "data 2, fsdp 2": dict(data=2, fsdp=2),
    "fsdp 4": dict(fsdp=4),
    "fsdp 8": dict(fsdp=8),
    "data 2, fsdp 2, tensor 2": dict(data=2, fsdp=2, tensor=2),
    "tensor 4, sequence": dict(fsdp=1, tensor=4, sequence=True),
    "data 2, fsdp 2, tensor 2, sequence": dict(data=2, fsdp=2, tensor=2, sequence=True),
    "2 slices of fsdp 4": dict(data=2, fsdp=4, slices=2),
    "2 slices of data 2, fsdp 2": dict(data=4, fsdp=2, slices=2),
} | {
    f"auto, {chips} devices, {rows} rows": presets.preset(chips, rows, tiny.CFG, 2**34).model_dump()
    for chips, rows in ((1, 8), (2, 8), (4, 8), (8, 8), (8, 4), (8, 2))
}  # fmt: skip


def curve(
    shape: recipe_train.Mesh, steps: int = STEPS, cfg: llama.LlamaConfig = tiny.CFG, **fields
) -> np.ndarray:
    """Losses of `steps` steps in float32; `fields` are of `worker_train.settings`."""
    settings = tiny.settings([tiny.stage("s", steps)], mesh=shape, **fields)
    count = shape.data * shape.fsdp * shape.tensor
    mesh = meshes.make(shape, jax.devices()[:count])
    mine = meshes.rows_here(mesh, settings.batch_size)
    stream = tiny.stream(settings, mine=mine)
    (phase,) = learn.phases(settings.stages)
    new_rows = np.zeros(cfg.padded_vocab_size, bool)
    step = make_step(cfg, phase, settings, mesh, "float32", new_rows)
    out = []
    with jax.set_mesh(mesh):
        state = step.begin(tiny.params(mesh, cfg), jnp.int32(0), jnp.int32(0))
        for done in range(steps):
            rows = stream.batch_at(done * settings.batch_size)
            batch = {k: meshes.place(v, mesh, settings.batch_size) for k, v in rows.items()}
            asked = meshes.said_by_each(mesh, 0), meshes.said_by_all(mesh, done)
            state, metrics = step.run(state, batch, *asked)
            out.append(metrics["loss"])
    return np.array(jax.device_get(out))
