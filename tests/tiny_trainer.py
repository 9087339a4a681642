"""A training step of the tiny model on any mesh, its state, and batches to feed it."""

import jax
import jax.numpy as jnp
import numpy as np
import worker_train as tiny

from lrl_jax.devices import mesh as meshes
from lrl_jax.train import learn
from lrl_jax.train.step import make_step


class Trainer:
    """One phase of training; `fields` are those of a recipe's `train`."""

    def __init__(
        self, on, rules=(tiny.ALL,), new_rows=None, steps=8, bad=(), cfg=tiny.CFG,
        dtype="float32", **fields,
    ):  # fmt: skip
        self.settings = tiny.settings([tiny.stage("s", steps, rules)], **fields)
        self.stream = tiny.stream(self.settings, bad=bad)
        self.mesh = on
        new_rows = np.zeros(128, bool) if new_rows is None else new_rows
        (phase,) = learn.phases(self.settings.stages)
        self.step = make_step(cfg, phase, self.settings, on, dtype, new_rows)
        with jax.set_mesh(on):
            start = jax.tree.map(lambda w: w.astype(dtype), tiny.params(on, cfg))
            self.before = jax.device_get(start)
            self.state = self.step.begin(start, jnp.int32(0), jnp.int32(0))

    def run(self, steps):
        """Metrics of each step."""
        out = []
        for _ in range(steps):
            batch = self.stream.batch_at(8 * int(self.state["step"]))
            batch = {k: meshes.place(v, self.mesh, 8) for k, v in batch.items()}
            asked = meshes.said_by_each(self.mesh, 0)
            with jax.set_mesh(self.mesh):
                done = meshes.said_by_all(self.mesh, int(self.state["step"]))
                self.state, metrics = self.step.run(self.state, batch, asked, done)
            out.append(jax.device_get(metrics))
        return out

    def losses(self, steps):
        return [m["loss"] for m in self.run(steps)]
