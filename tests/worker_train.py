"""A tiny training run, for tests in this process and in others they start and kill.

python worker_train.py FOLDER '{"devices": 2, "steps": 8}'
"""

from collections.abc import Collection, Sequence
import dataclasses
import faulthandler
import functools
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time

import forked
import jax
import numpy as np

from lrl_jax.cli import codes
from lrl_jax.data.feed import batches
from lrl_jax.data.feed.plan import Plan, PlanStage
from lrl_jax.data.feed.stream import Prefetch
from lrl_jax.devices import mesh as meshes
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import loop
from lrl_jax.train.log import read

CFG = llama.LlamaConfig(
    vocab_size=50, width=16, depth=2, mlp_width=32, num_heads=4, num_kv_heads=4, head_width=4,
    norm_eps=0.1, rope_theta=100.0, dtype="float32",
)  # fmt: skip
FLAT = recipe_train.Schedule(peak=0.01, warmup=2, kind="constant")  # one program for any length
ALL = recipe_train.Rule(match=".*", schedule=FLAT)
LENGTH = 12


# What of `train` a step does not look at.
SILENT = {
    "stages", "save", "log_every", "max_skipped", "sample_every", "batch_size", "step_rows",
    "stall_seconds",
}  # fmt: skip


def share_steps() -> None:
    """Gives runs of this process that ask for the same step the one that is compiled already.

    JAX's own cache of programs would do it, also for child processes; but programs for several
    CPU devices, read back, run independent collectives in different orders on each, and wait for
    each other until XLA ends the process (seen on jax 0.10.2 and 0.12.0).
    """
    made, make = {}, loop.make_step

    def shared(cfg, phase, settings, on, dtype, new_rows):
        nameless = dataclasses.replace(phase, name="", start=0)
        rows, devices = new_rows.tobytes(), [device.id for device in on.devices.flat]
        said = settings.model_dump_json(exclude=SILENT)
        key = repr((cfg, nameless, settings.optimizer, rows, dtype, on, devices, said))
        if key not in made:
            made[key] = make(cfg, phase, settings, on, dtype, new_rows)
        return made[key]

    loop.make_step = shared


if __name__ != "__main__":
    share_steps()


@dataclasses.dataclass
class MemoryStream:
    """Two datasets of made-up rows: row k of a dataset is a pure function of both.

    Attributes:
      bad: global rows whose targets are out of range, which makes the loss infinite.
      slow: seconds each batch takes.
      mine: places in a batch that this process reads; None: all.
      never: the batch that begins with this row never comes.
    """

    plan: Plan
    batch_size: int
    bad: Collection[int] = ()
    slow: float = 0.0
    sequence_length: int = LENGTH
    mine: np.ndarray | None = None
    never: int = -1

    def batch_at(self, g: int, count: int | None = None) -> dict[str, np.ndarray]:
        time.sleep(self.slow if g != self.never else 3600)
        mine = np.arange(self.batch_size) if self.mine is None else self.mine
        read = g + mine[mine < (self.batch_size if count is None else count)]
        rows = [self._row(int(i), *pair) for i, *pair in zip(read, *self.plan(read), strict=True)]
        empty = {name: np.zeros_like(array) for name, array in self._row(0, 0, 0).items()}
        rows += [empty] * (len(mine) - len(read))
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _row(self, g: int, dataset: int, k: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([dataset, k])
        cut = int(rng.integers(3, LENGTH - 2))  # two documents, then two tokens of padding
        tokens = rng.integers(3, 25 * (dataset + 1), LENGTH).astype(np.int32)
        segments = np.array([1] * cut + [2] * (LENGTH - 2 - cut) + [0, 0], np.int32)
        positions = np.array([*range(cut), *range(LENGTH - 2 - cut), 0, 0], np.int32)
        inputs = np.where(positions == 0, 1, np.roll(tokens, 1)).astype(np.int32)
        targets = np.full_like(tokens, 1000) if g in self.bad else tokens
        return dict(
            decoder_input_tokens=inputs, decoder_target_tokens=targets,
            decoder_loss_weights=(segments > 0).astype(np.int32),
            decoder_segment_ids=segments, decoder_positions=positions,
        )  # fmt: skip

    def dataset_ids(self, g: int, count: int) -> np.ndarray:
        return self.plan.order(g + np.arange(count))[0]

    def prefetch(self, start_row: int, ends: Sequence[int]) -> Prefetch:
        return Prefetch(self.batch_at, batches.spans(start_row, ends, self.batch_size))


def stage(name: str, steps: int, learn=(ALL,), kor: float = 0.5) -> recipe_train.Stage:
    return recipe_train.Stage(
        name=name, steps=steps, mixture={"kor": kor, "eng": 1 - kor}, learn=learn
    )


def settings(stages=None, *, steps: int = 8, **fields) -> recipe_train.Train:
    fields = {"batch_size": 8, "log_every": 1, "tensorboard": False, **fields}
    fields["optimizer"] = recipe_train.Optimizer(weight_decay=0.1, **fields.get("optimizer", {}))
    fields["save"] = recipe_train.Save(**{"minutes": 0, **fields.get("save", {})})
    stages = stages or (stage("one", steps // 2), stage("two", steps - steps // 2, kor=0.9))
    return recipe_train.Train(stages=stages, **fields)


def stream(train: recipe_train.Train, seed: int = 3, **fields) -> MemoryStream:
    stages = tuple(
        PlanStage(s.name, s.steps * train.rows_per_step, dict(s.mixture)) for s in train.stages
    )
    return MemoryStream(Plan({"kor": 37, "eng": 23}, stages, seed), train.batch_size, **fields)


def mesh(data: int = 1, fsdp: int = 1, tensor: int = 1) -> jax.sharding.Mesh:
    devices = jax.devices()[: data * fsdp * tensor]
    return meshes.make(recipe_train.Mesh(data=data, fsdp=fsdp, tensor=tensor), devices)


@functools.cache
def _init(on: jax.sharding.Mesh, cfg: llama.LlamaConfig):
    make = functools.partial(llama.init, cfg)
    return jax.jit(make, out_shardings=meshes.param_shardings(cfg, on))


def params(on: jax.sharding.Mesh, cfg: llama.LlamaConfig = CFG) -> dict[str, jax.Array]:
    return _init(on, cfg)(jax.random.key(0))


def train(folder, train: recipe_train.Train, on: jax.sharding.Mesh, rows=None, **fields):
    """Trains the tiny model in `folder`; the state, and the metrics that were written."""
    rows = rows or stream(train)
    state = loop.train(train, CFG, lambda: params(on), on, rows, Path(folder) / "train", **fields)
    return state, read(Path(folder) / "train" / "metrics.jsonl")


def stop_at(step: int):
    """A sampler that ends the run as rudely as an exception can."""

    def sample(params, done):
        if done == step:
            raise KeyboardInterrupt
        return []

    return sample


def same(record: dict) -> dict:
    """What of a record must not depend on the clock."""
    keys = ("step", "stage", "loss", "losses", "grad_norm", "lr", "tokens", "rows", "epochs")
    return {key: record[key] for key in keys}


def damage(step: Path) -> None:
    """Flips bits all over the largest file of array data (a single one may fall between arrays)."""
    path = max(step.glob("state/ocdbt.process_*/d/*"), key=lambda path: path.stat().st_size)
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    data[::100] ^= 1
    path.write_bytes(data.tobytes())


def spawn(folder, **options) -> forked.Forked:
    """Starts `main` in a process of its own."""
    number, said = tempfile.mkstemp(prefix="said-", dir=Path(folder).parent)
    os.close(number)
    return forked.Forked("worker_train", [str(folder), json.dumps(options)], Path(said))


def ended(children: list[forked.Forked], timeout: int = 120) -> tuple[list[int], list[str]]:
    """Exit codes of processes, and what they said."""
    end, hung = time.monotonic() + timeout, set()
    for child in children:
        try:
            child.wait(max(end - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            hung.add(child)
            child.kill()
    texts = [child.said() + "\nhung" * (child in hung) for child in children]
    return [child.wait() for child in children], texts


def main(folder: str, options: dict) -> int:
    """Runs in a process of its own; exits as `lrl train` would."""
    faulthandler.dump_traceback_later(100)  # where it stands, should it hang
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", options.get("devices", 1))
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    meshes.start(
        options.get("coordinator", ""), options.get("processes", 0), options.get("process_id", 0)
    )
    devices = jax.devices()
    if options.get("woven"):  # as on a TPU, where the rows of a host are seldom neighbours
        devices = sorted(devices, key=lambda device: device.id % options["devices"])
    on = meshes.make(recipe_train.Mesh(**options.get("mesh", {})), devices)
    chosen = settings(
        steps=options.get("steps", 8),
        save=options.get("save", {}),
        stall_seconds=options.get("stall_seconds", 90),
        **options.get("train", {}),
    )
    mine = meshes.rows_here(on, chosen.batch_size)
    never = options.get("never", -1) if jax.process_index() else -1
    rows = stream(chosen, slow=options.get("slow", 0.0), mine=mine, never=never)
    try:
        train(folder, chosen, on, rows)
    except Exception as e:
        return codes.end(e, "train")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.loads(sys.argv[2])))
